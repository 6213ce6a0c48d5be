"""Is one attack stronger than another? Paired: the same images, the same resamples.

A percentile interval alone claims too much of few images: without any difference it excludes 0 in 48 % of the cases
with two images, 20 % with four, 9 % with eight (simulated). So the differences are tested besides, by flipping the
signs of whole clusters (Fisher, The Design of Experiments, 1935; scipy's `permutation_test`): if the attacks are alike,
either of them might as well have been the other. That holds at any size, and is exact up to 13 differing clusters.
"""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import stats

from medrobust.errors import InputError, unknown
from medrobust.evaluation.records import RunInfo
from medrobust.statistics.conditions import images_of
from medrobust.statistics.intervals import bca_interval
from medrobust.statistics.metrics import image_values
from medrobust.statistics.resampling import Clusters, bootstrap, clusters_of
from medrobust.statistics.summary import check_resampling
from medrobust.statistics.sums import mean
from medrobust.statistics.task_traits import TASK_TRAITS

COMPARISON_SCHEMA: dict[str, pl.DataType | type[pl.DataType]] = {
    "part": pl.String,
    "first": pl.String,
    "second": pl.String,
    "norm": pl.String,
    "eps": pl.Float64,
    "metric": pl.String,
    "difference": pl.Float64,  # of the metric, under the first less under the second
    "low": pl.Float64,  # null where no interval can be given
    "high": pl.Float64,
    "p_value": pl.Float64,  # two-sided, of no difference between the attacks
    "n": pl.Int64,
    "clusters": pl.Int64,  # patients among them, or images
    "resampled": pl.String,  # "patients", "images" or "images of one patient"
    "confidence": pl.Float64,
}
SIGNIFICANCE = 0.05
LEAST_CLUSTERS = 6  # with five, all of one sign, the p-value is 2/2⁵ = 0.0625: nothing can be shown

_FLIPS = 9999
_FLIPS_PER_TEST = 160  # of a family: their least p-value, 2/160 a test, is a quarter of the significance once corrected
_FLIPPED = 20_000_000  # signs in all: fewer flips of thousands of clusters, which take a second so
_BATCH = 1_000_000  # signs at a time


def compare_attacks(
    records: pl.DataFrame,
    info: RunInfo,
    part: str,
    first: str,
    second: str,
    *,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> pl.DataFrame:
    """What judges an image, under `first` less under `second`, at every budget that both were run at.

    That is the main metric, but for detection the F1 of the image: mAP is of all images together.

    Negative: the first attack is the stronger one. The interval is the BCa interval of the cluster
    bootstrap of the paired differences; there is none where they do not vary. The p-value is that of the sign-flip
    test over clusters. Neither is corrected for the number of budgets. Call an attack stronger when there are at
    least `LEAST_CLUSTERS`, the p-value is below `SIGNIFICANCE` and no interval includes 0.

    Returns:
        One row per norm and eps, ascending; columns as `COMPARISON_SCHEMA`.

    Raises:
        InputError: if the run has no such part, or `resamples` or `confidence` is out of range.
    """
    check_resampling(resamples, confidence)
    if part not in info.parts:
        raise unknown("part", part, info.parts)
    whole = info.parts[part]
    of_part = records.filter(pl.col("part") == part)
    one, other = (of_part.filter(pl.col("attack") == label) for label in (first, second))
    if one.is_empty() or other.is_empty():
        raise InputError(f"{part}: the records hold no attack {(first if one.is_empty() else second)!r}")
    budgets = one.select("norm", "eps").unique().join(other.select("norm", "eps").unique(), ["norm", "eps"])
    rows = []
    for norm, eps in budgets.sort("norm", "eps").iter_rows():
        at = (pl.col("norm") == norm) & (pl.col("eps") == eps)
        here, there = (images_of(frame.filter(at)) for frame in (one, other))
        here, there = here.join(there, "index", "semi"), there.join(here, "index", "semi")
        difference = image_values(here, whole, "after") - image_values(there, whole, "after")
        measured = np.isfinite(difference)
        clusters = clusters_of(here["patient"].filter(pl.Series(measured)))
        difference = difference[measured]
        statistic = mean(difference, clusters.codes, clusters.count)
        interval = None
        if clusters.count > 1:
            [drawn] = bootstrap([statistic], clusters.count, resamples, seed)
            interval = bca_interval(drawn, clusters.count, confidence)
        low, high = interval or (None, None)
        value = statistic.value if len(difference) else None
        figures = (TASK_TRAITS[whole.task].image_metric, value, low, high, sign_flip_test(difference, clusters, seed))
        basis = (len(difference), clusters.count, clusters.kind, confidence)
        rows.append((part, first, second, norm, eps, *figures, *basis))
    return pl.DataFrame(rows, schema=COMPARISON_SCHEMA, orient="row")


def sign_flip_test(difference: NDArray[np.float64], clusters: Clusters, seed: int, family: int = 1) -> float:
    """The two-sided p-value of paired differences `(n,)` whose mean is as far from 0 as it is.

    The signs of all images of a cluster are flipped together, in every way where there are at most 9999, else in
    random ones. Clusters count by their sum, so that what is tested is the mean over images. `family` is the number of
    tests that the p-value is to be corrected for: of a large one more flips are made, so that it can show something.
    """
    sums = np.bincount(clusters.codes, weights=difference, minlength=clusters.count)
    differing = sums[sums != 0]  # 0 is the same with either sign
    if len(differing) < 2:
        return 1.0  # one alone is as likely on either side
    afforded = max(999, _FLIPS_PER_TEST // 2 * family, _FLIPPED // len(differing))
    result = stats.permutation_test(
        (differing,),
        np.sum,
        permutation_type="samples",
        vectorized=True,
        n_resamples=min(max(_FLIPS, _FLIPS_PER_TEST * family), afforded),
        batch=max(1, _BATCH // len(differing)),
        random_state=np.random.default_rng(seed),
    )
    return float(result.pvalue)
