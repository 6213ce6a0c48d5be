"""Images as a file holds them: on few grey levels, compressed. As defences: feature squeezing and JPEG.

Neither has a useful gradient of its own, so both pass it straight through (see `straight_through`).
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from medrobust.checks import at_least
from medrobust.errors import InputError
from medrobust.threat import Bounds
from medrobust.transforms.transform import Transform, in_full, straight_through

MOST_BITS = 16
BEST_QUALITY = 100


@dataclass(frozen=True)
class BitDepth(Transform):
    """Rounded to 2^bits levels, evenly spaced from bound to bound, as a file of that depth holds them.

    With few bits, the bit-depth reduction of Xu, Evans, Qi, arXiv 1704.01155, section III-A.

    Args:
        bits: 1 to 16.

    Raises:
        InputError: bits is no such number.
    """

    bits: int = 8

    def __post_init__(self) -> None:
        at_least("bits", self.bits, 1)
        if self.bits > MOST_BITS:
            raise InputError(f"bits must be at most {MOST_BITS}, got {self.bits}")

    def __call__(self, images: Tensor, bounds: Bounds, generators: Sequence[torch.Generator] | None = None) -> Tensor:
        """See `Transform`; the gradient is passed straight through."""
        steps = 2**self.bits - 1
        rounded = _from_levels(_to_levels(images, bounds, steps), bounds, steps)
        return straight_through(images, rounded.to(images.dtype))


@dataclass(frozen=True)
class JPEG(Transform):
    """Compressed and read again by Pillow, on 256 levels over the bounds, chroma halved as Pillow does by default.

    Images of three channels are colour; channels of others, and the slices of volumes, are grey pictures one by one.
    As a defence: Guo, Rana, Cissé, van der Maaten, arXiv 1711.00117.

    Args:
        quality: 1 (least) to 100.

    Raises:
        InputError: quality is no such number.
    """

    quality: int = 75

    def __post_init__(self) -> None:
        at_least("quality", self.quality, 1)
        if self.quality > BEST_QUALITY:
            raise InputError(f"quality must be at most {BEST_QUALITY}, got {self.quality}")

    def __call__(self, images: Tensor, bounds: Bounds, generators: Sequence[torch.Generator] | None = None) -> Tensor:
        """See `Transform`; the gradient is passed straight through. Runs on the CPU."""
        levels = _to_levels(images, bounds, 255).to(torch.uint8).cpu()
        colour = images.ndim == 4 and images.shape[1] == 3
        pictures = levels.movedim(1, -1) if colour else levels.reshape(-1, *images.shape[-2:])
        read = torch.empty_like(pictures)
        for place, picture in zip(read, pictures, strict=True):
            place.copy_(_through_jpeg(picture, self.quality))
        restored = read.movedim(-1, 1) if colour else read.reshape(images.shape)
        compressed = _from_levels(restored.to(in_full(images)), bounds, 255)
        return straight_through(images, compressed.to(images.dtype))


@torch.no_grad()
def _to_levels(images: Tensor, bounds: Bounds, steps: int) -> Tensor:
    low, high = bounds
    return ((in_full(images) - low) / (high - low) * steps).round().clamp(0, steps)


def _from_levels(levels: Tensor, bounds: Bounds, steps: int) -> Tensor:
    low, high = bounds
    return (low + levels * ((high - low) / steps)).clamp(low, high)


def _through_jpeg(pixels: Tensor, quality: int) -> Tensor:
    file = io.BytesIO()
    Image.fromarray(pixels.numpy()).save(file, "JPEG", quality=quality)
    with Image.open(file) as image:
        return torch.from_numpy(np.array(image))
