"""Images made smaller and put somewhere into their own frame, with their truth kept in register."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from medrobust.data.dataset import NO_BOX

_LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}


@dataclass(frozen=True)
class Placement:
    """Where each image of a batch goes.

    Attributes:
        sizes: per image its new extent along each spatial axis, at most the old one.
        corners: per image the place of its first pixel along each axis, so that it stays inside the frame.
    """

    sizes: Sequence[tuple[int, ...]]
    corners: Sequence[tuple[int, ...]]

    def rows(self, places: Sequence[int]) -> Placement:
        """Of some of the images, or of some of them several times."""
        return Placement([self.sizes[place] for place in places], [self.corners[place] for place in places])

    def images(self, images: Tensor, fill: float) -> Tensor:
        """`(B, C, *spatial)`, resized linearly, with `fill` around; differentiable."""
        mode = _LINEAR[images.ndim - 2]
        return torch.cat(
            [
                _framed(F.interpolate(image, size, mode=mode, align_corners=False), corner, image.shape[2:], fill)
                if size != tuple(image.shape[2:])
                else image
                for image, size, corner in zip(torch.split(images, 1), self.sizes, self.corners, strict=True)
            ]
        )

    def labels(self, labels: Tensor, fill: int, axes: int) -> Tensor:
        """Class maps `(B, …, *spatial)` int64 of `axes` spatial axes, by the nearest pixel, with `fill` around."""
        maps = labels.reshape(len(labels), -1, *labels.shape[-axes:]).double()
        placed = [
            _framed(F.interpolate(one, size, mode="nearest-exact"), corner, one.shape[2:], fill)
            if size != tuple(one.shape[2:])
            else one
            for one, size, corner in zip(torch.split(maps, 1), self.sizes, self.corners, strict=True)
        ]
        return torch.cat(placed).long().reshape(labels.shape)

    def boxes(self, boxes: Tensor, frame: Sequence[int]) -> Tensor:
        """Boxes `(B, N, 5)` of images of (height, width) `frame`; rows that only fill up stay as they are."""
        height, width = frame
        ratios = boxes.new_tensor([[w / width, h / height] * 2 for h, w in self.sizes]).unsqueeze(1)
        shifts = boxes.new_tensor([[x, y] * 2 for y, x in self.corners]).unsqueeze(1)
        moved = torch.cat([boxes[..., :4] * ratios + shifts, boxes[..., 4:]], -1)
        return torch.where(boxes[..., 4:] == NO_BOX, boxes, moved)


def _framed(image: Tensor, corner: Sequence[int], frame: Sequence[int], fill: float) -> Tensor:
    # F.pad counts axes from the last
    ends = [
        end
        for before, length, whole in zip(reversed(corner), reversed(image.shape[2:]), reversed(frame), strict=True)
        for end in (before, whole - before - length)
    ]
    return F.pad(image, ends, value=fill)
