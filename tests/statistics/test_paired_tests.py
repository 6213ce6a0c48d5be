"""Paired tests and their sizes: beside scipy and statsmodels, and worked by hand."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from scipy import stats

from medrobust.statistics.paired_tests import holm, paired_test, rank_biserial, signed_ranks
from medrobust.statistics.resampling import clusters_of

ALONE = pl.Series([None] * 40, dtype=pl.String)


def test_wilcoxon_is_scipys_on_the_differences_that_are_none_without_zeros():
    rng = np.random.default_rng(0)
    differences = rng.normal(0.3, 1, 25)
    assert signed_ranks(differences) == pytest.approx(stats.wilcoxon(differences).pvalue)
    with_zeros = np.concatenate([differences, np.zeros(5)])
    assert signed_ranks(with_zeros) == signed_ranks(differences)
    # scipy falls back on the normal distribution there
    assert signed_ranks(with_zeros) == pytest.approx(stats.wilcoxon(with_zeros).pvalue, abs=0.02)
    assert signed_ranks(np.zeros(8)) == 1.0
    # six of one sign: two of the 2⁶ ways to sign them are as far out
    assert signed_ranks(np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])) == pytest.approx(2 / 2**6)


def test_holm_on_paper_and_beside_statsmodels():
    # sorted .01 .02 .03 .04, times 4 3 2 1: .04 .06 .06 .04, never falling: .04 .06 .06 .06
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []
    multitest = pytest.importorskip("statsmodels.stats.multitest")
    p_values = np.random.default_rng(1).uniform(0, 0.2, 30)
    assert holm(p_values.tolist()) == pytest.approx(multitest.multipletests(p_values, method="holm")[1])


def test_rank_biserial_on_paper():
    # sizes 1 2 2 4, ranks 1 2.5 2.5 4, of which + has 1 and 4: (5 − 5)/10
    once = np.ones((1, 4))
    assert rank_biserial(np.array([1.0, -2, -2, 4]), once) == pytest.approx([0.0])
    assert rank_biserial(np.array([0.0, 1, 2, 3]), once) == pytest.approx([1.0]), "zeros have no rank"
    assert np.isnan(rank_biserial(np.zeros(4), once)).all()


def test_rank_biserial_of_a_resample_is_that_of_the_images_drawn():
    rng = np.random.default_rng(0)
    differences = rng.normal(0.2, 1, 20).round(1)  # with ties
    weights = rng.integers(0, 4, (30, 20)).astype(float)
    for weight, found in zip(weights, rank_biserial(differences, weights), strict=True):
        drawn = np.repeat(differences, weight.astype(int))
        drawn = drawn[drawn != 0]
        ranks = stats.rankdata(np.abs(drawn))
        assert found == pytest.approx((ranks * np.sign(drawn)).sum() / ranks.sum())


def test_sizes_and_tests_of_images():
    differences = np.random.default_rng(3).normal(0.5, 1, 40)
    found = paired_test(differences, clusters_of(ALONE))
    assert found.difference == pytest.approx(differences.mean())
    assert found.standardised == pytest.approx(differences.mean() / differences.std(ddof=1))
    assert found.wilcoxon == pytest.approx(stats.wilcoxon(differences).pvalue)
    assert found.flips == pytest.approx(stats.ttest_1samp(differences, 0).pvalue, abs=0.02)
    for value, (low, high) in (
        (found.difference, found.interval),
        (found.rank_biserial, found.rank_biserial_interval),
        (found.standardised, found.standardised_interval),
    ):
        assert low < value < high


def test_images_of_a_patient_count_together():
    differences = np.repeat(np.random.default_rng(0).normal(0.4, 1, 10), 4)
    alone = paired_test(differences, clusters_of(ALONE))
    together = paired_test(differences, clusters_of(pl.Series([f"p{place // 4}" for place in range(40)])))
    assert together.wilcoxon == pytest.approx(stats.wilcoxon(differences[::4]).pvalue)
    assert together.wilcoxon > alone.wilcoxon
    assert together.interval[0] < alone.interval[0]


def test_differences_that_are_all_alike_have_no_interval():
    found = paired_test(np.full(12, 0.25), clusters_of(ALONE[:12]))
    assert (found.difference, found.interval, found.standardised) == (0.25, (None, None), None)
    assert found.rank_biserial == 1.0
    none = paired_test(np.zeros(12), clusters_of(ALONE[:12]))
    assert (none.wilcoxon, none.flips, none.rank_biserial) == (1.0, 1.0, None)


def test_one_image():
    found = paired_test(np.array([0.3]), clusters_of(ALONE[:1]))
    assert (found.wilcoxon, found.flips, found.interval) == (1.0, 1.0, (None, None))
