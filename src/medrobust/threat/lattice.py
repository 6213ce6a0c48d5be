"""Smooth fields over an image from a few numbers: cubic B-splines on a coarse lattice of control values.

The splines are those of free-form deformations (Rueckert et al. 1999, doi 10.1109/42.796284). At every pixel they are
weights ≥ 0 that sum to 1: a field lies within the range of its control values everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Lattice:
    """Control values, as many along every spatial axis, the outer ones on the image's rim.

    Attributes:
        weights: for each spatial axis `(length, grid)`, how much a control value counts at a pixel.
    """

    weights: tuple[Tensor, ...]

    @classmethod
    def over(cls, images: Tensor, grid: int) -> Lattice:
        """The lattice of `grid` values an axis over images `(B, C, *spatial)`, in their dtype."""
        return cls(tuple(_weights(length, grid).to(images) for length in images.shape[2:]))

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one field's control values."""
        return tuple(axis.shape[1] for axis in self.weights)

    def field(self, controls: Tensor) -> Tensor:
        """Control values `(B, K, *grid)` → smooth fields `(B, K, *spatial)`; linear, differentiable."""
        for axis, weights in enumerate(self.weights, start=2):
            controls = torch.movedim(torch.movedim(controls, axis, -1) @ weights.T, -1, axis)
        return controls


def _weights(length: int, grid: int) -> Tensor:
    """`(length, grid)` float64; beyond the rim the outer control value goes on."""
    place = torch.arange(length, dtype=torch.float64) * ((grid - 1) / max(length - 1, 1))
    first = place.floor()
    t = place - first
    taps = torch.stack([(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3], 1) / 6
    index = (first.long().unsqueeze(1) + torch.arange(-1, 3)).clamp(0, grid - 1)
    return torch.zeros(length, grid, dtype=torch.float64).scatter_add_(1, index, taps)
