"""Filters over a pixel's neighbourhood, every channel by itself: Gaussian and median. Both are differentiable."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from medrobust.threat import Bounds
from medrobust.transforms.smoothing import GaussianSmoothing, extended, odd
from medrobust.transforms.transform import Transform, in_full, inside


@dataclass(frozen=True)
class Smooth(Transform):
    """Smoothed by a Gaussian over all spatial axes, see `GaussianSmoothing`; its defaults are SMIA's own.

    Args:
        kernel_size: odd number of taps per axis.
        sigma: standard deviation in pixels (voxels), positive.

    Raises:
        InputError: an option has no such value.
    """

    kernel_size: int = 3
    sigma: float = 1.0

    def __post_init__(self) -> None:
        GaussianSmoothing(self.kernel_size, self.sigma)

    def __call__(self, images: Tensor, bounds: Bounds, generators: Sequence[torch.Generator] | None = None) -> Tensor:
        """See `Transform`."""
        smoothed = GaussianSmoothing(self.kernel_size, self.sigma)(in_full(images))
        return inside(smoothed, bounds).to(images.dtype)


@dataclass(frozen=True)
class MedianFilter(Transform):
    """Every value becomes the median of the window around it: Xu, Evans, Qi, arXiv 1704.01155, section III-B.

    The window is a square, in volumes a cube. The border is reflected without repeating its pixel, as in
    `GaussianSmoothing` (the paper repeats it). The gradient goes to the pixel that is the median; among equals it is
    always the same one.

    Args:
        kernel_size: odd side of the window.

    Raises:
        InputError: kernel_size is no such number.
    """

    kernel_size: int = 3

    def __post_init__(self) -> None:
        odd("kernel_size", self.kernel_size)

    def __call__(self, images: Tensor, bounds: Bounds, generators: Sequence[torch.Generator] | None = None) -> Tensor:
        """See `Transform`; takes memory for a window at every pixel."""
        windows = extended(in_full(images), self.kernel_size // 2)
        for axis in range(2, images.ndim):
            windows = windows.unfold(axis, self.kernel_size, 1)
        values = windows.flatten(images.ndim)
        # a stable sort: which of several equal values `median` picks may change with the device
        ordered = values.sort(dim=-1, stable=True).values
        return inside(ordered[..., values.shape[-1] // 2], bounds).to(images.dtype)
