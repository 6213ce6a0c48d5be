"""Threats of a few numbers an image: each within ±eps, and a smooth change made of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
from torch import Tensor

from medrobust.checks import at_least
from medrobust.threat.drawing import uniform
from medrobust.threat.pixels import Threat
from medrobust.threat.quantisation import rounded_to_nearest
from medrobust.threat.space import Bounds, Space, per_image


@dataclass(frozen=True, eq=False)
class ControlThreat(Threat, ABC):
    """Base of the families whose variables are not the image's values."""

    pixels: ClassVar[bool] = False

    def __post_init__(self) -> None:
        self._check_options()

    def _check_grid(self, grid: int, usual: int) -> None:
        """Raise `InputError` unless the grid is one; another than the usual is part of the norm's name."""
        at_least("grid", grid, 2)
        if grid != usual:
            object.__setattr__(self, "norm", f"{self.norm} grid {grid}")

    @abstractmethod
    def space(self, clean: Tensor, bounds: Bounds) -> Space:
        """What may be chosen around the clean images."""

    def finish(self, clean: Tensor, adversarial: Tensor, bounds: Bounds) -> Tensor:
        """The image as saving it would round it: every value on the grid of `quantum`, within half a step."""
        if self.quantum is None:
            return adversarial
        return rounded_to_nearest(clean, adversarial, bounds, self.quantum, self.origin)


@dataclass(frozen=True, eq=False)
class ControlSpace(ABC):
    """A `Space` of variables within ±radius that change the image by a family's rule; zeros leave it as it is.

    Attributes:
        clean: `(B, C, *spatial)`.
        bounds: of the data.
        radius: `(B,)`, in the family's unit.
        free: bool like `clean`, where the change applies; None is everywhere.
    """

    clean: Tensor
    bounds: Bounds
    radius: Tensor
    free: Tensor | None

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Of one image's variables."""

    @abstractmethod
    def changed(self, variables: Tensor) -> Tensor:
        """The changed images `(B, C, *spatial)`, bounds and mask still aside; exactly the clean ones for zeros."""

    def start(self) -> Tensor:
        """Zeros."""
        return self.clean.new_zeros(len(self.clean), *self.shape)

    def random_start(self, generators: Sequence[torch.Generator]) -> Tensor:
        """Uniform within ±radius."""
        start = self.start()
        return per_image(self.radius, start) * uniform(start, generators)

    def images(self, variables: Tensor) -> Tensor:
        """The changed images, clipped to the bounds, the clean ones where no change may be."""
        images = self.changed(variables).clamp(*self.bounds)
        return images if self.free is None else torch.where(self.free, images, self.clean)

    def project_(self, variables: Tensor) -> None:
        """Clamp to ±radius."""
        radius = per_image(self.radius, variables)
        torch.clamp(variables, -radius, radius, out=variables)

    def steepest(self, gradient: Tensor, at: Tensor | None = None) -> Tensor:
        """The sign."""
        return gradient.sign()

    def allowed(self, gradient: Tensor) -> Tensor:
        """The gradient: every variable may change."""
        return gradient

    def truth(self, truth: Tensor, variables: Tensor) -> Tensor:
        """The truth as it is."""
        return truth

    def rows(self, index: Tensor) -> Self:
        """The space of some of the images."""
        free = None if self.free is None else self.free[index]
        return replace(self, clean=self.clean[index], radius=self.radius[index], free=free)
