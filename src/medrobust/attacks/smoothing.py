"""Gaussian smoothing of images: the S of SMIA."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from medrobust.attacks.options import positive
from medrobust.errors import InputError


@dataclass(frozen=True)
class GaussianSmoothing:
    """Smooths every channel by itself over the spatial axes, to the same shape.

    The kernel is the outer product of one 1-D Gaussian per axis, normalised to 1; the border is reflected (repeated
    along an axis too short to reflect). Linear, so that S(x) keeps a constant image as it is.

    Args:
        kernel_size: odd number of taps per axis.
        sigma: standard deviation in pixels (voxels), positive.
    """

    kernel_size: int = 3
    sigma: float = 1.0

    def __post_init__(self) -> None:
        if self.kernel_size < 1 or self.kernel_size % 2 == 0:
            raise InputError(f"kernel_size must be odd and positive, got {self.kernel_size}")
        positive("sigma", self.sigma)

    def __call__(self, images: Tensor) -> Tensor:
        """`(B, C, *spatial)` → the same, differentiable."""
        radius = self.kernel_size // 2
        if radius == 0:
            return images
        taps = torch.arange(-radius, radius + 1, dtype=torch.float64)
        kernel = torch.exp(-(taps**2) / (2 * self.sigma**2))
        kernel = (kernel / kernel.sum()).to(images)
        # every axis on its own: far fewer products than the full kernel, and the same for 2-D and 3-D
        for axis in range(2, images.ndim):
            images = _smooth_axis(images, kernel, axis, radius)
        return images


def _smooth_axis(images: Tensor, kernel: Tensor, axis: int, radius: int) -> Tensor:
    length = images.shape[axis]
    lines = images.movedim(axis, -1)
    shape = lines.shape
    mode = "reflect" if radius < length else "replicate"
    padded = F.pad(lines.reshape(-1, 1, length), (radius, radius), mode=mode)
    return F.conv1d(padded, kernel.view(1, 1, -1)).reshape(shape).movedim(-1, axis)
