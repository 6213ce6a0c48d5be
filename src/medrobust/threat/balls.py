"""The balls of changes to the image's own values: L∞ and L2, cut to the bounds and to where a change may be."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

import torch
from torch import Tensor

from medrobust.threat.drawing import drawn, uniform
from medrobust.threat.space import TINY, Bounds, per_image


@dataclass(frozen=True, eq=False)
class PixelSpace(ABC):
    """A `Space` whose variables are the images themselves.

    Attributes:
        clean: `(B, C, *spatial)`.
        bounds: of the data.
        radius: `(B,)`, in data units.
        free: bool like `clean`, where a value may change; None is everywhere.
    """

    clean: Tensor
    bounds: Bounds
    radius: Tensor
    free: Tensor | None

    def start(self) -> Tensor:
        """The clean images."""
        return self.clean

    @abstractmethod
    def random_start(self, generators: Sequence[torch.Generator]) -> Tensor:
        """A uniform draw from each image's ball, cut to the bounds."""

    def images(self, variables: Tensor) -> Tensor:
        """The variables themselves."""
        return variables

    @abstractmethod
    def project_(self, variables: Tensor) -> None:
        """Make them the nearest allowed images, in place."""

    @abstractmethod
    def steepest(self, gradient: Tensor, at: Tensor | None = None) -> Tensor:
        """The step of unit norm along which the loss rises fastest."""

    def allowed(self, gradient: Tensor) -> Tensor:
        """The gradient where a value may change, zero elsewhere."""
        return gradient if self.free is None else torch.where(self.free, gradient, 0)

    def truth(self, truth: Tensor, variables: Tensor) -> Tensor:
        """The truth as it is."""
        return truth

    def rows(self, index: Tensor) -> Self:
        """The space of some of the images."""
        free = None if self.free is None else self.free[index]
        return replace(self, clean=self.clean[index], radius=self.radius[index], free=free)

    def free_values(self) -> Tensor:
        """How many values of each image may change, `(B,)`, at least 1."""
        if self.free is None:
            return torch.full_like(self.radius, max(1, self.clean[0].numel()))
        return self.free.flatten(1).sum(1).clamp_min(1).to(self.radius)


class LInfBall(PixelSpace):
    """Every value within `radius` of the clean one."""

    @cached_property
    def limits(self) -> tuple[Tensor, Tensor]:
        """The least and the greatest allowed value of every pixel."""
        radius = per_image(self.radius, self.clean)
        low, high = (self.clean - radius).clamp_min_(self.bounds[0]), (self.clean + radius).clamp_max_(self.bounds[1])
        if self.free is not None:
            low, high = torch.where(self.free, low, self.clean), torch.where(self.free, high, self.clean)
        return low, high

    def random_start(self, generators: Sequence[torch.Generator]) -> Tensor:
        """Uniform in the cube."""
        start = self.clean + per_image(self.radius, self.clean) * uniform(self.clean, generators)
        self.project_(start)
        return start

    def project_(self, variables: Tensor) -> None:
        """Clamp."""
        torch.clamp(variables, *self.limits, out=variables)

    def steepest(self, gradient: Tensor, at: Tensor | None = None) -> Tensor:
        """The sign."""
        return gradient.sign()


class L2Ball(PixelSpace):
    """The whole change of an image at most `radius` long: cut to that length, then to the bounds."""

    def random_start(self, generators: Sequence[torch.Generator]) -> Tensor:
        """Uniform in the ball of the values that may change: a uniform direction, of length radius · U^(1/n)."""
        direction = self.steepest(self.allowed(drawn(torch.randn, self.clean, generators)))
        length = self.radius * drawn(torch.rand, self.radius, generators) ** (1 / self.free_values())
        start = self.clean + direction * per_image(length, self.clean)
        self.project_(start)
        return start

    def project_(self, variables: Tensor) -> None:
        """Scale the change, then clamp."""
        delta = self.allowed(variables - self.clean)
        length = torch.maximum(delta.flatten(1).norm(dim=1), self.radius.clamp_min(TINY))
        delta *= per_image(self.radius / length, delta)
        torch.add(self.clean, delta, out=variables).clamp_(*self.bounds)

    def steepest(self, gradient: Tensor, at: Tensor | None = None) -> Tensor:
        """The gradient at unit length."""
        # by the largest entry first: the squares of a tiny gradient would be lost
        scaled = gradient / per_image(gradient.flatten(1).abs().amax(1).clamp_min(TINY), gradient)
        return scaled / per_image(scaled.flatten(1).norm(dim=1).clamp_min(TINY), scaled)
