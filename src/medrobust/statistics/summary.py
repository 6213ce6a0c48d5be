"""The table of a run: every metric of every attack and budget, with its interval."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from medrobust.errors import InputError
from medrobust.evaluation.records import CLEAN, WORST_CASE, PartInfo, RunInfo
from medrobust.statistics.conditions import conditions_of, images_of
from medrobust.statistics.metric import Metric
from medrobust.statistics.metrics import metrics_of
from medrobust.statistics.resampling import (
    bootstrap,
    clusters_of,
    percentile_interval,
    unanimous_interval,
)

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
}


def summarise(
    records: pl.DataFrame, info: RunInfo, *, resamples: int = 1000, confidence: float = 0.95, seed: int = 0
) -> pl.DataFrame:
    """The metrics of a run with percentile intervals of the cluster bootstrap, as a long table.

        Metrics: classification "accuracy" and "AUROC" (one against the rest, mean over the classes that occur),
        ordinal "quadratic-weighted kappa" besides, multi-label "exact match", "label accuracy" and "AUROC" (mean
        over labels), segmentation "dice", "iou" and "dice: <class>", and, where the records hold them, "hd95" and
    "surface dice" (also ": <class>"), "missed volume (<unit>)" and the share of "lesions found: small", "medium" and
    "large" (thirds by size; found is at least half covered); detection "mAP", "mAP@.5" and "mAP: <class>",
    which are of all images together, and the means of the images' "F1", "false positives" and "misses". Every
    attack and the "worst case" (see `conditions.py`) also has "drop of <main metric>", paired by image;
    "success", the share fooled among the images answered right before; and the means of "linf", "l2", "psnr"
    (over the images that changed: that of an unchanged one is infinite) and "ssim".

        Patients are resampled with all their images, an image without a patient counting as one of its own;
        images when no patient is known, or only one. All conditions of a part see the same resamples. A resample
        in which a metric is undefined (a class is missing) is left out; there is no interval when that befalls
        most of them, when there is but one cluster, or when the figure does not vary over the resamples. A share of
        images that is 0 or 1 throughout has the exact binomial interval (the drop is one where all clean images are
        answered right).

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
        for row in _part_rows(of_part, part, resamples, confidence, seed):
            rows.append({"part": name, "confidence": confidence, **row})
    return pl.DataFrame(rows, schema=SUMMARY_SCHEMA)


def check_resampling(resamples: int, confidence: float) -> None:
    """Raise `InputError` unless there are resamples and the confidence is a probability."""
    if resamples < 2:
        raise InputError(f"resamples must be at least 2, got {resamples}")
    if not 0 < confidence < 1:
        raise InputError(f"confidence must be between 0 and 1, got {confidence}")


def _part_rows(
    records: pl.DataFrame, part: PartInfo, resamples: int, confidence: float, seed: int
) -> list[dict[str, object]]:
    images = images_of(records)
    clusters = clusters_of(images["patient"])
    places = images["index"].to_numpy()
    figures: list[tuple[dict[str, object], Metric, int]] = []
    for condition in conditions_of(records, part):
        codes = clusters.codes[np.searchsorted(places, condition.rows["index"].to_numpy())]
        key: dict[str, object] = {"attack": condition.attack, "norm": condition.norm, "eps": condition.eps}
        for metric in metrics_of(condition, part, codes, clusters.count):
            figures.append((key, metric, int(np.count_nonzero(np.bincount(codes[metric.used])))))

    statistics = [metric.statistic for _, metric, _ in figures if metric.statistic is not None]
    draws = iter(bootstrap(statistics, clusters.count, resamples, seed).T)
    rows: list[dict[str, object]] = []
    for key, metric, of_metric in figures:
        drawn = None if metric.statistic is None else next(draws)
        figure = {"metric": metric.name, "value": metric.value, **_interval(metric, drawn, of_metric, confidence)}
        basis = {"n": int(metric.used.sum()), "clusters": of_metric, "resampled": clusters.kind}
        rows.append({**key, **figure, **basis})
    return rows


def _interval(
    metric: Metric, drawn: NDArray[np.float64] | None, clusters: int, confidence: float
) -> dict[str, float | None]:
    interval = None
    if metric.value is not None and drawn is not None and clusters > 1:
        unanimous = metric.is_share and metric.value in (0.0, 1.0)
        interval = (
            unanimous_interval(metric.value, clusters, confidence)
            if unanimous
            else percentile_interval(drawn, confidence)
        )
    low, high = interval or (None, None)
    return {"low": low, "high": high}
