"""A part of an image that the truth names: inside or outside an organ, a lesion, the boxes of an object."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from medrobust.checks import at_least, boolean
from medrobust.errors import InputError


@dataclass(frozen=True)
class Region:
    """Where an image may change, by the classes of its own truth.

    Args:
        classes: indices of the classes (labels, when multi-label) that make it up, at least one.
        outside: all but these classes, not these.
        margin: pixels (voxels) by which the classes are extended first, along every axis and diagonally.

    An image without any of the classes may change nowhere (everywhere, when `outside`).

    Raises:
        InputError: an argument has no such value.
    """

    classes: Sequence[int]
    outside: bool = False
    margin: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.classes, tuple | list) or not self.classes:
            raise InputError(f"a region needs the indices of its classes, e.g. classes=(1,), got {self.classes!r}")
        for number in self.classes:
            at_least("a class of the region", number, 0)
        boolean("outside", self.outside)
        at_least("margin", self.margin, 0)
        object.__setattr__(self, "classes", tuple(int(number) for number in self.classes))

    def describe(self) -> dict[str, object]:
        """For records and reports."""
        return {"classes": list(self.classes), "outside": self.outside, "margin": self.margin}

    def mask(self, truth: Tensor, images: Tensor, classes: int | None = None) -> Tensor:
        """Where each image may change, bool `(B, 1, *spatial)`.

        Args:
            truth: segmentation `(B, *spatial)` or `(B, L, *spatial)`, or boxes `(B, N, 5)`: a pixel is in a box when
                its centre is.
            images: `(B, C, *spatial)`.
            classes: how many there are, if known.

        Raises:
            InputError: the truth has neither masks nor boxes, or there is no such class.
        """
        if classes is not None and max(self.classes) >= classes:
            raise InputError(f"a region names class {max(self.classes)}: there are {classes}, from 0 to {classes - 1}")
        truth = truth.to(images.device)
        spatial = tuple(images.shape[2:])
        if tuple(truth.shape[1:]) == spatial:
            inside = torch.isin(truth, torch.tensor(self.classes, device=truth.device))
        elif truth.ndim == images.ndim and tuple(truth.shape[2:]) == spatial:
            inside = (truth[:, list(self.classes)] == 1).any(1)
        elif truth.is_floating_point() and truth.ndim == 3 and truth.shape[2] == 5 and len(spatial) == 2:
            inside = self._in_boxes(truth, spatial)
        else:
            raise InputError(
                f"a region needs masks or boxes as the truth of images {tuple(images.shape)}, got {tuple(truth.shape)}"
            )
        grown = self._grown(inside.unsqueeze(1))
        return ~grown if self.outside else grown

    def _in_boxes(self, boxes: Tensor, size: Sequence[int]) -> Tensor:
        """Bool `(B, H, W)` of pixels in a box of the classes."""
        y, x = (torch.arange(length, device=boxes.device) + 0.5 for length in size)
        left, top, right, bottom, label = boxes.unbind(2)
        wanted = torch.isin(label, torch.tensor(self.classes, device=boxes.device, dtype=label.dtype))
        across = (x >= left.unsqueeze(2)) & (x <= right.unsqueeze(2)) & wanted.unsqueeze(2)  # (B, N, W)
        down = (y >= top.unsqueeze(2)) & (y <= bottom.unsqueeze(2))  # (B, N, H)
        # a product over the boxes, not (B, N, H, W)
        return torch.einsum("bnh,bnw->bhw", down.float(), across.float()) > 0

    def _grown(self, inside: Tensor) -> Tensor:
        """`(B, 1, *spatial)`, extended by the margin."""
        if not self.margin or not len(inside):
            return inside
        pool = F.max_pool2d if inside.ndim == 4 else F.max_pool3d
        return pool(inside.float(), 2 * self.margin + 1, stride=1, padding=self.margin) > 0
