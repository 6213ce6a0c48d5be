"""Boxes of objects in an image: what a detection data set knows of them, and their place in the image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from medrobust.errors import BadSampleError

_SLACK = 1e-3  # pixels by which a corner may lie outside by rounding alone


@dataclass(frozen=True)
class Box:
    """One object.

    Attributes:
        corners: x1, y1, x2, y2 from the image's upper left corner, in pixels or as shares of its width and height.
        label: its class, counted from 0.
        place: where it stands, for an error: "frame7.txt, row 3".
    """

    corners: tuple[float, float, float, float]
    label: int
    place: str = ""


@dataclass(frozen=True)
class BoxTruth:
    """The objects of one image; `relative` when their corners are shares of its size."""

    boxes: tuple[Box, ...] = ()
    relative: bool = False


def box_tensor(truth: BoxTruth, size: Sequence[int], image: str) -> Tensor:
    """The boxes as `(n, 5)` float32: x1, y1, x2, y2 in pixels, class.

    Args:
        truth: the boxes.
        size: (height, width) of the image.
        image: its name, for errors.

    Raises:
        BadSampleError: a box is not finite, has no area, or lies outside the image.
    """
    height, width = size
    rows = [[*_in_pixels(box, truth.relative, height, width, image), float(box.label)] for box in truth.boxes]
    return torch.tensor(rows, dtype=torch.float32).reshape(-1, 5)


def resize_boxes(boxes: Tensor, before: Sequence[int], after: Sequence[int]) -> Tensor:
    """Boxes `(n, 5)` of an image of (height, width) `before` in the same image at the size `after`."""
    down, across = (new / old for old, new in zip(before, after, strict=True))
    return boxes * torch.tensor([across, down, across, down, 1.0])


def _in_pixels(box: Box, relative: bool, height: int, width: int, image: str) -> tuple[float, float, float, float]:
    across, down = (width, height) if relative else (1, 1)
    x1, y1, x2, y2 = box.corners
    corners = (x1 * across, y1 * down, x2 * across, y2 * down)
    place = f"{box.place}: " if box.place else ""
    if not all(map(math.isfinite, corners)):
        raise BadSampleError(f"{place}a box of {image} has corners that are not finite numbers: mend it")
    shown = ", ".join(f"{corner:g}" for corner in corners)
    if corners[0] >= corners[2] or corners[1] >= corners[3]:
        raise BadSampleError(f"{place}the box {shown} (x1, y1, x2, y2) of {image} has no area: mend it or leave it out")
    if min(corners) < -_SLACK or corners[2] > width + _SLACK or corners[3] > height + _SLACK:
        raise BadSampleError(
            f"{place}the box {shown} (x1, y1, x2, y2) lies outside {image}, which is {width} × {height}: mend it"
        )
    return (max(corners[0], 0.0), max(corners[1], 0.0), min(corners[2], width), min(corners[3], height))
