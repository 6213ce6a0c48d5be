"""Made smaller and brought back to size, so that masks and boxes stay in register. Volumes slice by slice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from medrobust.checks import positive
from medrobust.errors import InputError
from medrobust.threat import Bounds
from medrobust.transforms.transform import Transform, in_full, inside, one_each


@dataclass(frozen=True)
class Resize(Transform):
    """Brought to a share of its height and width (bilinear with antialiasing) and back (bilinear); differentiable.

    Args:
        factor: above 0, at most 1; sides are rounded down to whole pixels, at least one.

    Raises:
        InputError: factor is no such number.
    """

    factor: float = 0.5

    def __post_init__(self) -> None:
        _share("factor", self.factor)

    def __call__(self, images: Tensor, bounds: Bounds, generators: Sequence[torch.Generator] | None = None) -> Tensor:
        """See `Transform`."""
        return inside(_smaller_and_back(in_full(images), self.factor), bounds).to(images.dtype)


@dataclass(frozen=True)
class RandomResize(Transform):
    """`Resize` by a factor that is drawn for every image, uniformly from `lowest` to 1.

    After the randomisation defence of Xie, Wang, Zhang, Ren, Yuille, arXiv 1711.01991, which resizes and then pads at
    random; here an image comes back to its size and place, which masks and boxes need.

    Args:
        lowest: smallest factor, above 0, at most 1.

    Raises:
        InputError: lowest is no such number.
    """

    lowest: float = 0.8

    def __post_init__(self) -> None:
        _share("lowest", self.lowest)

    @property
    def random(self) -> bool:
        """Yes."""
        return True

    def __call__(self, images: Tensor, bounds: Bounds, generators: Sequence[torch.Generator] | None = None) -> Tensor:
        """See `Transform`; all channels and slices of an image have the same factor."""
        draws = [float(torch.rand((), generator=one)) for one in one_each(generators, images, self)]
        if not draws:
            return images
        single = zip(torch.split(in_full(images), 1), draws, strict=True)
        changed = [_smaller_and_back(image, self.lowest + (1 - self.lowest) * draw) for image, draw in single]
        return inside(torch.cat(changed), bounds).to(images.dtype)


def _smaller_and_back(images: Tensor, factor: float) -> Tensor:
    height, width = images.shape[-2:]
    # 100 * 0.29 is rounded to a little less than 29
    small = [max(1, int(side * factor + 1e-6)) for side in (height, width)]
    flat = images.reshape(-1, 1, height, width)
    shrunk = F.interpolate(flat, small, mode="bilinear", antialias=True, align_corners=False)
    return F.interpolate(shrunk, (height, width), mode="bilinear", align_corners=False).reshape(images.shape)


def _share(name: str, value: float) -> None:
    positive(name, value)
    if value > 1:
        raise InputError(f"{name} must be at most 1, got {value!r}")
