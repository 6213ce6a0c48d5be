"""Gaussian noise, as randomised smoothing adds it: Cohen, Rosenfeld, Kolter, arXiv 1902.02918."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from medrobust.checks import not_negative
from medrobust.threat import Bounds
from medrobust.transforms.transform import Transform, in_full, one_each


@dataclass(frozen=True)
class Noise(Transform):
    """Independent Gaussian noise on every value, cut to the bounds, where the gradient is zero.

    Args:
        sigma: standard deviation in data units, at least 0.

    Raises:
        InputError: sigma is no such number.
    """

    sigma: float

    def __post_init__(self) -> None:
        not_negative("sigma", self.sigma)

    @property
    def random(self) -> bool:
        """Yes."""
        return True

    def __call__(self, images: Tensor, bounds: Bounds, generators: Sequence[torch.Generator] | None = None) -> Tensor:
        """See `Transform`; the draws are the same on every device."""
        noise = torch.empty(images.shape)
        for values, generator in zip(noise, one_each(generators, images, self), strict=True):
            values.normal_(generator=generator)
        exact = in_full(images)
        return (exact + self.sigma * noise.to(exact)).clamp(*bounds).to(images.dtype)
