import numpy as np
import polars as pl
import pytest

from medrobust.statistics import resampling
from medrobust.statistics.resampling import bootstrap, clusters_of, combined, multiplicities
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


def resampled_mean(values, codes=None, resamples=50):
    codes = np.arange(len(values)) if codes is None else codes
    count = int(codes.max()) + 1
    [found] = bootstrap([mean(np.asarray(values, float), codes, count)], count, resamples, seed=0)
    return found


def test_value_and_jackknife_by_hand():
    found = resampled_mean([1, 2, 6])
    assert found.value == 3
    assert found.left_out == pytest.approx([4, 3.5, 1.5])


def test_a_patient_is_left_out_with_all_images():
    found = resampled_mean([1, 2, 6, 7], np.array([0, 1, 0, 2]))
    assert found.left_out == pytest.approx([4.5, 14 / 3, 3])


def test_many_clusters_are_left_out_in_groups():
    values = np.random.default_rng(0).exponential(size=1700)
    found = resampled_mean(values)
    assert found.left_out.shape == (500,)
    # the mean over groups is the mean, and they differ as the sums of three or four images do
    assert found.left_out.mean() == pytest.approx(values.mean(), abs=1e-4)
    assert found.left_out.std() * 1700 == pytest.approx(np.sqrt(3.4) * values.std(), rel=0.15)


def test_a_figure_of_figures_is_on_the_same_resamples():
    first, second = (resampled_mean(values) for values in ([1, 2, 6], [2, 2, 2]))
    least = combined(lambda values: values.min(0), [first, second])
    assert least.value == 2
    assert least.draws == pytest.approx(np.minimum(first.draws, 2))
    assert least.left_out == pytest.approx([2, 2, 1.5])
