"""Two attacks on the same images: is one of them higher, and by how much? Tests without a distribution, and sizes.

Two tests that answer slightly different questions: Wilcoxon's signed ranks (Biometrics Bulletin 1, 1945) of the
clusters' mean differences asks for a shift of most of them, sign flips of the clusters' sums for a shift of the mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from medrobust.statistics.comparison import sign_flip_test
from medrobust.statistics.resampling import Clusters, multiplicities, percentile_interval

Values = NDArray[np.float64]
Interval = tuple[float | None, float | None]


@dataclass(frozen=True)
class PairedTest:
    """What paired differences `(n,)` show.

    Attributes:
        difference: their mean.
        rank_biserial: (R₊ − R₋)/(R₊ + R₋) of the signed ranks (Kerby, Comprehensive Psychology 3, 2014): from −1, all
            below 0, to 1, all above. None where all are 0.
        standardised: their mean over their standard deviation, d_z. None where they do not vary.
        wilcoxon, flips: two-sided p-values, not corrected.
    """

    difference: float
    interval: Interval
    wilcoxon: float
    flips: float
    rank_biserial: float | None
    rank_biserial_interval: Interval
    standardised: float | None
    standardised_interval: Interval


def paired_test(
    difference: Values,
    clusters: Clusters,
    *,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
    family: int = 1,
) -> PairedTest:
    """Test paired differences `(n,)`, at least one and all finite, of images in clusters; intervals are percentiles.

    `family` is the number of tests that the p-values are to be corrected for.
    """
    columns = np.stack([np.ones_like(difference), difference, difference**2], 1)
    sums: Values = np.stack(
        [
            np.bincount(clusters.codes, weights=column, minlength=clusters.count).astype(np.float64)
            for column in columns.T
        ],
        1,
    )
    means = sums[:, 1] / sums[:, 0]
    drawn = np.concatenate(list(multiplicities(clusters.count, resamples, seed))).astype(np.float64)
    weights = np.concatenate([np.ones((1, clusters.count)), drawn])  # the first is the sample as it is
    totals: Values = weights @ sums
    figures = (totals[:, 1] / totals[:, 0], rank_biserial(means, weights), _over_deviation(totals))
    told: list[float | None] = [float(one[0]) if np.isfinite(one[0]) else None for one in figures]
    intervals = [percentile_interval(one[1:], confidence) or (None, None) for one in figures]
    return PairedTest(
        difference=float(difference.mean()),
        interval=intervals[0],
        wilcoxon=signed_ranks(means),
        flips=sign_flip_test(difference, clusters, seed, family),
        rank_biserial=told[1],
        rank_biserial_interval=intervals[1],
        standardised=told[2],
        standardised_interval=intervals[2],
    )


def rank_biserial(differences: Values, weights: Values) -> Values:
    """(R₊ − R₋)/(R₊ + R₋) of differences `(clusters,)` that count `weights` `(resamples, clusters)` times each."""
    differing = differences != 0
    signs, times = differences[differing] > 0, weights[:, differing].T
    sizes, group = np.unique(np.abs(differences[differing]), return_inverse=True)
    counts, above = np.zeros((2, len(sizes), len(weights)))
    np.add.at(counts, group, times)
    np.add.at(above, group, times * signs[:, None])
    ranks = counts.cumsum(0) - counts + (counts + 1) / 2  # equal sizes share their mean rank
    with np.errstate(divide="ignore", invalid="ignore"):
        total = (ranks * counts).sum(0)
        return np.asarray(2 * (ranks * above).sum(0) / np.where(total > 0, total, np.nan) - 1)


def signed_ranks(differences: Values) -> float:
    """The two-sided p-value of Wilcoxon's signed-rank test; differences of 0 are left out, as he did."""
    differing = differences[differences != 0]
    return float(stats.wilcoxon(differing).pvalue) if len(differing) > 1 else 1.0


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values corrected for their number by Holm's step-down (Scandinavian Journal of Statistics 6, 1979)."""
    values = np.asarray(p_values, float)
    order = np.argsort(values, kind="stable")
    stepped = np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1))
    corrected = np.empty_like(values)
    corrected[order] = np.minimum(stepped, 1.0)
    return [float(value) for value in corrected]


def _over_deviation(totals: Values) -> Values:
    """Mean over sample standard deviation from `(resamples, 3)` numbers, sums and sums of squares."""
    n, total, squares = totals.T
    with np.errstate(divide="ignore", invalid="ignore"):
        variance = (squares - total * total / n) / (n - 1)
        # what rounding leaves of a variance that is none
        return np.asarray(total / n / np.sqrt(np.where(variance > 1e-12 * squares / n, variance, np.nan)))
