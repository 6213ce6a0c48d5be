"""Which metrics a task has, each as a point estimate with the statistic that is resampled for its interval.

Accuracy, AUROC and kappa are torchmetrics' on the records; the statistics give the same numbers on the images
as they are (tested), so that estimate and interval speak of the same thing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torchmetrics.functional.classification import (
    binary_auroc,
    multiclass_accuracy,
    multiclass_cohen_kappa,
    multilabel_accuracy,
    multilabel_exact_match,
)

from medrobust.data.dataset import DatasetInfo
from medrobust.evaluation.records import WORST_CASE, PartInfo
from medrobust.statistics.auroc import Auroc, MacroAuroc
from medrobust.statistics.conditions import Condition
from medrobust.statistics.masks import HD95, SURFACE_DICE, mask_figures
from medrobust.statistics.resampling import Statistic
from medrobust.statistics.sums import SumStatistic, mean, quadratic_kappa

_ANSWER_METRICS = {
    "classification": ("accuracy", "AUROC"),
    "ordinal": ("accuracy", "AUROC", "quadratic-weighted kappa"),
    "multilabel": ("exact match", "label accuracy", "AUROC"),
    "segmentation": ("dice", "iou"),
}
CHANGE_METRICS = ("linf", "l2", "psnr", "ssim")


@dataclass(frozen=True)
class Metric:
    """One figure of one condition.

    Attributes:
        value: the point estimate, or None when undefined.
        used: `(n,)` bool, which rows of the condition it is computed from.
        statistic: what is resampled, or None when undefined.
        is_share: whether it is the share of images with a property, so that 0 and 1 have an exact interval.
    """

    name: str
    value: float | None
    used: NDArray[np.bool_]
    statistic: Statistic | None
    is_share: bool = False


def main_metric(task: str) -> str:
    """The metric whose drop is reported: "accuracy", "exact match" or "dice"."""
    return _ANSWER_METRICS[task][0]


def answer_metrics(task: str) -> tuple[str, ...]:
    """The metrics of a task's answers, the main one first; Dice class by class is not among them."""
    return _ANSWER_METRICS[task]


def class_name(dataset: DatasetInfo, number: int) -> str:
    """The name of a class, or "class <number>" where the data set gives none."""
    return dataset.classes[number] if 0 <= number < len(dataset.classes) else f"class {number}"


def known_labels(truth: NDArray[np.float64], dataset: DatasetInfo) -> NDArray[np.bool_]:
    """Which labels of a multi-label truth, in any shape, are known: 0 or 1, and not the value that means unknown."""
    return np.isin(truth, [value for value in (0, 1) if value != dataset.ignore_index])


def main_values(rows: pl.DataFrame, part: PartInfo, when: str) -> NDArray[np.float64]:
    """The main metric of each row, `(n,)`: Dice, or 1 where the image was answered right.

    NaN for a multi-label image of which no label is known: no answer to it is right or wrong.
    """
    if part.task == "segmentation":
        return floats(rows, f"dice_{when}")
    right = floats(rows, f"right_{when}")
    truth = _matrix(rows, "truth") if part.task == "multilabel" else None
    return right if truth is None else np.where(known_labels(truth, part.dataset).any(1), right, np.nan)


def metrics_of(condition: Condition, part: PartInfo, codes: NDArray[np.int64], count: int) -> Iterator[Metric]:
    """The metrics of a condition whose rows belong to the clusters `codes` (n,), `count` in all."""
    rows, when, main = condition.rows, condition.when, main_metric(part.task)
    if part.task == "segmentation":
        yield _mean("dice", floats(rows, f"dice_{when}"), codes, count)
        yield _mean("iou", floats(rows, f"iou_{when}"), codes, count)
        yield from _by_class("dice", condition, part, codes, count)
        for metric in (HD95, SURFACE_DICE):
            yield from _by_class(metric, condition, part, codes, count)
        for figure in mask_figures(rows, when):
            yield _mean(figure.name, figure.values, codes, count, weights=figure.weights)
    elif part.task == "multilabel":
        yield from _label_metrics(condition, part, codes, count)
    else:
        yield from _class_metrics(condition, part, codes, count)
    if when == "before":
        return
    clean, robust = (main_values(rows, part, moment) for moment in ("before", "after"))
    drop = clean - robust
    # where every clean image was answered right, the drop is the share of images that fell
    all_right = part.task != "segmentation" and bool((clean[np.isfinite(drop)] == 1).all())
    yield _mean(f"drop of {main}", drop, codes, count, is_share=all_right)
    fooled = rows.select(pl.col("success").fill_null(~pl.col("right_after")))
    if condition.attack == WORST_CASE:  # any wrong answer counts, whatever the attacks were after
        fooled = rows.select(success=~pl.col("right_after"))
    right_before = main_values(rows, part, "before") if part.task == "multilabel" else floats(rows, "right_before")
    yield _mean("success", np.where(right_before == 1, floats(fooled, "success"), np.nan), codes, count, is_share=True)
    for name in CHANGE_METRICS:
        yield _mean(name, floats(rows, name), codes, count)


