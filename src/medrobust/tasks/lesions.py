"""Volumes of masks, and lesions one by one: how large each is, and how much of it an answer covers."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from medrobust.tasks.surface import Spacing


@dataclass(frozen=True)
class Lesion:
    """A connected part of a true mask.

    Attributes:
        volume: in the unit of `volume_unit`.
        covered: share of its pixels that the answer gives its class, in [0, 1].
    """

    volume: float
    covered: float


def volume_unit(spacing: Spacing, dims: int) -> tuple[str, float]:
    """The unit in which a mask's size is told, and the size of a pixel in it.

    Where the spacing is known, "ml" for volumes and "mm²" for images of two axes; else "voxels" or "pixels".
    """
    if spacing is None:
        return ("voxels" if dims == 3 else "pixels"), 1.0
    return ("ml", math.prod(spacing) / 1000) if dims == 3 else ("mm²", math.prod(spacing))


def missed_volumes(answer: Tensor, wanted: Tensor, sizes: list[float]) -> Tensor:
    """How much of each class is not found, float64 `(B, n)`, of bool masks `(B, n, *spatial)`.

    Args:
        answer, wanted: the masks.
        sizes: of a pixel of each image.
    """
    counts = (wanted & ~answer).flatten(2).sum(2).double()
    return counts * torch.tensor(sizes, dtype=torch.float64, device=counts.device).unsqueeze(1)


def lesions_of(answer: Tensor, wanted: Tensor, size: float) -> list[Lesion]:
    """The lesions of one class in one image, in the order in which they are met.

    Pixels that touch by a face, an edge or a corner are of one lesion.

    Args:
        answer, wanted: bool `(*spatial)`.
        size: of a pixel.
    """
    labels, count = ndimage.label(wanted.cpu().numpy(), ndimage.generate_binary_structure(wanted.ndim, wanted.ndim))
    pixels = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    found = np.bincount(labels[answer.cpu().numpy()], minlength=count + 1)[1:]
    return [Lesion(float(n * size), float(k / n)) for n, k in zip(pixels, found, strict=True)]
