"""From a figure and its resamples to an interval, and which kind of interval a figure has.

A share of independent images has Wilson's interval (J. Am. Statist. Assoc. 22, 1927), one that is 0 or 1 throughout the
exact one of Clopper and Pearson (Biometrika 26, 1934). Every other figure has the bootstrap's BCa interval, corrected
for bias and skewness (Efron, J. Am. Statist. Assoc. 82, 1987), with its tails widened to those of Student's t
(Hesterberg, Am. Statistician 69, 2015, section 5.3), since a bootstrap of n clusters varies too little by (n − 1)/n and
does not know that it estimated the spread. `docs/statistics.md` has the simulated coverage that decided this.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.special import ndtr, ndtri

from medrobust.statistics.resampling import ROUNDING, Resampled, between

BCA, WILSON, EXACT = "BCa bootstrap", "Wilson", "exact"

Interval = tuple[float, float]


def bca_interval(figure: Resampled, clusters: int, confidence: float) -> Interval | None:
    """The BCa interval of a figure of so many clusters; resamples in which it is undefined are left out.

    None if it is undefined in most resamples, or if the interval would have no width: resampling cannot doubt a figure
    that never varies in the sample, which is no reason to call it certain.
    """
    defined = figure.draws[np.isfinite(figure.draws)]
    if clusters < 2 or len(defined) < 2 or len(defined) * 2 < len(figure.draws) or not np.isfinite(figure.value):
        return None
    tail = (1 - confidence) / 2
    reach = stats.t.isf(tail, clusters - 1) * np.sqrt(clusters / (clusters - 1))
    bias, skewness = _bias(defined, figure.value), _skewness(figure.left_out)
    shifted = bias + np.array([-reach, reach])
    bent = 1 - skewness * shifted
    ends = ndtr(bias + np.where(bent > 0, shifted / np.where(bent > 0, bent, 1), np.sign(shifted) * np.inf))
    return between(defined, *ends)


def wilson_interval(share: float, images: int, confidence: float) -> Interval:
    """Wilson's score interval of a share of independent images, without continuity correction."""
    return _proportion(round(share * images), images, confidence, "wilson")


def unanimous_interval(share: float, clusters: int, confidence: float) -> Interval:
    """The exact (Clopper-Pearson) interval of a share that is 0 or 1 in all clusters.

    Resampling cannot doubt a share that never varies. Clusters, not images, are counted as trials, which is the
    cautious choice, and the interval is the one that never covers less than it says: of all figures, "none of them" is
    the one that is quoted.
    """
    return _proportion(round(share) * clusters, clusters, confidence, "exact")


def _proportion(hits: int, trials: int, confidence: float, method: str) -> Interval:
    found = stats.binomtest(hits, trials).proportion_ci(confidence, method=method)
    return float(found.low), float(found.high)


def _bias(draws: NDArray[np.float64], value: float) -> float:
    """z₀: how far the value is from the median of the resamples, in standard deviations; ties count half."""
    near = ROUNDING * abs(value)
    below = (np.count_nonzero(draws < value - near) + np.count_nonzero(draws <= value + near)) / 2
    return float(ndtri(np.clip(below / len(draws), 0.5 / len(draws), 1 - 0.5 / len(draws))))


def _skewness(left_out: NDArray[np.float64]) -> float:
    """The acceleration a, from the figure with each group of clusters left out."""
    defined = left_out[np.isfinite(left_out)]
    if len(defined) < 2:
        return 0.0
    influence = defined.mean() - defined
    spread = float((influence**2).sum())
    return float((influence**3).sum() / (6 * spread**1.5)) if spread > 0 else 0.0
