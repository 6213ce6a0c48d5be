"""How small a change is enough: the share of images that still hold, against the size of the change.

Of an image that was answered right, the smallest change that fools it is known from above: attacks that look for it
tell its size, others the smallest budget at which one of them fooled it. Where budgets alone tell, it is known from
below as well, as far as the attacks can be trusted: the image held at the next smaller budget. An image that nothing
fooled is right-censored: all that is known is that it held up to the largest size that was tried.

As every image was tried at every budget, none is censored before the last size, and Kaplan and Meier's estimate (J. Am.
Statist. Assoc. 53, 1958) is a plain share at each size. So its band is made of the intervals that a share has, by
patient where patients are known, one size at a time; the interval of the median is where the band crosses one half
(Brookmeyer and Crowley, Biometrics 38, 1982).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import stats

from medrobust.evaluation.records import PartInfo
from medrobust.statistics.conditions import images_of
from medrobust.statistics.figure import Figure
from medrobust.statistics.metric import floats
from medrobust.statistics.metrics import image_values
from medrobust.statistics.resampling import bootstrap, clusters_of
from medrobust.statistics.summary import RESAMPLES
from medrobust.statistics.sums import mean
from medrobust.statistics.task_traits import TASK_TRAITS

_POINTS = 200  # of a curve: with more sizes, as many of them

Sizes = NDArray[np.float64]


@dataclass(frozen=True)
class Brackets:
    """Of each image answered right, what is known of its smallest change.

    Attributes:
        lower: `(n,)` the largest size at which it held, 0 where none was tried.
        upper: `(n,)` the smallest at which it fell, +inf where none was found.
        budgets: `(k,)` that were tried, ascending from 0.
        searched: whether an attack looked for the smallest change, so that `upper` lies between the budgets.
        patient: `(n,)` of each image.
    """

    lower: Sizes
    upper: Sizes
    budgets: Sizes
    searched: bool
    patient: pl.Series


@dataclass(frozen=True)
class Holding:
    """The curve of one norm or family.

    Attributes:
        norm: which.
        sizes: `(k,)` ascending, in the unit of eps: where images fell.
        share: `(k,)` share of the images that hold a change of that size (and fall at a larger one, or at none found).
        low, high: `(k,)` of the band; NaN where no interval can be given.
        largest: up to which size images were tried.
        searched: whether an attack looked for the smallest change of each image; else sizes are those of the budgets.
        median: the size at which half of the images fall, +inf where more than half hold; with budgets alone it lies
            between `median_from` and this.
        median_from: the largest size that half of the images are known to hold.
        median_low, median_high: its interval, which with budgets alone begins at the one before; +inf where it has no
            end, None where none can be given.
        n, clusters, resampled, confidence: as in the summary.
    """

    norm: str
    sizes: Sizes
    share: Sizes
    low: Sizes
    high: Sizes
    largest: float
    searched: bool
    median: float
    median_from: float
    median_low: float | None
    median_high: float | None
    n: int
    clusters: int
    resampled: str
    confidence: float


def brackets(records: pl.DataFrame, part: PartInfo, norm: str) -> Brackets:
    """What the records of a part tell of the smallest change of each image, over all attacks of a norm."""
    rows = records.filter(norm=norm)
    images = images_of(rows)
    judged = image_values(images, part, "before") if TASK_TRAITS[part.task].is_share else floats(images, "right_before")
    right = images.filter(pl.Series(judged == 1))
    worst = rows.group_by("index").agg(
        fell=pl.col("eps").filter(~pl.col("right_after")).min(),
        found=pl.col("smallest_eps").fill_nan(None).min(),
    )
    known = right.select("index", "patient").join(worst, "index", "left", maintain_order="left")
    fell, found = (floats(known.with_columns(pl.col(name).fill_null(np.inf)), name) for name in ("fell", "found"))
    upper = np.minimum(fell, found)
    budgets = np.array([0.0, *sorted(set(rows["eps"]))])
    lower = budgets[np.maximum(np.searchsorted(budgets, upper, "left") - 1, 0)]
    return Brackets(lower, upper, budgets, rows["smallest_eps"].null_count() < len(rows), known["patient"])


def holding(
    records: pl.DataFrame,
    part: PartInfo,
    norm: str,
    *,
    resamples: int = RESAMPLES,
    confidence: float = 0.95,
    seed: int = 0,
) -> Holding | None:
    """The curve of one part (`records` are its rows), or None where no image was answered right."""
    known = brackets(records, part, norm)
    n = len(known.upper)
    if n == 0:
        return None
    fallen = known.upper[np.isfinite(known.upper)]
    largest = float(max([*fallen, records.filter(norm=norm)["eps"].max() or 0.0]))
    curve = stats.ecdf(stats.CensoredData(fallen, right=np.full(n - len(fallen), largest))).sf
    sizes = _thinned(np.unique(np.append(fallen, largest)))
    share = np.asarray(curve.evaluate(sizes), np.float64)
    clusters = clusters_of(known.patient)
    held = [mean((known.upper > size).astype(np.float64), clusters.codes, clusters.count) for size in sizes]
    low, high = np.full((2, len(sizes)), np.nan)
    for place, drawn in enumerate(bootstrap(held, clusters.count, resamples, seed)):
        figure = Figure("", (norm, norm, 0.0), drawn.value, n, clusters.count, drawn, is_share=True, is_one_share=True)
        if (found := figure.interval(confidence)) is not None:
            low[place], high[place] = found[0]
    doubted = bool(np.isfinite(low).any())
    return Holding(
        norm=norm,
        sizes=sizes,
        share=share,
        low=low,
        high=high,
        largest=largest,
        searched=known.searched,
        median=_half(sizes, share),
        median_from=float(np.sort(known.lower)[(n - 1) // 2]),
        median_low=(_half(sizes, low) if known.searched else _before(known.budgets, _half(sizes, low)))
        if doubted
        else None,
        median_high=_half(sizes, high) if doubted else None,
        n=n,
        clusters=clusters.count,
        resampled=clusters.kind,
        confidence=confidence,
    )


def _thinned(sizes: Sizes) -> Sizes:
    """All of them, or as many as are drawn, the first and the last among them."""
    if len(sizes) <= _POINTS:
        return sizes
    return np.asarray(sizes[np.unique(np.linspace(0, len(sizes) - 1, _POINTS).round().astype(int))])


def _half(sizes: Sizes, curve: Sizes) -> float:
    """The first size at which a falling curve is at one half or below; +inf where it stays above."""
    below = np.flatnonzero(curve <= 0.5)
    return float(sizes[below[0]]) if len(below) else np.inf


def _before(sizes: Sizes, size: float) -> float:
    """The largest of the sizes below one."""
    return float(max(sizes[sizes < size]))
