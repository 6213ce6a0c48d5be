"""Which metrics a task has, each as a point estimate with the statistic that is resampled for its interval.

Accuracy and kappa are torchmetrics' on the records, AUROC comes from scipy's ranks; the statistics give the same
numbers on the images as they are (tested, and AUROC against torchmetrics), so that estimate and interval speak of the
same thing.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torchmetrics.functional.classification import (
    multiclass_accuracy,
    multiclass_cohen_kappa,
    multilabel_accuracy,
    multilabel_exact_match,
)

from medrobust.data.dataset import DatasetInfo
from medrobust.evaluation.records import WORST_CASE, PartInfo
from medrobust.statistics.auroc import MOST_EXACT, Auroc, MacroAuroc, Question, first_order
from medrobust.statistics.conditions import Condition
from medrobust.statistics.detection_metrics import detection_metrics, drop_of_precision
from medrobust.statistics.masks import HD95, SURFACE_DICE, mask_figures
from medrobust.statistics.metric import Metric, class_name, floats, mean_metric, number
from medrobust.statistics.sums import mean, quadratic_kappa
from medrobust.statistics.task_traits import TASK_TRAITS, answer_metrics

_KAPPA, _RECALL = "quadratic-weighted kappa", "recall"
CHANGE_METRICS = ("linf", "l2", "psnr", "ssim")


def known_labels(truth: NDArray[np.float64], dataset: DatasetInfo) -> NDArray[np.bool_]:
    """Which labels of a multi-label truth, in any shape, are known: 0 or 1, and not the value that means unknown."""
    return np.isin(truth, [value for value in (0, 1) if value != dataset.ignore_index])


def image_values(rows: pl.DataFrame, part: PartInfo, when: str) -> NDArray[np.float64]:
    """What judges each row, `(n,)`: 1 where the image was answered right, its Dice or its F1.

    NaN for a multi-label image of which no label is known: no answer to it is right or wrong.
    """
    traits = TASK_TRAITS[part.task]
    values = floats(rows, f"{traits.image_value}_{when}")
    truth = _matrix(rows, "truth") if traits.answer == "labels" else None
    return values if truth is None else np.where(known_labels(truth, part.dataset).any(1), values, np.nan)


def metrics_of(condition: Condition, part: PartInfo, codes: NDArray[np.int64], count: int) -> Iterator[Metric]:
    """The metrics of a condition whose rows belong to the clusters `codes` (n,), `count` in all."""
    traits = TASK_TRAITS[part.task]
    yield from _OF_ANSWERS[traits.answer](condition, part, codes, count)
    if condition.when == "before":
        return
    if traits.answer == "boxes":
        yield drop_of_precision(condition, codes, count)
    else:
        yield _drop(condition, part, codes, count)
    yield _success(condition, part, codes, count)
    for name in CHANGE_METRICS:
        yield mean_metric(name, floats(condition.rows, name), codes, count)


def _drop(condition: Condition, part: PartInfo, codes: NDArray[np.int64], count: int) -> Metric:
    """Of a main metric that is a mean over images."""
    clean, robust = (image_values(condition.rows, part, moment) for moment in ("before", "after"))
    drop, traits = clean - robust, TASK_TRAITS[part.task]
    # where every clean image was answered right, the drop is the share of images that fell
    all_right = traits.is_share and bool((clean[np.isfinite(drop)] == 1).all())
    return mean_metric(f"drop of {traits.main}", drop, codes, count, is_share=all_right)


def _success(condition: Condition, part: PartInfo, codes: NDArray[np.int64], count: int) -> Metric:
    """The share fooled among the images that were right before."""
    rows = condition.rows
    fooled = rows.select(pl.col("success").fill_null(~pl.col("right_after")))
    if condition.attack == WORST_CASE:  # any wrong answer counts, whatever the attacks were after
        fooled = rows.select(success=~pl.col("right_after"))
    judged = image_values(rows, part, "before") if TASK_TRAITS[part.task].is_share else floats(rows, "right_before")
    values = np.where(judged == 1, floats(fooled, "success"), np.nan)
    return mean_metric("success", values, codes, count, is_share=True)


def _mask_metrics(condition: Condition, part: PartInfo, codes: NDArray[np.int64], count: int) -> Iterator[Metric]:
    for name in answer_metrics(part.task):
        yield mean_metric(name, floats(condition.rows, f"{name}_{condition.when}"), codes, count)
    for metric in ("dice", HD95, SURFACE_DICE):
        yield from _by_class(metric, condition, part, codes, count)
    for figure in mask_figures(condition.rows, condition.when):
        yield mean_metric(figure.name, figure.values, codes, count, weights=figure.weights)


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
    accuracy = number(multiclass_accuracy(*answers, classes, average="micro"))
    yield Metric("accuracy", accuracy, everyone, right, is_share=True)
    # two classes ask one question; with more, each asks "this one or another?"
    asked = [1] if classes == 2 else range(classes)
    questions = [(scores[:, k], truth == k, everyone) for k in asked] if scores is not None else []
    yield auroc_metric(questions, codes, count)
    if _KAPPA in answer_metrics(part.task):
        kappa = number(multiclass_cohen_kappa(*answers, classes, weights="quadratic"))
        yield Metric(_KAPPA, kappa, everyone, quadratic_kappa(truth, prediction, codes, count))
    yield from _recalls(truth[:, None] == range(classes), prediction[:, None] == range(classes), part, codes, count)


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
    exact = number(multilabel_exact_match(*answers, labels, ignore_index=-1))
    yield Metric("exact match", exact, judged, all_right, is_share=True)
    each = mean(right.sum(1).astype(np.float64), codes, count, weights=known.sum(1).astype(np.float64))
    # "micro" counts every known label once; it is the mean of the labels' accuracies when all are known
    accuracy = number(multilabel_accuracy(*answers, labels, average="micro", ignore_index=-1))
    yield Metric("label accuracy", accuracy, judged, each)
    scores = _matrix(rows, f"scores_{when}")
    questions = [(scores[:, k], truth[:, k] == 1, known[:, k]) for k in range(labels)] if scores is not None else []
    yield auroc_metric(questions, codes, count)
    yield from _recalls((truth == 1) & known, prediction == 1, part, codes, count)


def _recalls(
    truth: NDArray[np.bool_], answer: NDArray[np.bool_], part: PartInfo, codes: NDArray[np.int64], count: int
) -> Iterator[Metric]:
    """Of the images of a class (with a label), `(n, classes)`, the share that is answered so: "recall: <class>"."""
    for place in range(truth.shape[1]):
        found = np.where(truth[:, place], answer[:, place], np.nan)
        yield mean_metric(f"{_RECALL}: {class_name(part.dataset, place)}", found, codes, count, is_share=True)


def auroc_metric(
    questions: list[tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_]]],
    codes: NDArray[np.int64],
    count: int,
) -> Metric:
    """AUROC of one question, or the mean over those that have a positive and a negative (undefined if none).

    Averaged here: torchmetrics' macro average counts a class that is missing from the truth as 0.
    """
    asked, used = [], np.zeros(len(codes), bool)
    for scores, positive, known in questions:
        known = known & np.isfinite(scores)
        if not positive[known].all() and positive[known].any():
            asked.append(Question(scores[known], positive[known], codes[known]))
            used |= known
    if not asked:
        return Metric("AUROC", None, used, None)
    value = float(np.mean([question.value for question in asked]))
    if len(codes) > MOST_EXACT:
        return Metric("AUROC", value, used, first_order(asked, count))
    return Metric("AUROC", value, used, MacroAuroc([Auroc.ranked(question) for question in asked]))


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
        yield mean_metric(name, by_class[:, place], codes, count)


def _matrix(rows: pl.DataFrame, column: str) -> NDArray[np.float64] | None:
    """A column of lists of one length as `(n, length)` float64, or None when there is none."""
    lists = rows[column]
    width = lists.list.len().max()
    if not isinstance(width, int) or width == 0 or lists.null_count():
        return None
    return lists.cast(pl.List(pl.Float64)).list.to_array(width).to_numpy()


_OF_ANSWERS = {
    "class": _class_metrics,
    "labels": _label_metrics,
    "map": _mask_metrics,
    "boxes": detection_metrics,
}
