"""What is left of an attack when its images are saved, compressed, smoothed, resampled, or shown to another model.

An aftercheck measures the same attacked images once more. Its figures form a part of the run of their own: clean and
attacked images go the same way, so that what the change does to the model by itself is told apart.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from medrobust.attacks import GaussianSmoothing
from medrobust.errors import InputError
from medrobust.evaluation.records import PartInfo
from medrobust.threat import Bounds
from medrobust.victim import Victim

Change = Callable[[Tensor, Bounds], Tensor]
_LEVELS = 255


@dataclass(frozen=True)
class Aftercheck:
    """One way in which attacked images are measured again.

    Attributes:
        name: for tables: "JPEG 75".
        change: what is done to images `(B, C, *spatial)` in data units, given their bounds.
        victim: the model that sees them; the attacked one when None.
    """

    name: str
    change: Change = field(default=lambda images, _: images)
    victim: Victim | None = None


def aftercheck_part(part: str, check: Aftercheck) -> str:
    """The name of the part that holds an aftercheck's figures."""
    return f"{part}, {check.name}"


def afterchecks_of(part: str, parts: Mapping[str, PartInfo]) -> list[str]:
    """The parts that hold afterchecks of `part`: named after it, on the same data."""
    data = parts[part].data_sha256
    return [name for name, other in parts.items() if name.startswith(f"{part}, ") and other.data_sha256 == data]


def eight_bit(images: Tensor, bounds: Bounds) -> Tensor:
    """Rounded to 256 levels over the bounds, as an 8-bit file holds them."""
    return _from_levels(_to_levels(images, bounds), bounds)


def jpeg(quality: int) -> Change:
    """Compressed by JPEG of that quality: three channels as colour, others and slices of volumes one by one as grey."""

    def compress(images: Tensor, bounds: Bounds) -> Tensor:
        levels = _to_levels(images, bounds).to(torch.uint8).cpu()
        colour = images.ndim == 4 and images.shape[1] == 3
        pictures = levels.movedim(1, -1) if colour else levels.reshape(-1, *images.shape[-2:])
        read = torch.stack([_through_jpeg(picture, quality) for picture in pictures])
        restored = read.movedim(-1, 1) if colour else read.reshape(images.shape)
        return _from_levels(restored.to(images), bounds).clamp(*bounds)

    return compress


def smoothed(images: Tensor, bounds: Bounds) -> Tensor:
    """Smoothed by a Gaussian of 3 taps and sigma 1, SMIA's own default."""
    return GaussianSmoothing()(images).clamp(*bounds)


def half_and_back(images: Tensor, bounds: Bounds) -> Tensor:
    """Brought to half its height and width (with antialiasing) and back, bilinear; volumes slice by slice."""
    flat = images.reshape(-1, 1, *images.shape[-2:])
    height, width = images.shape[-2:]
    small = (max(1, height // 2), max(1, width // 2))
    halved = F.interpolate(flat, small, mode="bilinear", antialias=True, align_corners=False)
    back = F.interpolate(halved, (height, width), mode="bilinear", align_corners=False)
    return back.reshape(images.shape).clamp(*bounds)


SURVIVAL = (
    Aftercheck("8-bit rounding", eight_bit),
    Aftercheck("JPEG 90", jpeg(90)),
    Aftercheck("JPEG 75", jpeg(75)),
    Aftercheck("Gaussian smoothing", smoothed),
    Aftercheck("half size and back", half_and_back),
)


def another_model(victim: Victim, attacked: Victim, name: str = "another model") -> Aftercheck:
    """The same images shown to another model of the same bounds: does the attack transfer?

    Raises:
        InputError: the bounds differ.
    """
    if victim.bounds != attacked.bounds:
        raise InputError(f"{name} has the bounds {victim.bounds}, the attacked model {attacked.bounds}")
    return Aftercheck(name, victim=victim)


def _to_levels(images: Tensor, bounds: Bounds) -> Tensor:
    low, high = bounds
    return ((images - low) / (high - low) * _LEVELS).round().clamp(0, _LEVELS)


def _from_levels(levels: Tensor, bounds: Bounds) -> Tensor:
    low, high = bounds
    return low + levels * ((high - low) / _LEVELS)


def _through_jpeg(pixels: Tensor, quality: int) -> Tensor:
    file = io.BytesIO()
    Image.fromarray(pixels.numpy()).save(file, "JPEG", quality=quality)
    with Image.open(file) as image:
        return torch.from_numpy(np.array(image))
