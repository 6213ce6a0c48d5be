"""Segmentation: a class (or several labels) for every pixel or voxel."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics.functional.segmentation import dice_score

from medrobust.checks import positive
from medrobust.errors import InputError
from medrobust.tasks.lesions import Lesion, lesions_of, missed_volumes, volume_unit
from medrobust.tasks.placement import Placement
from medrobust.tasks.surface import Spacing, surface_metrics
from medrobust.tasks.task import IGNORED, Task, check_truth_range


class Segmentation(Task[Tensor]):
    """One answer per pixel, `(H, W)` or `(D, H, W)`.

    Args:
        classes: number of classes with the background as class 0 (of labels, when `multilabel`).
        multilabel: every class is a mask of its own; outputs are `(B, classes, *spatial)` logits and truth is
            `(B, classes, *spatial)` of 0/1. There is no background then.
        ignore_index: the truth's value of a pixel that counts neither in the loss nor in any metric.
        success_dice: an image counts as right while its mean Dice over the classes is at least this.
        surface_tolerance: millimetres within which two borders agree, for the surface Dice.
        lesion_classes: the classes (labels) whose connected parts are lesions, to be counted one by one.

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
        surface_tolerance: float = 2.0,
        lesion_classes: Sequence[int] = (),
    ) -> None:
        if classes < (1 if multilabel else 2):
            raise InputError(f"segmentation needs at least 2 classes with the background (1 label), got {classes}")
        if not 0 < success_dice <= 1:
            raise InputError(f"success_dice must be in (0, 1], got {success_dice}")
        positive("surface_tolerance", surface_tolerance)
        first = 0 if multilabel else 1
        if not all(type(number) is int and first <= number < classes for number in lesion_classes):
            raise InputError(f"lesion_classes must be among {first} to {classes - 1}, got {list(lesion_classes)}")
        self.name = "segmentation"
        self.classes = classes
        self.multilabel = multilabel
        self.ignore_index = ignore_index
        self.success_dice = success_dice
        self.surface_tolerance = surface_tolerance
        self.lesion_classes = tuple(lesion_classes)

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

    def worth(self, outputs: Tensor, truth: Tensor) -> Tensor:
        """The mean Dice of the image."""
        return self.image_metrics(outputs, truth)["dice"]

    def image_metrics(
        self, outputs: Tensor, truth: Tensor, spacing: Sequence[Spacing] | None = None
    ) -> dict[str, Tensor]:
        """Metrics of each image: over the classes together `(B,)`, and one by one ("_by_class") `(B, n)`.

        `dice` and `iou`: the mean over the foreground classes present in truth or answer, NaN by class where it is in
        neither. An image with no class anywhere, found empty, has 1. With `spacing` besides: `hd95` (mm) and
        `surface_dice` at `surface_tolerance`, see `surface_metrics`; and `missed_volume`, the true pixels of a class
        that are not given it, in the unit of `volume_unit`, summed over the classes.
        """
        answer, wanted = self._used_masks(outputs, truth)
        dice = dice_score(
            answer.int(),
            wanted.int(),
            num_classes=answer.shape[1],
            include_background=True,  # the masks hold the foreground alone
            average="none",
            input_format="one-hot",
        )
        iou = dice / (2 - dice)
        metrics = {
            "dice": dice.nanmean(1).nan_to_num(1.0),
            "iou": iou.nanmean(1).nan_to_num(1.0),
            "dice_by_class": dice,
            "iou_by_class": iou,
        }
        if spacing is None:
            return metrics
        sizes = [volume_unit(one, answer.ndim - 2)[1] for one in spacing]
        missed = missed_volumes(answer, wanted, sizes)
        return {
            **metrics,
            **surface_metrics(answer, wanted, spacing, self.surface_tolerance),
            "missed_volume": missed.sum(1),
            "missed_volume_by_class": missed,
        }

    def lesions(self, outputs: Tensor, truth: Tensor, spacing: Sequence[Spacing]) -> list[list[Lesion]] | None:
        """The connected parts of the truth's `lesion_classes`, image by image; None when there are none such."""
        if not self.lesion_classes:
            return None
        answer, wanted = self._used_masks(outputs, truth)
        first = 0 if self.multilabel else 1
        return [
            [
                lesion
                for number in self.lesion_classes
                for lesion in lesions_of(found[number - first], true[number - first], size)
            ]
            for found, true, size in zip(
                answer, wanted, (volume_unit(one, answer.ndim - 2)[1] for one in spacing), strict=True
            )
        ]

    def _used_masks(self, outputs: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
        """Bool masks of answer and truth, `(B, n, *spatial)`, both empty where the truth is to be ignored."""
        answer, wanted = self._masks(self.predict(outputs)), self._masks(truth)
        if self.ignore_index is None:
            return answer, wanted
        used = truth != self.ignore_index
        used = used if self.multilabel else used.unsqueeze(1)
        return answer & used, wanted & used

    def _masks(self, labels: Tensor) -> Tensor:
        """Bool masks of the foreground classes, `(B, n, *spatial)`."""
        if self.multilabel:
            return labels == 1
        foreground = torch.arange(1, self.classes, device=labels.device)
        return labels.unsqueeze(1) == foreground.view(1, -1, *[1] * (labels.ndim - 1))

    def scores(self, outputs: Tensor) -> None:
        """None: a dense answer is too large for a record."""

    def record_truth(self, truth: Tensor, spacing: Sequence[Spacing]) -> dict[str, list[object]]:
        """The unit of the volumes; a mask is too large for a record."""
        axes = truth.ndim - (2 if self.multilabel else 1)
        return {"volume_unit": [volume_unit(step, axes)[0] for step in spacing]}

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
