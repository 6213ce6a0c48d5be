"""Segmentation: a class (or several labels) for every pixel or voxel."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics.functional.segmentation import dice_score

from medrobust.errors import InputError
from medrobust.tasks.placement import Placement
from medrobust.tasks.task import IGNORED, Task, check_truth_range


class Segmentation(Task[Tensor]):
    """One answer per pixel, `(H, W)` or `(D, H, W)`.

    Args:
        classes: number of classes with the background as class 0 (of labels, when `multilabel`).
        multilabel: every class is a mask of its own; outputs are `(B, classes, *spatial)` logits and truth is
            `(B, classes, *spatial)` of 0/1. There is no background then.
        ignore_index: the truth's value of a pixel that counts neither in the loss nor in any metric.
        success_dice: an image counts as right while its mean Dice over the classes is at least this.

    Two classes may come as two logits or as one, `(B, 1, *spatial)`: the logit of class 1.
    """

    dense = True

    def __init__(
        self,
        classes: int,
        *,
        multilabel: bool = False,
        ignore_index: int | None = None,
        success_dice: float = 0.5,
    ) -> None:
        if classes < (1 if multilabel else 2):
            raise InputError(f"segmentation needs at least 2 classes with the background (1 label), got {classes}")
        if not 0 < success_dice <= 1:
            raise InputError(f"success_dice must be in (0, 1], got {success_dice}")
        self.name = "segmentation"
        self.classes = classes
        self.multilabel = multilabel
        self.ignore_index = ignore_index
        self.success_dice = success_dice

    def __repr__(self) -> str:
        return f"Segmentation(classes={self.classes}, multilabel={self.multilabel})"

    @property
    def can_ignore(self) -> bool:
        """Whether pixels may be ignored."""
        return self.ignore_index is not None

    def log_probs(self, outputs: Tensor) -> Tensor:
        """`(B, K, *spatial)`; `(B, 2, *spatial)` for one logit; `(B, 2, L, *spatial)` for L labels."""
        if self.multilabel:
            return torch.stack([F.logsigmoid(-outputs), F.logsigmoid(outputs)], 1)
        if outputs.shape[1] == 1:
            return torch.cat([F.logsigmoid(-outputs), F.logsigmoid(outputs)], 1)
        return F.log_softmax(outputs, 1)

    def targets(self, outputs: Tensor, truth: Tensor) -> Tensor:
        """The truth with ignored pixels as −1."""
        return truth if self.ignore_index is None else truth.masked_fill(truth == self.ignore_index, IGNORED)

    def predict(self, outputs: Tensor) -> Tensor:
        """`(B, *spatial)` class per pixel, or `(B, L, *spatial)` of 0/1 when multi-label."""
        if self.multilabel:
            return (outputs > 0).long()
        if outputs.shape[1] == 1:
            return (outputs.squeeze(1) > 0).long()
        return outputs.argmax(1)

    def fooled(self, outputs: Tensor, truth: Tensor) -> Tensor:
        """Is the mean Dice of the image below `success_dice`?"""
        return self.image_metrics(outputs, truth)["dice"] < self.success_dice

    def image_metrics(self, outputs: Tensor, truth: Tensor) -> dict[str, Tensor]:
        """Dice and IoU of each image: mean over the classes present in truth or answer, and one by one.

        `dice`, `iou` are `(B,)`; `dice_by_class`, `iou_by_class` are `(B, n)` over the foreground classes, NaN
        where a class is in neither. An image with no class anywhere, found empty, has 1.
        """
        answer, wanted = self._masks(self.predict(outputs)), self._masks(truth)
        if self.ignore_index is not None:
            used = truth != self.ignore_index
            used = used if self.multilabel else used.unsqueeze(1)
            answer, wanted = answer & used, wanted & used
        dice = dice_score(
            answer.int(),
            wanted.int(),
            num_classes=answer.shape[1],
            include_background=True,  # the masks hold the foreground alone
            average="none",
            input_format="one-hot",
        )
        iou = dice / (2 - dice)
        return {
            "dice": dice.nanmean(1).nan_to_num(1.0),
            "iou": iou.nanmean(1).nan_to_num(1.0),
            "dice_by_class": dice,
            "iou_by_class": iou,
        }

    def _masks(self, labels: Tensor) -> Tensor:
        """Bool masks of the foreground classes, `(B, n, *spatial)`."""
        if self.multilabel:
            return labels == 1
        foreground = torch.arange(1, self.classes, device=labels.device)
        return labels.unsqueeze(1) == foreground.view(1, -1, *[1] * (labels.ndim - 1))

    def scores(self, outputs: Tensor) -> None:
        """None: a dense answer is too large for a record."""

    def placed(self, truth: Tensor, placement: Placement, frame: torch.Size) -> Tensor:
        """The class maps where their images went, with background (what is to be ignored, if there is such) around."""
        fill = 0 if self.ignore_index is None else self.ignore_index
        return placement.labels(truth, fill, axes=len(frame))

    def check_outputs(self, outputs: Tensor, truth: Tensor) -> None:
        """Raise `InputError` unless both are shaped as the class docstring says."""
        one_logit = outputs.ndim > 1 and outputs.shape[1] == 1 and self.classes == 2 and not self.multilabel
        if outputs.ndim < 4 or (outputs.shape[1] != self.classes and not one_logit):
            raise InputError(f"{self} needs model outputs (B, {self.classes}, *spatial), got {tuple(outputs.shape)}")
        expected = tuple(outputs.shape) if self.multilabel else (len(outputs), *outputs.shape[2:])
        if tuple(truth.shape) != expected:
            raise InputError(f"{self} needs truth of shape {expected}, got {tuple(truth.shape)}")

    def check_truth(self, truth: Tensor) -> None:
        """Raise `InputError` unless the truth holds class indices (0/1, when multi-label) and `ignore_index`."""
        check_truth_range(truth, 2 if self.multilabel else self.classes, self.ignore_index)
