"""Noise of chosen spatial frequencies: slow shades, or fine grain.

Attacks within a band of frequencies are those of Guo, Frank & Weinberger (arXiv 1809.08758), there in the DCT.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from medrobust.checks import not_negative
from medrobust.errors import InputError
from medrobust.threat.balls import LInfBall
from medrobust.threat.drawing import drawn
from medrobust.threat.pixels import Threat
from medrobust.threat.space import TINY, Bounds, Space, per_image

ROUNDING = 1e-6  # of a change's largest value: what the filter's float32 may leave of one with nothing in the band
ROUNDS = 5  # of filtering and cutting: enough to fill most of the box


@dataclass(frozen=True, eq=False, kw_only=True)
class BandNoise(Threat):
    """Additive noise of a band of frequencies: x' = x + δ, |δ| ≤ eps, low ≤ |ω| ≤ high in the Fourier transform of δ.

    The noise is filtered, then scaled down to eps as a whole, then clipped to the bounds: where the clipping or the
    grid of `quantum` takes something away, a little leaks out of the band. The image counts as periodic.

    Args:
        eps: in data units, as of L∞.
        low, high: the band in cycles per pixel (voxel), of the length of ω over all spatial axes: 0 is the mean, 0.5
            along an axis a change of sign at every pixel. 0 ≤ low < high. Another band than 0 to 0.25 is part of the
            norm's name, "band noise 0.1-0.5": budgets are told apart by norm and eps.
        quantum, origin: as of `Threat`; a mask or region, which would cut the noise, is refused.
    """

    norm: str = field(default="band noise", init=False)
    low: float = 0.0
    high: float = 0.25

    def __post_init__(self) -> None:
        self._check_options()
        not_negative("low", self.low)
        not_negative("high", self.high)
        if self.low >= self.high:
            raise InputError(f"a band goes from low up to high, got low={self.low:g}, high={self.high:g}")
        if self.mask is not None or self.region is not None:
            raise InputError("cut to a mask or region, noise leaves its band: band noise takes none")
        if (self.low, self.high) != (0.0, 0.25):
            object.__setattr__(self, "norm", f"band noise {self.low:.12g}-{self.high:.12g}")

    def check(self, images: Tensor, bounds: Bounds) -> None:
        """As of `Threat`; and raise `InputError` when images of this size have no frequency of the band."""
        super().check(images, bounds)
        if not bool(self._kept(images).any()):
            size = " × ".join(map(str, images.shape[2:]))
            raise InputError(f"images of {size} have no frequency from {self.low:g} to {self.high:g} cycles per pixel")

    def space(self, clean: Tensor, bounds: Bounds) -> Space:
        """What may be chosen around the clean images."""
        return _BandSpace(clean, bounds, self._radius(clean), None, self._kept(clean))

    def _kept(self, images: Tensor) -> Tensor:
        """Bool, shaped as the half-spectrum of one channel."""
        *whole, last = images.shape[2:]
        axes = [torch.fft.fftfreq(length, dtype=torch.float64) for length in whole]
        axes.append(torch.fft.rfftfreq(last, dtype=torch.float64))
        length = torch.stack(torch.meshgrid(*axes, indexing="ij")).norm(dim=0)
        # a frequency on the edge of the band is in it, whatever its square root rounds to
        kept: Tensor = (length >= self.low - 1e-9) & (length <= self.high + 1e-9)
        return kept.to(images.device)


@dataclass(frozen=True, eq=False)
class _BandSpace(LInfBall):
    kept: Tensor

    def random_start(self, generators: Sequence[torch.Generator]) -> Tensor:
        """Filtered Gaussian noise, its largest change uniform in [0, radius]."""
        noise = self._filtered(drawn(torch.randn, self.clean, generators))
        noise = noise / per_image(noise.flatten(1).abs().amax(1).clamp_min(TINY), noise)
        largest = self.radius * drawn(torch.rand, self.radius, generators)
        start = self.clean + noise * per_image(largest, noise)
        self.project_(start)
        return start

    def project_(self, variables: Tensor) -> None:
        """Filter the change and cut it to the radius by turns, scale what is left of it beyond, clamp.

        Scaling alone would let one peak use up the budget of all other pixels.
        """
        delta = self._filtered(variables - self.clean)
        radius = per_image(self.radius, delta)
        for _ in range(ROUNDS):
            delta = self._filtered(torch.minimum(torch.maximum(delta, -radius), radius))
        largest = torch.maximum(delta.flatten(1).abs().amax(1), self.radius.clamp_min(TINY))
        torch.addcmul(self.clean, delta, per_image(self.radius / largest, delta), out=variables)
        super().project_(variables)

    def allowed(self, gradient: Tensor) -> Tensor:
        """The gradient's part in the band; zero, too, where that is nothing but the filter's rounding."""
        largest = per_image(gradient.flatten(1).abs().amax(1), gradient)
        filtered = self._filtered(gradient / largest.clamp_min(TINY))
        most = per_image(filtered.flatten(1).abs().amax(1), gradient)
        return torch.where(most < ROUNDING, 0, filtered * largest)

    def steepest(self, gradient: Tensor, at: Tensor | None = None) -> Tensor:
        """The sign of the gradient's part in the band; the projection filters it."""
        return self.allowed(gradient).sign()

    def _filtered(self, change: Tensor) -> Tensor:
        axes = tuple(range(2, change.ndim))
        spectrum = torch.fft.rfftn(change, dim=axes) * self.kept
        filtered: Tensor = torch.fft.irfftn(spectrum, s=change.shape[2:], dim=axes)
        return filtered