def _class_metrics(condition: Condition, part: PartInfo, codes: NDArray[np.int64], count: int) -> Iterator[Metric]:
    rows, when = condition.rows, condition.when
    truth, prediction = (
        rows[column].list.first().to_numpy().astype(np.int64) for column in ("truth", f"prediction_{when}")
    )
    scores = _matrix(rows, f"scores_{when}")
    classes = max(len(part.dataset.classes), int(max(truth.max(), prediction.max())) + 1, 2)
    everyone = np.ones(len(truth), bool)
    answers = torch.from_numpy(prediction), torch.from_numpy(truth)

    right = mean((truth == prediction).astype(np.float64), codes, count)
    accuracy = _number(multiclass_accuracy(*answers, classes, average="micro"))
    yield Metric("accuracy", accuracy, everyone, right, is_share=True)
    # two classes ask one question; with more, each asks "this one or another?"
    asked = [1] if classes == 2 else range(classes)
    yield _auroc([(scores[:, k], truth == k, everyone) for k in asked] if scores is not None else [], codes)
    if part.task == "ordinal":
        kappa = _number(multiclass_cohen_kappa(*answers, classes, weights="quadratic"))
        yield Metric("quadratic-weighted kappa", kappa, everyone, quadratic_kappa(truth, prediction, codes, count))


def _label_metrics(condition: Condition, part: PartInfo, codes: NDArray[np.int64], count: int) -> Iterator[Metric]:
    rows, when = condition.rows, condition.when
    truth, prediction = (_matrix(rows, column) for column in ("truth", f"prediction_{when}"))
    if truth is None or prediction is None:
        return
    known = known_labels(truth, part.dataset)
    truth = np.where(known, truth, -1).astype(np.int64)
    labels = truth.shape[1]
    right = (prediction == truth) & known
    judged = np.asarray(known.any(1))  # of an image without a known label, no answer is right or wrong
    if not judged.any():
        yield from (Metric(name, None, judged, None) for name in answer_metrics(part.task))
        return
    answers = torch.from_numpy(prediction[judged].astype(np.int64)), torch.from_numpy(truth[judged])

    all_right = mean(np.where(judged, (right | ~known).all(1), np.nan), codes, count)
    exact = _number(multilabel_exact_match(*answers, labels, ignore_index=-1))
    yield Metric("exact match", exact, judged, all_right, is_share=True)
    each = mean(right.sum(1).astype(np.float64), codes, count, weights=known.sum(1).astype(np.float64))
    # "micro" counts every known label once; it is the mean of the labels' accuracies when all are known
    accuracy = _number(multilabel_accuracy(*answers, labels, average="micro", ignore_index=-1))
    yield Metric("label accuracy", accuracy, judged, each)
    scores = _matrix(rows, f"scores_{when}")
    questions = [(scores[:, k], truth[:, k] == 1, known[:, k]) for k in range(labels)] if scores is not None else []
    yield _auroc(questions, codes)


def _auroc(
    questions: list[tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_]]],
    codes: NDArray[np.int64],
) -> Metric:
    """AUROC of one question, or the mean over those that have a positive and a negative (undefined if none).

    Averaged here: torchmetrics' macro average counts a class that is missing from the truth as 0.
    """
    values, statistics, used = [], [], np.zeros(len(codes), bool)
    for scores, positive, known in questions:
        known = known & np.isfinite(scores)
        scores, positive = scores[known], positive[known]
        if positive.all() or not positive.any():
            continue
        target = torch.from_numpy(positive.astype(np.int64))
        values.append(float(binary_auroc(torch.from_numpy(scores).clamp(0, 1), target)))
        statistics.append(Auroc.ranked(scores, positive, codes[known]))
        used |= known
    if not values:
        return Metric("AUROC", None, used, None)
    return Metric("AUROC", float(np.mean(values)), used, MacroAuroc(statistics))


def _by_class(
    metric: str, condition: Condition, part: PartInfo, codes: NDArray[np.int64], count: int
) -> Iterator[Metric]:
    """A metric class by class, "dice: <class>", where its column is filled."""
    by_class = _matrix(condition.rows, f"{metric.replace(' ', '_')}_by_class_{condition.when}")
    if by_class is None or not np.isfinite(by_class).any():
        return
    # the first class is the background and has no mask, except when every class is a mask of its own
    first = max(len(part.dataset.classes) - by_class.shape[1], 0)
    for place in range(by_class.shape[1]):
        name = f"{metric}: {class_name(part.dataset, first + place)}"
        yield _mean(name, by_class[:, place], codes, count)


def _mean(
    name: str,
    values: NDArray[np.float64],
    codes: NDArray[np.int64],
    count: int,
    *,
    weights: NDArray[np.float64] | None = None,
    is_share: bool = False,
) -> Metric:
    statistic: SumStatistic = mean(values, codes, count, weights)
    return Metric(name, _number(statistic.value), np.isfinite(values), statistic, is_share)


def floats(rows: pl.DataFrame, column: str) -> NDArray[np.float64]:
    """A column as `(n,)` float64, NaN where null."""
    return rows[column].cast(pl.Float64).to_numpy()


def _matrix(rows: pl.DataFrame, column: str) -> NDArray[np.float64] | None:
    """A column of lists of one length as `(n, length)` float64, or None when there is none."""
    lists = rows[column]
    width = lists.list.len().max()
    if not isinstance(width, int) or width == 0 or lists.null_count():
        return None
    return lists.cast(pl.List(pl.Float64)).list.to_array(width).to_numpy()


def _number(value: float | torch.Tensor) -> float | None:
    return float(value) if math.isfinite(value) else None
