"""What is done to the gradient before it becomes a step. A part is configuration; `begin` gives its state.

`smooth_by` makes a filter of the image plane (volume) a part; `Momentum` and `VarianceTuning` hold what came before.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from medrobust.attacks.case import Case
from medrobust.attacks.per_image import PerImage, State
from medrobust.checks import at_least, not_negative, positive
from medrobust.errors import InputError
from medrobust.threat import TINY, per_image
from medrobust.transforms import GaussianSmoothing


@dataclass(frozen=True)
class Point:
    """Where the loop stands, as a gradient part sees it.

    Attributes:
        variables: `(B, …)`, where the gradient was taken.
        last: no step comes after this one.
        gradient_at: `(copies, B, …)` other variables → the mean of their gradients, `(B, …)`.
    """

    variables: Tensor
    last: bool
    gradient_at: Callable[[Tensor], Tensor]


class GradientStage(State, Protocol):
    """A part at work in one run of the loop."""

    def __call__(self, gradient: Tensor, at: Point) -> Tensor:
        """The gradient `(B, …)` to go on with, per image."""
        ...


class GradientPart(Protocol):
    """One treatment of the gradient."""

    def begin(self, case: Case, purpose: str) -> GradientStage:
        """A fresh treatment for one run of the loop; all its randomness is of `case.generators(purpose)`."""
        ...


def unit_mean(gradient: Tensor) -> Tensor:
    """The gradient over the mean of its absolute values, per image."""
    return gradient / per_image(gradient.flatten(1).abs().mean(1).clamp_min(TINY), gradient)


@dataclass(frozen=True)
class Momentum:
    """MI-FGSM's momentum (Dong et al., arXiv 1710.06081, eq. 6): g ← decay·g + ∇/mean|∇|, per image.

    The paper divides by the sum of |∇|; the mean differs by a constant only and stays in range for large images.
    """

    decay: float = 1.0

    def __post_init__(self) -> None:
        not_negative("decay", self.decay)

    def begin(self, case: Case, purpose: str) -> GradientStage:
        """Momentum that starts from zero."""
        return _Velocity(self.decay)


class _Velocity(PerImage):
    def __init__(self, decay: float) -> None:
        self.decay = decay
        self.velocity: Tensor | None = None

    def __call__(self, gradient: Tensor, at: Point) -> Tensor:
        unit = unit_mean(gradient)
        self.velocity = unit if self.velocity is None else self.decay * self.velocity + unit
        return self.velocity


class _Filter:
    """A part that treats every gradient alike, whatever came before."""

    def begin(self, case: Case, purpose: str) -> GradientStage:
        """Itself.

        Raises:
            InputError: the threat does not change pixels one by one.
        """
        if not case.threat.pixels:
            kind = type(self).__name__
            raise InputError(f"{kind} treats a gradient over pixels, the threat is {case.threat.norm}")
        return self

    def keep(self, rows: Tensor) -> None:
        """Nothing to forget."""

    def __call__(self, gradient: Tensor, at: Point) -> Tensor:
        raise NotImplementedError


@dataclass(frozen=True)
class Normalisation(_Filter):
    """Every image's gradient over the mean of its absolute values: what `Momentum` does first, by itself."""

    def __call__(self, gradient: Tensor, at: Point) -> Tensor:
        """At a mean absolute value of 1."""
        return unit_mean(gradient)


@dataclass(frozen=True)
class TranslationInvariance(_Filter):
    """The gradient smoothed by a Gaussian, TI (Dong et al., arXiv 1904.02884, eq. 8): W ∗ ∇, channel by channel.

    As good as the mean gradient over the image moved by a few pixels. W spans ±3σ, of any number of axes; outside of
    the image the gradient is zero. An axis shorter than the kernel is smoothed by what of the kernel fits onto it.

    Args:
        kernel_size: odd number of taps along each axis.
        sigma: in pixels; a sixth of the kernel (±3σ) when not given.
    """

    kernel_size: int = 15
    sigma: float | None = None

    def __post_init__(self) -> None:
        self._smoothing()

    def _smoothing(self) -> GaussianSmoothing:
        at_least("kernel_size", self.kernel_size, 1)
        # the published kernel: taps at −3 … 3 standard deviations, evenly
        sigma = max((self.kernel_size - 1) / 6, 0.1) if self.sigma is None else self.sigma
        return GaussianSmoothing(self.kernel_size, sigma, border="zero")

    def __call__(self, gradient: Tensor, at: Point) -> Tensor:
        """Smoothed."""
        return self._smoothing()(gradient)


@dataclass(frozen=True)
class LowFrequency(_Filter):
    """The gradient without its fine detail (Guo et al., arXiv 1809.08758, section 3): frequencies up to a share.

    Of the spectrum along each axis the lowest `share` is kept, from 0 (the mean alone) to 1 (all).
    """

    share: float = 0.25

    def __post_init__(self) -> None:
        positive("share", self.share)
        if self.share > 1:
            raise InputError(f"share must be at most 1, got {self.share!r}")

    def __call__(self, gradient: Tensor, at: Point) -> Tensor:
        """Low-passed."""
        axes = tuple(range(2, gradient.ndim))
        spectrum = torch.fft.fftn(gradient, dim=axes)
        for axis in axes:
            frequencies = torch.fft.fftfreq(gradient.shape[axis], device=gradient.device).abs()
            kept = (frequencies <= self.share / 2).reshape(-1, *[1] * (gradient.ndim - 1 - axis))
            spectrum = torch.where(kept, spectrum, 0)
        low: Tensor = torch.fft.ifftn(spectrum, dim=axes).real
        return low


@dataclass(frozen=True)
class VarianceTuning:
    """VMI's variance (Wang & He, arXiv 2103.15571, eq. 5 and algorithm 1): ∇ + v, v the change of ∇ to its neighbours.

    v ← mean of ∇ at `neighbours` points x + U(−radius·eps, radius·eps), minus ∇ at x, to be added at the next step; so
    the last step needs none. Put it before `Momentum`.

    Args:
        neighbours: how many, N.
        radius: β, in units of eps.
    """

    neighbours: int = 5
    radius: float = 1.5

    def __post_init__(self) -> None:
        at_least("neighbours", self.neighbours, 1)
        positive("radius", self.radius)

    def begin(self, case: Case, purpose: str) -> GradientStage:
        """Variance that starts from zero."""
        return _Variance(self, case, purpose)


class _Variance(PerImage):
    def __init__(self, part: VarianceTuning, case: Case, purpose: str) -> None:
        self.part = part
        self.eps = torch.as_tensor(case.threat.eps).to(case.clean).expand(len(case)).clone()
        shape = (part.neighbours, *case.space.start().shape[1:])
        # (neighbours, B, …), drawn once and turned at every step: drawing anew would cost as much as a small model
        self.noise = torch.stack([2 * torch.rand(shape, generator=g) - 1 for g in case.generators(purpose)], 1).to(
            case.clean
        )
        self.variance: Tensor | None = None
        self.step = 0

    def __call__(self, gradient: Tensor, at: Point) -> Tensor:
        tuned = gradient if self.variance is None else gradient + self.variance
        if not at.last:
            turned = self.noise.flatten(2).roll(self.step * 7919, 2).view_as(self.noise)
            reach = per_image(self.part.radius * self.eps, at.variables)
            self.variance = at.gradient_at(at.variables + reach * turned) - gradient
            self.step += 1
        return tuned

    def keep(self, rows: Tensor) -> None:
        noise, self.noise = self.noise, self.eps
        super().keep(rows)
        self.noise = noise[:, rows]
