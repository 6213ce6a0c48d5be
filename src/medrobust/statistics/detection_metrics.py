"""The metrics of detection: mean average precision of all images together, and what is found in one image.

Average precisions are faster-coco-eval's on the records; the statistic that is resampled gives the same numbers on the
images as they are (tested), and their drop.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from medrobust.evaluation.records import PartInfo
from medrobust.statistics.average_precision import AveragePrecision, mean_over_classes
from medrobust.statistics.conditions import Condition
from medrobust.statistics.matching import MOST, Boxes
from medrobust.statistics.metric import Metric, class_name, floats, mean_metric, number
from medrobust.statistics.resampling import TableStatistic

_MAIN, _AT_HALF = "mAP", "mAP@.5"
_OF_IMAGES = {"F1": "f1", "false positives": "false_positives", "misses": "misses"}  # metric → column
_NO_AREA_LIMIT = {"all": [0.0, 1e10]}

When = Literal["before", "after"]


@dataclass(frozen=True)
class Judgement:
    """How the detections in one image were judged.

    Attributes:
        score: the least that a detection must score to count.
        iou: from which intersection over union on it matches a box of its class.
        success_f1: the least F1 of an image that counts as right.
    """

    score: float = 0.5
    iou: float = 0.5
    success_f1: float = 0.5


def judgement(part: PartInfo) -> Judgement:
    """What the run kept of it; the task's defaults where it kept nothing."""
    kept = part.victim.get("task_options")
    options = kept if isinstance(kept, dict) else {}
    return Judgement(**{name: float(options[name]) for name in ("score", "iou", "success_f1") if name in options})


def detection_metrics(condition: Condition, part: PartInfo, codes: NDArray[np.int64], count: int) -> Iterator[Metric]:
    """Those of a condition whose rows belong to the clusters `codes` (n,), `count` in all."""
    rows, when = condition.rows, condition.when
    truth, found = _boxes(rows, when)
    table = AveragePrecision.ranked(truth, found, codes, count)
    values = coco_estimates(truth, found, len(rows))
    everyone = np.full(len(rows), bool(table.labels))
    for name, row in ((_MAIN, AveragePrecision.OVER_ALL), (_AT_HALF, AveragePrecision.AT_HALF)):
        statistic = TableStatistic((table,), partial(_mean_precision, row=row))
        estimate = number(float(np.mean(values[row]))) if table.labels else None
        yield Metric(name, estimate, everyone, statistic if table.labels else None)
    for name, column in _OF_IMAGES.items():
        yield mean_metric(name, floats(rows, f"{column}_{when}"), codes, count)
    yield from _by_class(table, truth, found, values[AveragePrecision.OVER_ALL], part, len(rows))


def drop_of_precision(condition: Condition, codes: NDArray[np.int64], count: int) -> Metric:
    """The mAP of the clean images less that of the attacked ones: of the same images, and the same resamples."""
    (truth, before), (_, after) = (_boxes(condition.rows, when) for when in ("before", "after"))
    tables = tuple(AveragePrecision.ranked(truth, found, codes, count) for found in (before, after))
    used = np.full(len(condition.rows), bool(len(truth)))
    if not len(truth):
        return Metric(f"drop of {_MAIN}", None, used, None)
    statistic = TableStatistic(tables, _precision_drop)
    as_they_are = statistic.draws(np.ones((count, 1), np.float32))
    return Metric(f"drop of {_MAIN}", number(float(as_they_are[0])), used, statistic)


def _boxes(rows: pl.DataFrame, when: When) -> tuple[Boxes, Boxes]:
    truth = Boxes.of_rows(rows, "truth", "truth_boxes")
    return truth, Boxes.of_rows(rows, f"prediction_{when}", f"boxes_{when}", f"scores_{when}")


def _by_class(
    table: AveragePrecision, truth: Boxes, found: Boxes, values: NDArray[np.float64], part: PartInfo, images: int
) -> Iterator[Metric]:
    for place, label in enumerate(table.labels):
        used = np.zeros(images, bool)
        for boxes in (truth, found):
            used[boxes.image[boxes.label == label]] = True
        statistic = TableStatistic((table,), partial(_class_precision, place=place))
        name = f"{_MAIN}: {class_name(part.dataset, label)}"
        yield Metric(name, number(float(values[place])), used, statistic)


def _mean_precision(values: NDArray[np.float64], row: int) -> NDArray[np.float64]:
    return mean_over_classes(values[row])


def _class_precision(values: NDArray[np.float64], place: int) -> NDArray[np.float64]:
    return np.asarray(values[AveragePrecision.OVER_ALL, place])


def _precision_drop(before: NDArray[np.float64], after: NDArray[np.float64]) -> NDArray[np.float64]:
    return _mean_precision(before, AveragePrecision.OVER_ALL) - _mean_precision(after, AveragePrecision.OVER_ALL)


def coco_estimates(truth: Boxes, found: Boxes, images: int) -> NDArray[np.float64]:
    """faster-coco-eval's average precision of the classes in the truth, `(2, classes)`: over all IoU, and at 0.5."""
    from faster_coco_eval import COCO, COCOeval_faster

    labels = np.unique(truth.label).tolist()
    if not labels:
        return np.empty((2, 0))
    told = {"images": [{"id": image} for image in range(images)], "categories": [{"id": label} for label in labels]}
    known, answered = (
        COCO({**told, "annotations": _annotations(boxes[np.isin(boxes.label, labels)])}) for boxes in (truth, found)
    )
    evaluation = COCOeval_faster(known, answered, "bbox", print_function=lambda *_: None)
    evaluation.params.areaRng, evaluation.params.areaRngLbl = list(_NO_AREA_LIMIT.values()), list(_NO_AREA_LIMIT)
    evaluation.params.maxDets = [MOST]
    evaluation.evaluate()
    evaluation.accumulate()
    precision = evaluation.eval["precision"][..., 0, 0].mean(1)  # (thresholds, classes)
    return np.stack([precision.mean(0), precision[0]])


def _annotations(boxes: Boxes) -> list[dict[str, object]]:
    corners = boxes.corners.tolist()
    return [
        {"id": place, "image_id": image, "category_id": label, "score": score, "iscrowd": 0}
        | {"bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1)}
        for place, (image, label, score, (x1, y1, x2, y2)) in enumerate(
            zip(boxes.image.tolist(), boxes.label.tolist(), boxes.score.tolist(), corners, strict=True), 1
        )
    ]
