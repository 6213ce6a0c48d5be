"""The table of a run: every metric of every attack and budget, with its interval."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from medrobust.errors import InputError
from medrobust.evaluation.records import CLEAN, WORST_CASE, PartInfo, RunInfo
from medrobust.statistics.across import areas, strongest
from medrobust.statistics.conditions import Condition, conditions_of, images_of
from medrobust.statistics.figure import Figure
from medrobust.statistics.metric import Metric
from medrobust.statistics.metrics import metrics_of
from medrobust.statistics.resampling import Clusters, bootstrap, clusters_of
from medrobust.statistics.task_traits import TASK_TRAITS

SUMMARY_SCHEMA: dict[str, pl.DataType | type[pl.DataType]] = {
    "part": pl.String,
    "attack": pl.String,  # "clean", the label of an attack, or "worst case"
    "norm": pl.String,  # "" for clean
    "eps": pl.Float64,  # in data units; 0 for clean
    "metric": pl.String,
    "value": pl.Float64,  # null where undefined
    "low": pl.Float64,  # null where no interval can be given
    "high": pl.Float64,
    "n": pl.Int64,  # images that the value is computed from
    "clusters": pl.Int64,  # patients among them, or images
    "resampled": pl.String,  # "patients", "images" or "images of one patient"
    "confidence": pl.Float64,
    "interval": pl.String,  # "BCa bootstrap", "Wilson" or "exact"; null without an interval
}
RESAMPLES = 2000


def summarise(
    records: pl.DataFrame, info: RunInfo, *, resamples: int = RESAMPLES, confidence: float = 0.95, seed: int = 0
) -> pl.DataFrame:
    """The metrics of a run with their intervals, as a long table.

    Metrics: classification "accuracy" and "AUROC" (one against the rest, mean over the classes that occur),
    ordinal "quadratic-weighted kappa" besides, multi-label "exact match", "label accuracy" and "AUROC" (mean
    over labels), segmentation "dice", "iou" and "dice: <class>", and, where the records hold them, "hd95" and
    "surface dice" (also ": <class>"), "missed volume (<unit>)" and the share of "lesions found: small", "medium" and
    "large" (thirds by size; found is at least half covered); detection "mAP", "mAP@.5" and "mAP: <class>",
    which are of all images together, and the means of the images' "F1", "false positives" and "misses". Every
    attack and the "worst case" (see `conditions.py`) also has "drop of <main metric>", paired by image;
    "success", the share fooled among the images answered right before; and the means of "linf", "l2", "psnr"
    (over the images that changed: that of an unchanged one is infinite) and "ssim".

    Of the metrics that are drawn against eps, the line of the largest eps of a norm has the "area under <metric>", from
    clean at eps 0, as a share of the range; and the line of the worst case has the "<metric> of the strongest attack",
    the lowest under any one attack, where there are several (see `across.py`).

    Patients are resampled with all their images, an image without a patient counting as one of its own;
    images when no patient is known, or only one. All conditions of a part see the same resamples. The intervals are
    BCa bootstrap; a share of independent images has Wilson's, and one that is 0 or 1 throughout the exact binomial one
    (the drop is a share where all clean images are answered right): see `intervals.py`. A resample in which a metric is
    undefined (a class is missing) is left out; there is no interval when that befalls most of them, when there is but
    one cluster, or when the figure does not vary over the resamples.

    A multi-label image without a known label counts nowhere but in the means of the change; of the others, "label
    accuracy" and "AUROC" leave the unknown labels out one by one.

    Args:
        records: rows as `medrobust.evaluation.records.SCHEMA`.
        info: the run; only parts named there are summarised.
        resamples: number of bootstrap resamples.
        confidence: of the intervals, in (0, 1).
        seed: of the resamples.

    Returns:
        One row per part, condition and metric; columns as `SUMMARY_SCHEMA`.

    Raises:
        InputError: if `resamples` or `confidence` is out of range, or an attack is labelled "clean" or
            "worst case".
    """
    check_resampling(resamples, confidence)
    for taken in (CLEAN, WORST_CASE):
        if taken in records["attack"]:
            raise InputError(f"an attack is labelled {taken!r}, which means something else here: rename it")
    rows: list[dict[str, object]] = []
    for name, part in info.parts.items():
        of_part = records.filter(pl.col("part") == name)
        if of_part.is_empty():
            continue
        images = images_of(of_part)
        clusters = clusters_of(images["patient"])
        for figure in part_figures(of_part, part, images["index"].to_numpy(), clusters, resamples, seed):
            rows.append({"part": name, "resampled": clusters.kind, **_row(figure, confidence)})
    return pl.DataFrame(rows, schema=SUMMARY_SCHEMA)


def check_resampling(resamples: int, confidence: float) -> None:
    """Raise `InputError` unless there are resamples and the confidence is a probability."""
    if resamples < 2:
        raise InputError(f"resamples must be at least 2, got {resamples}")
    if not 0 < confidence < 1:
        raise InputError(f"confidence must be between 0 and 1, got {confidence}")


def part_figures(
    records: pl.DataFrame, part: PartInfo, images: NDArray[np.int64], clusters: Clusters, resamples: int, seed: int
) -> list[Figure]:
    """All figures of the records of one part, condition by condition.

    `images` (n,) are the indices of its images, ascending, and `clusters` theirs.
    """
    metrics: list[tuple[dict[str, object], Metric, int]] = []
    for condition in conditions_of(records, part):
        codes = clusters.codes[np.searchsorted(images, condition.rows["index"].to_numpy())]
        key = key_of(condition)
        for metric in metrics_of(condition, part, codes, clusters.count):
            metrics.append((key, metric, clusters_used(metric, codes)))
    return with_curves(_figures(metrics, clusters, resamples, seed), part.task)


def with_curves(figures: Iterable[Figure], task: str) -> list[Figure]:
    """The figures of the conditions of a part, condition by condition, with those that are made of several."""
    found: dict[tuple[str, str, float], dict[str, Figure]] = {}
    for figure in figures:
        found.setdefault(figure.key, {})[figure.metric] = figure
    curves = TASK_TRAITS[task].curves
    for figure in [*strongest(found, curves), *areas(found, curves)]:
        found[figure.key][figure.metric] = figure
    return [figure for of_condition in found.values() for figure in of_condition.values()]


def interval_rows(
    figures: Sequence[tuple[dict[str, object], Metric, int]],
    clusters: Clusters,
    resamples: int,
    confidence: float,
    seed: int,
) -> list[dict[str, object]]:
    """A row for each figure: its own fields, its value with an interval, and what it is computed from.

    Args:
        figures: fields, metric, and how many clusters the metric's images are of.
        clusters: what is resampled; all figures see the same resamples.
        resamples, confidence, seed: as `summarise`.
    """
    made = _figures(figures, clusters, resamples, seed)
    told = {"resampled": clusters.kind}
    return [{**_row(figure, confidence), **key, **told} for (key, _, _), figure in zip(figures, made, strict=True)]


def key_of(condition: Condition) -> dict[str, object]:
    """The fields by which tables name a condition."""
    return {"attack": condition.attack, "norm": condition.norm, "eps": condition.eps}


def clusters_used(metric: Metric, codes: NDArray[np.int64]) -> int:
    """How many clusters the images of a metric are of."""
    return int(np.count_nonzero(np.bincount(codes[metric.used])))


def _figures(
    figures: Sequence[tuple[dict[str, object], Metric, int]], clusters: Clusters, resamples: int, seed: int
) -> list[Figure]:
    """Fields, metric and number of clusters of each, resampled together."""
    statistics = [metric.statistic for _, metric, _ in figures if metric.statistic is not None]
    resampled = iter(bootstrap(statistics, clusters.count, resamples, seed))
    made = []
    for key, metric, count in figures:
        drawn = None if metric.statistic is None else next(resampled)
        where = (str(key.get("attack")), str(key.get("norm")), float(str(key.get("eps", 0.0))))
        shares = (metric.is_share, metric.is_share)
        made.append(Figure(metric.name, where, metric.value, int(metric.used.sum()), count, drawn, *shares))
    return made


def _row(figure: Figure, confidence: float) -> dict[str, object]:
    """The row of a figure, less its part and what was resampled."""
    (low, high), kind = figure.interval(confidence) or ((None, None), None)
    attack, norm, eps = figure.key
    told = {"attack": attack, "norm": norm, "eps": eps, "metric": figure.metric, "value": figure.value}
    basis = {"n": figure.n, "clusters": figure.clusters, "confidence": confidence, "interval": kind}
    return told | {"low": low, "high": high} | basis
