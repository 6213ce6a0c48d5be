"""Smooth deformation of the anatomy, and of its masks with it."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import product
from typing import ClassVar

import torch
from torch import Tensor

from medrobust.errors import InputError
from medrobust.threat.controls import ControlSpace, ControlThreat
from medrobust.threat.lattice import Lattice
from medrobust.threat.pixels import Threat
from medrobust.threat.space import Bounds, Space


@dataclass(frozen=True, eq=False, kw_only=True)
class Deformation(ControlThreat):
    """A smooth displacement: x'(p) = x(p + u(p)), |u| ≤ eps pixels (voxels) along each axis.

    u is the cubic B-spline of the variables `(B, axes, grid, …)`, as in free-form deformation (Rueckert et al. 1999,
    doi 10.1109/42.796284); worst-case deformations of images are those of Xiao et al. (arXiv 1801.02612). Values
    between pixels are interpolated linearly, those beyond the rim are the rim's. Class maps move along, by the nearest
    pixel; labels stay, and so does a target, which is of the pixels. The image cannot fold while
    eps < (length − 1)/(2·axes·(grid − 1)) for the length of every axis.

    Args:
        eps: in pixels (voxels) of the images as the attack is given them.
        grid: control values along every axis, at least 2; another than 4 is part of the norm's name.
        quantum, origin: as of `Threat`; a mask or region is refused.
    """

    norm: str = field(default="deformation", init=False)
    grid: int = 4

    unit: ClassVar[str | None] = "pixels"
    moves_truth: ClassVar[bool] = True
    # between two pixels a value is blurred and a mask, which moves by whole pixels, is off by up to half of one
    ripple: ClassVar[float | None] = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_grid(self.grid, usual=4)
        if self.mask is not None or self.region is not None:
            raise InputError("a deformation moves the whole image: it takes no mask or region")

    def for_truth(self, truth: Tensor, images: Tensor, classes: int | None = None) -> Threat:
        """The threat itself.

        Raises:
            InputError: the truth is boxes, which cannot be moved along.
        """
        _check_moves(truth)
        return self

    def space(self, clean: Tensor, bounds: Bounds) -> Space:
        """What may be chosen around the clean images."""
        return _DeformationSpace(clean, bounds, self._radius(clean), None, Lattice.over(clean, self.grid))


@dataclass(frozen=True, eq=False)
class _DeformationSpace(ControlSpace):
    lattice: Lattice

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.clean.ndim - 2, *self.lattice.shape)

    def changed(self, variables: Tensor) -> Tensor:
        spatial = self.clean.shape[2:]
        places = self._places(variables)
        firsts = [place.detach().floor() for place in places]
        parts = [place - first for place, first in zip(places, firsts, strict=True)]
        values = self.clean.flatten(2)
        changed = torch.zeros_like(values)
        # own interpolation: grid_sample's coordinates round, and would change an image that is not displaced
        for corner in product((0, 1), repeat=len(spatial)):
            index = [first + step for first, step in zip(firsts, corner, strict=True)]
            weight = torch.ones_like(parts[0])
            for part, step in zip(parts, corner, strict=True):
                weight = weight * (part if step else 1 - part)
            picked = values.gather(2, _flat(index, spatial).flatten(1).unsqueeze(1).expand(-1, values.shape[1], -1))
            changed = changed + weight.flatten(1).unsqueeze(1) * picked
        return changed.view_as(self.clean)

    def truth(self, truth: Tensor, variables: Tensor) -> Tensor:
        """Class maps `(B, *spatial)` or `(B, L, *spatial)` moved along; labels `(B,)`, `(B, L)` as they are."""
        _check_moves(truth)
        if truth.ndim <= 2:
            return truth
        spatial = self.clean.shape[2:]
        index = _flat([place.round() for place in self._places(variables.detach())], spatial).flatten(1)
        maps = truth.reshape(len(truth), -1, index.shape[1])
        return maps.gather(2, index.to(truth.device).unsqueeze(1).expand_as(maps)).view_as(truth)

    def _places(self, variables: Tensor) -> list[Tensor]:
        """For each axis where every pixel's value is taken from, `(B, *spatial)` within the image."""
        moves = self.lattice.field(variables)
        places = []
        for axis, length in enumerate(self.clean.shape[2:]):
            own = torch.arange(length, device=moves.device, dtype=moves.dtype)
            own = own.reshape(-1, *[1] * (self.clean.ndim - 3 - axis))
            places.append((own + moves[:, axis]).clamp(0, length - 1))
        return places


def _flat(index: list[Tensor], spatial: torch.Size) -> Tensor:
    """Whole-numbered places along each axis as places in the flattened image, int64; beyond its end is its end."""
    flat = torch.zeros_like(index[0], dtype=torch.int64)
    for place, length in zip(index, spatial, strict=True):
        flat = flat * length + place.long().clamp_max(length - 1)
    return flat


def _check_moves(truth: Tensor) -> None:
    if truth.is_floating_point() and truth.ndim == 3 and truth.shape[2] == 5:
        raise InputError("a deformation cannot move boxes: it is for classification or masks")
