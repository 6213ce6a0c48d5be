"""Changes that scanners make without anybody's will: contrast and brightness, the bias field of a coil.

Each is a smooth function of few numbers, so an attack looks for the worst acquisition, not for the worst noise.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from medrobust.threat.controls import ControlSpace, ControlThreat
from medrobust.threat.lattice import Lattice
from medrobust.threat.space import Bounds, Space


@dataclass(frozen=True, eq=False, kw_only=True)
class Contrast(ControlThreat):
    """Contrast and brightness, of the whole image: x' = m + (1 + c)·(x − m) + b·width, |c| ≤ eps, |b| ≤ eps.

    m is the image's mean and width that of the bounds; the result is clipped to them. It is the linear case of
    functional attacks, one function for all values (Laidlaw & Feizi, arXiv 1906.00001). Variables `(B, 2)`: c and b.
    With a mask or region the change applies only there; m stays that of the whole image.

    Args:
        eps: a share: 0.05 is 5 % more or less contrast, and 5 % of the width brighter or darker.
        mask, quantum, origin, region: as of `Threat`.
    """

    norm: str = field(default="contrast", init=False)

    unit: ClassVar[str | None] = "%"

    def space(self, clean: Tensor, bounds: Bounds) -> Space:
        """What may be chosen around the clean images."""
        return _ContrastSpace(clean, bounds, self._radius(clean), self._free(clean))


@dataclass(frozen=True, eq=False, kw_only=True)
class BiasField(ControlThreat):
    """A smooth field by which the signal is multiplied: x' = lo + (x − lo)·(1 + f), |f| ≤ eps everywhere.

    Like the inhomogeneity of an MR coil, whose worst case Chen et al. (arXiv 2006.13322) search for by B-splines too.
    lo is the lower bound, no signal; the result is clipped to the bounds. f is the cubic B-spline of the variables
    `(B, 1, grid, grid)` (`(B, 1, grid, grid, grid)` of volumes), the same for all channels. With a mask or region the
    field applies only there.

    Args:
        eps: a share: 0.1 is up to 10 % more or less signal.
        grid: control values along every axis, at least 2; another than 4 is part of the norm's name.
        mask, quantum, origin, region: as of `Threat`.
    """

    norm: str = field(default="bias field", init=False)
    grid: int = 4

    unit: ClassVar[str | None] = "%"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_grid(self.grid, usual=4)

    def space(self, clean: Tensor, bounds: Bounds) -> Space:
        """What may be chosen around the clean images."""
        lattice = Lattice.over(clean, self.grid)
        return _BiasSpace(clean, bounds, self._radius(clean), self._free(clean), lattice)


class _ContrastSpace(ControlSpace):
    @property
    def shape(self) -> tuple[int, ...]:
        return (2,)

    def changed(self, variables: Tensor) -> Tensor:
        axes = tuple(range(1, self.clean.ndim))
        from_mean = self.clean - self.clean.mean(axes, keepdim=True)
        contrast, brightness = variables.reshape(-1, 2, *[1] * (self.clean.ndim - 1)).unbind(1)
        # as what is added: the clean image stays exactly as it is without a change
        return self.clean + contrast * from_mean + brightness * (self.bounds[1] - self.bounds[0])


@dataclass(frozen=True, eq=False)
class _BiasSpace(ControlSpace):
    lattice: Lattice

    @property
    def shape(self) -> tuple[int, ...]:
        return (1, *self.lattice.shape)

    def changed(self, variables: Tensor) -> Tensor:
        return torch.addcmul(self.clean, self.clean - self.bounds[0], self.lattice.field(variables))
