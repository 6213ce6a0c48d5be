"""How many patients an interval needs: by formula, and whether it then has that width."""

from __future__ import annotations

import math

import numpy as np
import polars as pl
import pytest
from scipy import stats
from synthetic_run import answer_row, classifier_records, frame, part_info, run_info, segmenter_records

from medrobust.errors import InputError
from medrobust.report.sample_size import size_sentences
from medrobust.statistics import summarise
from medrobust.statistics.sample_size import SAMPLE_SIZE_SCHEMA, cluster_variance, sample_size

INFO = run_info({"p": part_info("classification", ["no", "yes"])})


def records_of(right: np.ndarray, patient: np.ndarray | None = None) -> pl.DataFrame:
    rows = [
        answer_row(1, 1, int(good), index=index, patient=None if patient is None else f"p{patient[index]}")
        for index, good in enumerate(right)
    ]
    return frame(rows)


def line(table: pl.DataFrame, attack: str = "pgd", metric: str = "accuracy") -> dict:
    return table.filter((pl.col("attack") == attack) & (pl.col("metric") == metric)).row(0, named=True)


def test_a_proportion_of_independent_images_by_the_usual_formula():
    """N = z²·p·(1 − p)/h², as statsmodels' `samplesize_confint_proportion`; with n − 1 in the variance."""
    right = np.arange(200) < 140
    found = line(sample_size(records_of(right), INFO))
    usual = stats.norm.ppf(0.975) ** 2 * 0.7 * 0.3 / 0.02**2
    assert found["needed_clusters"] == found["needed_images"] == math.ceil(usual * 200 / 199)
    assert found["design_effect"] == pytest.approx(1)
    assert found["half_width"] == pytest.approx(stats.norm.ppf(0.975) * math.sqrt(0.7 * 0.3 / 199))
    assert found["value"] == 0.7


def test_patients_whose_images_are_alike_count_once():
    """Five images each that are all right or all wrong: the design effect is five (but for the degrees of freedom)."""
    patient = np.repeat(np.arange(40), 5)
    right = patient % 4 > 0
    found = line(sample_size(records_of(right, patient), INFO))
    assert found["design_effect"] == pytest.approx(5 * (40 / 39) / (200 / 199))
    variance = 0.75 * 0.25 / 39
    assert found["needed_clusters"] == math.ceil(40 * 1.959964**2 * variance / 0.02**2)
    assert found["needed_images"] == 5 * found["needed_clusters"]


def test_that_many_patients_give_that_width():
    """Patients of unlike images: of as many as are told for ± 0.05, the means lie within ± 0.05 in 95 %."""
    rng = np.random.default_rng(4)

    def drawn(count: int) -> tuple[np.ndarray, np.ndarray]:
        images = rng.integers(1, 6, count)
        patient = np.repeat(np.arange(count), images)
        return (rng.random(len(patient)) < rng.beta(2, 1, count)[patient]), patient

    needed = line(sample_size(records_of(*drawn(3000)), INFO, half_width=0.05))["needed_clusters"]
    means = np.array([drawn(needed)[0].mean() for _ in range(1500)])
    # E(images · share)/E(images) of Beta(2, 1) is 2/3
    assert 0.93 <= (np.abs(means - 2 / 3) <= 0.05).mean() <= 0.97


def test_it_agrees_with_the_bootstrap():
    records = classifier_records(images=600, patients=150)
    info = run_info({"grades": part_info("ordinal", "abcde")})
    found = line(sample_size(records, info).filter(pl.col("eps") == 1 / 255))
    row = summarise(records, info).filter(
        (pl.col("attack") == "pgd") & (pl.col("eps") == 1 / 255) & (pl.col("metric") == "accuracy")
    )
    assert found["half_width"] == pytest.approx((row["high"][0] - row["low"][0]) / 2, rel=0.1)


def test_a_paired_difference_needs_fewer():
    records = segmenter_records(images=80)
    info = run_info({"tissue": part_info("segmentation", "abcd")})
    table = sample_size(records, info, half_width=0.01)
    assert table.schema == SAMPLE_SIZE_SCHEMA
    at = table.filter(pl.col("eps") == 1 / 255)
    assert line(at, "pgd", "drop of dice")["needed_images"] < line(at, "pgd", "dice")["needed_images"]
    assert table.filter((pl.col("attack") == "clean") & pl.col("metric").str.starts_with("drop")).is_empty()


@pytest.mark.parametrize("right", [0, 1])
def test_of_a_share_of_0_or_1_the_exact_interval_tells(right):
    """Of 30 alike the exact interval is 1 − 0.025^(1/30) wide; 91 are needed for 0.04, 90 are too few."""
    found = line(sample_size(records_of(np.full(30, right, bool)), INFO))
    exact = [stats.binomtest(n * right, n).proportion_ci(method="exact") for n in (30, 90, 91)]
    widths = [one.high - one.low for one in exact]
    assert (found["value"], found["design_effect"]) == (right, None)
    assert found["half_width"] == pytest.approx(widths[0] / 2)
    assert (found["needed_clusters"], found["needed_images"]) == (91, 91)
    assert widths[1] > 0.04 > widths[2]
    by_patient = line(sample_size(records_of(np.full(30, right, bool), np.arange(30) // 3), INFO))
    assert (by_patient["needed_clusters"], by_patient["needed_images"]) == (91, 273)


def test_its_sentence_tells_what_is_assumed():
    told, *_ = size_sentences(sample_size(records_of(np.ones(30, bool)), INFO), "p", INFO.parts["p"])
    assert "± 2 would take about 91 images, if all of them were answered alike again (exact interval" in told


def test_what_does_not_vary_tells_nothing():
    assert cluster_variance(np.array([0.5]), np.array([0])) is None
    assert cluster_variance(np.array([]), np.array([], int)) is None


@pytest.mark.parametrize(
    ("options", "words"), [({"half_width": 0}, "half_width must"), ({"confidence": 1}, "confidence")]
)
def test_options_out_of_range(options, words):
    with pytest.raises(InputError, match=words):
        sample_size(records_of(np.ones(3)), INFO, **options)
