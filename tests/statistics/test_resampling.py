import numpy as np
import polars as pl
import pytest
from scipy import stats

from medrobust.statistics import resampling
from medrobust.statistics.resampling import (
    bootstrap,
    clusters_of,
    multiplicities,
    percentile_interval,
    unanimous_interval,
)
from medrobust.statistics.sums import mean


def test_clusters_are_patients():
    clusters = clusters_of(pl.Series(["b", "a", "b"]))
    assert clusters.codes.tolist() == [0, 1, 0]
    assert (clusters.count, clusters.kind) == (2, "patients")


def test_an_image_without_a_patient_is_its_own():
    clusters = clusters_of(pl.Series(["a", None, "a", None]))
    assert clusters.codes.tolist() == [0, 1, 0, 2]
    assert (clusters.count, clusters.kind) == (3, "patients")


def test_images_when_no_patient_is_known():
    clusters = clusters_of(pl.Series([None, None], dtype=pl.String))
    assert (clusters.codes.tolist(), clusters.kind) == ([0, 1], "images")


def test_images_of_one_patient():
    clusters = clusters_of(pl.Series(["a", "a", "a"]))
    assert (clusters.count, clusters.kind) == (3, "images of one patient")


def test_a_resample_draws_as_many_clusters_as_there_are():
    weights = np.concatenate(list(multiplicities(7, 50, seed=0)))
    assert weights.shape == (50, 7)
    assert (weights.sum(1) == 7).all()


def test_chunks_keep_the_memory_small(monkeypatch):
    monkeypatch.setattr(resampling, "_CHUNK", 70)
    chunks = list(multiplicities(7, 25, seed=0))
    assert [len(chunk) for chunk in chunks] == [10, 10, 5]


def test_agrees_with_scipy_on_a_plain_mean():
    values = np.random.default_rng(3).gamma(2.0, size=80)
    drawn = bootstrap([mean(values, np.arange(80), 80)], 80, 20_000, seed=0)[:, 0]
    ours = percentile_interval(drawn, 0.95)
    theirs = stats.bootstrap(
        (values,), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(1)
    ).confidence_interval
    # the Monte-Carlo error of a 2.5 % quantile of 20 000 draws is about 0.02 standard errors
    tolerance = 0.1 * values.std() / np.sqrt(80)
    assert ours == pytest.approx((theirs.low, theirs.high), abs=tolerance)


RESAMPLES = 1000  # the default of `summarise`; 300 would cost the coverage almost a point


def coverage(patients: int, repeats: int, by_patient: bool) -> tuple[float, float]:
    """Share of 95 % intervals that hold the true mean: ours, and the normal one with the same standard error.

    Five alike images a patient. The normal interval (no correction for few patients) is what a percentile
    interval tends to, so what both miss is the method's and what ours misses besides would be a fault.
    """
    rng = np.random.default_rng(0)
    patient = np.repeat(np.arange(patients), 5)
    codes = patient if by_patient else np.arange(len(patient))
    ours = normal = 0
    for repeat in range(repeats):
        values = rng.normal(0, 1, patients)[patient] + rng.normal(0, 0.5, len(patient))
        drawn = bootstrap([mean(values, codes, codes[-1] + 1)], codes[-1] + 1, RESAMPLES, seed=repeat)[:, 0]
        low, high = percentile_interval(drawn, 0.95)
        ours += low <= 0 <= high
        means = values.reshape(patients, 5).mean(1)
        normal += abs(means.mean()) <= 1.96 * means.std() / np.sqrt(patients)
    return ours / repeats, normal / repeats


def test_coverage_of_intervals_by_patient():
    ours, _ = coverage(100, 2000, by_patient=True)  # its standard error is half a point
    assert 0.93 <= ours <= 0.97


def test_with_few_patients_coverage_is_the_methods():
    ours, normal = coverage(30, 2000, by_patient=True)
    assert ours == pytest.approx(normal, abs=0.015)
    assert 0.90 <= ours <= 0.95  # short of 0.95: the report warns


def test_intervals_by_image_would_be_false():
    ours, _ = coverage(40, 300, by_patient=False)
    assert ours < 0.75


def test_undefined_resamples_are_left_out():
    drawn = np.array([np.nan, 0.0, 1.0, 2.0])
    assert percentile_interval(drawn, 0.5) == (0.5, 1.5)


def test_no_interval_when_most_resamples_are_undefined():
    assert percentile_interval(np.array([np.nan, np.nan, 1.0]), 0.95) is None


def test_a_unanimous_share_has_the_rule_of_three():
    low, high = unanimous_interval(0.0, 20, 0.95)
    assert low == 0
    assert high == pytest.approx(1 - 0.025 ** (1 / 20))
    assert unanimous_interval(1.0, 20, 0.95) == pytest.approx((1 - high, 1))
