"""Gaussian smoothing of images: the S of SMIA (arXiv 2103.05232), and a defence of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from medrobust.checks import at_least, one_of, positive
from medrobust.errors import InputError

LEAST_SIGMA = 0.01
Border = Literal["reflect", "zero"]


@dataclass(frozen=True)
class GaussianSmoothing:
    """Smooths every channel by itself over the spatial axes, to the same shape.

    The kernel is the outer product of one 1-D Gaussian per axis, normalised to 1; the border is reflected (repeated
    along an axis too short to reflect). Linear, so that S(x) keeps a constant image as it is.

    Args:
        kernel_size: odd number of taps per axis.
        sigma: standard deviation in pixels (voxels), positive.
        border: what lies beyond the image: its own reflection, or zero (for gradients).
    """

    kernel_size: int = 3
    sigma: float = 1.0
    border: Border = "reflect"

    def __post_init__(self) -> None:
        odd("kernel_size", self.kernel_size)
        one_of("border", self.border, get_args(Border))
        positive("sigma", self.sigma)
        if self.sigma < LEAST_SIGMA:
            raise InputError(f"sigma must be at least {LEAST_SIGMA:g} pixels, got {self.sigma:g}: it smooths nothing")

    def __call__(self, images: Tensor) -> Tensor:
        """`(B, C, *spatial)` → the same, differentiable."""
        radius = self.kernel_size // 2
        if radius == 0:
            return images
        taps = torch.arange(-radius, radius + 1, dtype=torch.float64)
        kernel = torch.exp(-(taps**2) / (2 * self.sigma**2))
        weights = (kernel / kernel.sum()).tolist()
        smoothed = extended(images, radius, self.border)
        # every axis on its own, as a weighted sum of shifted views: many times faster than a convolution of one
        # channel, here and in the backward pass
        for axis in range(2, images.ndim):
            views = [smoothed.narrow(axis, tap, images.shape[axis]) for tap in range(self.kernel_size)]
            smoothed = weights[0] * views[0]
            for weight, view in zip(weights[1:], views[1:], strict=True):
                smoothed = smoothed + weight * view
        return smoothed


def odd(name: str, value: int) -> None:
    """Raise `InputError` unless `value` is an odd whole number above 0."""
    at_least(name, value, 1)
    if value % 2 == 0:
        raise InputError(f"{name} must be odd, got {value}")


def extended(images: Tensor, radius: int, border: Border = "reflect") -> Tensor:
    """The images with `radius` more pixels on either side of every spatial axis."""
    spatial = images.shape[2:]
    if border == "zero":
        return F.pad(images, [radius] * 2 * len(spatial))
    for mode in ("reflect", "replicate"):
        # F.pad counts axes from the last
        # a length that is traced is no int, and neither is what it is compared to
        ends = [radius if bool(length > radius) == (mode == "reflect") else 0 for length in reversed(spatial)]
        if any(ends):
            images = F.pad(images, [end for axis_end in ends for end in (axis_end, axis_end)], mode=mode)
    return images
