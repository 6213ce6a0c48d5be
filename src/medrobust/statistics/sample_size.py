"""How many patients are needed for an interval of a given width, from how much the figure varies between these.

The variance of a mean over images of C patients, each with all their images, is that of a ratio estimate (Cochran,
Sampling Techniques, 3rd ed., 1977, 6.3 and 9A): C/(C − 1) · Σ (s_c − m·w_c)² / W², with s_c the sum of the values of a
patient, w_c their number, m the mean and W the number of all. It falls as 1/C, so an interval of m ± h takes
C · (z·sd(m)/h)² patients with as many images each. The design effect (Kish, Survey Sampling, 1965) is this variance
over the one that independent images would give.

A share that is 0 or 1 in all images does not vary, and says nothing of how much it would. There it is the exact
interval of a plain share (Clopper and Pearson, Biometrika 26, 1934), patients (or images) as trials, all of them alike
again: its width with n of them is 1 − (α/2)^(1/n).
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import stats

from medrobust.errors import InputError
from medrobust.evaluation.records import RunInfo
from medrobust.statistics.intervals import unanimous_interval
from medrobust.statistics.metrics import image_values
from medrobust.statistics.summary import key_of
from medrobust.statistics.tabulating import FIGURE, KEY, PartRecords, Resampling, Row, tabulate
from medrobust.statistics.task_traits import TASK_TRAITS

HALF_WIDTH = 0.02  # ± 2 points

SAMPLE_SIZE_SCHEMA = {
    **KEY,
    "metric": pl.String,  # of one image each; "drop of …" is paired: clean less attacked
    **{name: kind for name, kind in FIGURE.items() if name not in ("low", "high")},
    # of the interval now: z · sd, or half of the exact one of a share of 0 or 1; null where another figure does not
    # vary, or is of one cluster
    "half_width": pl.Float64,
    "design_effect": pl.Float64,  # its variance over that of as many independent images; null of a share of 0 or 1
    "wanted": pl.Float64,  # the half-width asked for
    "needed_clusters": pl.Int64,  # for it: patients, or images
    "needed_images": pl.Int64,
}


def sample_size(
    records: pl.DataFrame, info: RunInfo, *, half_width: float = HALF_WIDTH, confidence: float = 0.95
) -> pl.DataFrame:
    """How many images, of how many patients, would give the main metric (of one image each) an interval of a width.

    For the metric of every condition and for its drop, which is paired by image and needs fewer. It is the normal
    approximation, from these images: patients who differ more than these need more. Of a share of 0 or 1 it is the
    number of patients, all again alike, whose exact interval is as narrow.

    Args:
        records: rows as `medrobust.evaluation.records.SCHEMA`.
        info: the run.
        half_width: half of the interval's width, as a share of 1 (0.02 are two points).
        confidence: of the interval.

    Returns:
        Columns as `SAMPLE_SIZE_SCHEMA`.

    Raises:
        InputError: `half_width` or `confidence` is out of range.
    """
    if not 0 < half_width < 1:
        raise InputError(f"half_width must be between 0 and 1, got {half_width}")

    def rows(part: PartRecords) -> Iterator[Row]:
        return _rows(part, half_width)

    return tabulate(records, info, Resampling(confidence=confidence), rows, SAMPLE_SIZE_SCHEMA)


def _rows(part: PartRecords, wanted: float) -> Iterator[Row]:
    traits = TASK_TRAITS[part.info.task]
    metric = traits.image_metric
    for condition, codes in part.conditions():
        before, after = (image_values(condition.rows, part.info, when) for when in ("before", "after"))
        values = before if condition.when == "before" else after
        yield {**key_of(condition), "metric": metric, **_sized(values, codes, part, wanted, is_share=traits.is_share)}
        if condition.when == "after":
            drop = before - after
            all_right = traits.is_share and bool((before[np.isfinite(drop)] == 1).all())
            sized = _sized(drop, codes, part, wanted, is_share=all_right)
            yield {**key_of(condition), "metric": f"drop of {metric}", **sized}


def _sized(
    values: NDArray[np.float64], codes: NDArray[np.int64], part: PartRecords, wanted: float, *, is_share: bool
) -> Row:
    used = np.isfinite(values)
    values, codes = values[used], codes[used]
    clusters = len(np.unique(codes))
    known: Row = {
        "value": float(values.mean()) if len(values) else None,
        "n": len(values),
        "clusters": clusters,
        "resampled": part.clusters.kind,
        "wanted": wanted,
    }
    variance = cluster_variance(values, codes)
    if variance is None:
        unanimous = is_share and clusters > 1 and known["value"] in (0.0, 1.0)
        return known | (_of_unanimous(len(values), clusters, part, wanted) if unanimous else {})
    z = float(stats.norm.ppf((1 + part.resampling.confidence) / 2))
    needed = math.ceil(clusters * z**2 * variance / wanted**2)
    return {
        **known,
        "half_width": z * math.sqrt(variance),
        "design_effect": variance / (values.var(ddof=1) / len(values)),
        "needed_clusters": needed,
        "needed_images": math.ceil(needed * len(values) / clusters),
    }


def _of_unanimous(images: int, clusters: int, part: PartRecords, wanted: float) -> Row:
    """Of a share that is 0 or 1 in all clusters; half of an interval of this share is never wider than ± 1/2."""
    confidence = part.resampling.confidence
    low, high = unanimous_interval(1.0, clusters, confidence)
    needed = 1 if wanted >= 0.5 else math.ceil(math.log((1 - confidence) / 2) / math.log1p(-2 * wanted))
    return {
        "half_width": (high - low) / 2,
        "needed_clusters": needed,
        "needed_images": math.ceil(needed * images / clusters),
    }


def cluster_variance(values: NDArray[np.float64], codes: NDArray[np.int64]) -> float | None:
    """The variance of the mean of finite values `(n,)` whose clusters `(n,)` were sampled; None where it is not known.

    That is with fewer than two clusters, or values that do not vary between them.
    """
    _, codes = np.unique(codes, return_inverse=True)
    count = int(codes.max()) + 1 if len(codes) else 0
    if count < 2:
        return None
    off = np.bincount(codes, weights=values - values.mean(), minlength=count)
    variance = float(count / (count - 1) * (off**2).sum() / len(values) ** 2)
    return variance if variance > 1e-12 else None
