"""What the figures and the report must know of a task, in one table: a new task is a line here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class TaskTraits:
    """How answers to a task are judged and told.

    Attributes:
        title: the task as a noun to begin a sentence with.
        answer: what an answer is: one class, a yes or no for each label, a class at every pixel, or scored boxes.
        metrics: of the answers, the main one first.
        image_value: the column, less "_before" and "_after", that judges a single image; lower is worse.
        image_metric: what the mean of that column is called: attacks are compared on it, image by image. The main
            metric, unless that is one of all images together.
        class_metric: the metric that is also told class by class, as "<metric>: <class>"; None for no such metric.
        curves: the metrics drawn against eps; they lie between 0 and 1.
        plain: the metrics that the terminal shows without their intervals, for want of room.
    """

    title: str
    answer: Literal["class", "labels", "map", "boxes"]
    metrics: tuple[str, ...]
    image_value: str
    image_metric: str
    class_metric: str | None = None
    curves: tuple[str, ...] = ()
    plain: tuple[str, ...] = ()

    @property
    def main(self) -> str:
        """The metric whose drop is reported."""
        return self.metrics[0]

    @property
    def is_share(self) -> bool:
        """Whether the main metric is the share of images answered right."""
        return self.image_value == "right"


_GRADES = ("accuracy", "AUROC", "quadratic-weighted kappa")
_LABELS = ("exact match", "label accuracy", "AUROC")
_BOXES = ("mAP", "mAP@.5", "F1", "false positives", "misses")

TASK_TRAITS = {
    "classification": TaskTraits("Classification", "class", _GRADES[:2], "right", "accuracy", "recall", _GRADES[:2]),
    "ordinal": TaskTraits("Ordinal grading", "class", _GRADES, "right", "accuracy", "recall", _GRADES),
    "multilabel": TaskTraits(
        "Multi-label classification", "labels", _LABELS, "right", "exact match", "recall", _LABELS
    ),
    "segmentation": TaskTraits(
        "Segmentation", "map", ("dice", "iou"), "dice", "dice", class_metric="dice", curves=("dice", "iou")
    ),
    "detection": TaskTraits(
        "Detection",
        "boxes",
        _BOXES,
        "f1",
        "F1",
        class_metric="mAP",
        curves=_BOXES[:3],
        plain=("F1", "false positives", "misses"),
    ),
}


def main_metric(task: str) -> str:
    """The metric whose drop is reported: "accuracy", "exact match", "dice" or "mAP"."""
    return TASK_TRAITS[task].main


def answer_metrics(task: str) -> tuple[str, ...]:
    """The metrics of a task's answers, the main one first; those of single classes are not among them."""
    return TASK_TRAITS[task].metrics
