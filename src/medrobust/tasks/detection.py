"""Detection: boxes of objects, each with a class."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchvision.ops import box_iou

from medrobust.data.dataset import NO_BOX, pad_boxes
from medrobust.detectors import Detections, DetectorOutputs, Places, detector_of
from medrobust.errors import InputError
from medrobust.tasks.placement import Placement
from medrobust.tasks.surface import Spacing
from medrobust.tasks.task import Task

FOREGROUND = 0.05  # torchvision's detectors drop what scores less before anything else
MOST_DETECTIONS = 100  # an image, as COCO counts them


class Detection(Task[DetectorOutputs]):
    """Objects in an image, any number of them, also none.

    Args:
        classes: number of classes of objects; there is no background among them.
        score: a detection counts from this score on, where one answer is needed: in F1, false positives, misses and
            pictures. mAP uses them all.
        iou: it finds an object of its class when their boxes overlap by at least this (intersection over union).
        success_f1: an image counts as right while its F1 is at least this. Without object and detection it is 1.

    Truth is `(B, N, 5)` float: x1, y1, x2, y2 in pixels and the class from 0; rows of class −1 only fill up. Loss is
    the detector's own training loss, per image. What SMIA's second term compares are the class scores of the same
    anchors (queries, proposals) before post-processing: the mean over those that either prediction takes for an object
    with at least 0.05, since thousands of background anchors would drown them.
    """

    def __init__(self, classes: int, *, score: float = 0.5, iou: float = 0.5, success_f1: float = 0.5) -> None:
        if classes < 1:
            raise InputError(f"detection needs at least 1 class, got {classes}")
        for name, value in (("score", score), ("iou", iou), ("success_f1", success_f1)):
            if not 0 < value <= 1:
                raise InputError(f"{name} must be in (0, 1], got {value}")
        self.name = "detection"
        self.classes = classes
        self.score = score
        self.iou = iou
        self.success_f1 = success_f1

    def __repr__(self) -> str:
        return f"Detection(classes={self.classes})"

    def run(self, model: nn.Module, inputs: Tensor) -> DetectorOutputs:
        """The detector's raw outputs, before its post-processing."""
        return detector_of(model, self.classes).forward(inputs)

    def places(self, outputs: DetectorOutputs) -> Places:
        """The proposals of a two-stage detector, `(B, P, 4)`."""
        return outputs.detector.places(outputs)

    def log_probs(self, outputs: DetectorOutputs) -> Tensor:
        """`(B, K, *positions)` at the outputs' own places; alternative 0 is "no object"."""
        return self.log_probs_at(outputs, self.places(outputs))

    def log_probs_at(self, outputs: DetectorOutputs, places: object) -> Tensor:
        """`(B, K, *positions)` at given places."""
        assert places is None or isinstance(places, Tensor)
        return outputs.detector.log_probs(outputs, places)

    def targets(self, outputs: DetectorOutputs, truth: Tensor) -> Tensor:
        """None: which anchor stands for which object is the detector's own matter."""
        raise NotImplementedError("a detector matches its anchors to the truth inside its own loss")

    def loss(self, outputs: DetectorOutputs, truth: Tensor) -> Tensor:
        """The detector's training loss of each image, `(B,)`."""
        self.check_outputs(outputs, truth)
        return outputs.detector.loss(outputs, truth)

    def used_positions(self, outputs: DetectorOutputs, truth: Tensor) -> Tensor:
        """Bool `(B, *positions)`: where these outputs see an object with at least 0.05."""
        return _foreground(self.log_probs(outputs))

    def used_by_both(self, log_p: Tensor, log_q: Tensor, used: Tensor | None) -> Tensor:
        """Where either prediction sees an object with at least 0.05."""
        return _foreground(log_p) | _foreground(log_q)

    def predict(self, outputs: DetectorOutputs) -> Tensor:
        """Detections of at least `score`, `(B, N, 5)`, filled up with rows of class −1."""
        found = [self._counted(detections) for detections in outputs.detections]
        rows = [torch.cat([one.boxes, one.labels.unsqueeze(1).to(one.boxes)], 1) for one in found]
        return pad_boxes(rows).to(rows[0].device if rows else "cpu")

    def fooled(self, outputs: DetectorOutputs, truth: Tensor) -> Tensor:
        """Is the F1 of the image below `success_f1`?"""
        return self.image_metrics(outputs, truth)["f1"] < self.success_f1

    def worth(self, outputs: DetectorOutputs, truth: Tensor) -> Tensor:
        """The F1 of the image."""
        return self.image_metrics(outputs, truth)["f1"]

    def image_metrics(
        self, outputs: DetectorOutputs, truth: Tensor, spacing: Sequence[Spacing] | None = None
    ) -> dict[str, Tensor]:
        """`f1`, `false_positives` and `misses` of each image, `(B,)`, at `score` and `iou`.

        Detections are matched best first, each with the object of its class that it overlaps most and that is still
        free, as COCO does.
        """
        counts = []
        for detections, rows in zip(outputs.detections, truth, strict=True):
            found = self._counted(detections)
            objects = rows[rows[:, 4] != NO_BOX]
            hits = _matches(found, objects, self.iou)
            counts.append((hits, len(found.labels) - hits, len(objects) - hits))
        table = torch.tensor(counts, dtype=torch.float64, device=truth.device).reshape(-1, 3)
        hits_, false, missed = table.unbind(1)
        total = 2 * hits_ + false + missed
        f1 = torch.where(total > 0, 2 * hits_ / total.clamp_min(1), 1.0)
        return {"f1": f1, "false_positives": false, "misses": missed}

    def scores(self, outputs: DetectorOutputs) -> None:
        """None: the scores belong to the boxes, see `record_answers`."""

    def record_truth(self, truth: Tensor, spacing: Sequence[Spacing]) -> dict[str, list[object]]:
        """`truth`, the classes, and `truth_boxes` of each image."""
        objects = [rows[rows[:, 4] != NO_BOX] for rows in truth]
        return {
            "truth": [rows[:, 4].long().tolist() for rows in objects],
            "truth_boxes": [rows[:, :4].tolist() for rows in objects],
        }

    def record_answers(self, outputs: DetectorOutputs) -> dict[str, list[object]]:
        """`prediction`, `scores` and `boxes` of the best 100 detections of each image."""
        return {
            "prediction": [one.labels[:MOST_DETECTIONS].tolist() for one in outputs.detections],
            "scores": [one.scores[:MOST_DETECTIONS].tolist() for one in outputs.detections],
            "boxes": [one.boxes[:MOST_DETECTIONS].tolist() for one in outputs.detections],
        }

    def placed(self, truth: Tensor, placement: Placement, frame: torch.Size) -> Tensor:
        """The boxes where their images went."""
        return placement.boxes(truth, frame)

    def check_outputs(self, outputs: DetectorOutputs, truth: Tensor) -> None:
        """Raise `InputError` unless there is a truth `(N, 5)` for every image."""
        if not isinstance(outputs, DetectorOutputs):
            raise InputError(f"{self} needs a detector, the model gives a {type(outputs).__name__}")
        if truth.ndim != 3 or len(truth) != len(outputs) or truth.shape[2] != 5:
            raise InputError(f"{self} needs truth of shape ({len(outputs)}, N, 5), got {tuple(truth.shape)}")

    def check_truth(self, truth: Tensor) -> None:
        """Raise `InputError` unless the truth holds boxes with an area, of known classes."""
        if not isinstance(truth, Tensor) or not truth.is_floating_point() or truth.ndim != 3 or truth.shape[2] != 5:
            shape = f"{truth.dtype} {tuple(truth.shape)}" if isinstance(truth, Tensor) else type(truth).__name__
            raise InputError(f"truth must be float (B, N, 5) of x1, y1, x2, y2, class, got {shape}")
        rows = truth[truth[..., 4] != NO_BOX]
        if not bool(torch.isfinite(rows).all()):
            raise InputError("truth holds boxes that are not finite")
        wrong = (rows[:, 4] < 0) | (rows[:, 4] >= self.classes) | (rows[:, 4] != rows[:, 4].round())
        if bool(wrong.any()):
            bad = float(rows[wrong][0, 4])
            raise InputError(
                f"truth holds class {bad:g}; with classes={self.classes} they run from 0 to {self.classes - 1}"
            )
        flat = (rows[:, 0] >= rows[:, 2]) | (rows[:, 1] >= rows[:, 3])
        if bool(flat.any()):
            raise InputError(f"truth holds a box without area: {rows[flat][0, :4].tolist()} (x1, y1, x2, y2)")

    def _counted(self, detections: Detections) -> Detections:
        return detections.where(detections.scores >= self.score)


def _foreground(log_probs: Tensor) -> Tensor:
    """Where an object is seen: alternative 0 means that there is none."""
    return (1 - log_probs.detach()[:, 0].exp()) >= FOREGROUND


def _matches(found: Detections, objects: Tensor, least: float) -> int:
    """How many of the objects `(n, 5)` are found."""
    if not len(found.labels) or not len(objects):
        return 0
    overlap = box_iou(found.boxes.to(objects), objects[:, :4])
    overlap = torch.where(found.labels.unsqueeze(1).to(objects) == objects[:, 4], overlap, 0).cpu()
    hits = 0
    for row in overlap:
        best, place = row.max(0)
        if best >= least:
            overlap[:, place] = 0
            hits += 1
    return hits
