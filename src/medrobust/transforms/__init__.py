"""Changes of images by preprocessing or a defence, by the name that users type. A new one is a line in `TRANSFORMS`.

The same object serves three times: attacked images are changed and measured again (`evaluation.Aftercheck`), a model
sees its images through it (`Preprocessed`, `defended`), an attack averages over its draws.
"""

from __future__ import annotations

from typing import NamedTuple

from medrobust.by_name import make, split
from medrobust.transforms.filters import MedianFilter, Smooth
from medrobust.transforms.noise import Noise
from medrobust.transforms.preprocessed import NON_ADAPTIVE, Preprocessed, PreprocessedDetector, defended
from medrobust.transforms.resizing import RandomResize, Resize
from medrobust.transforms.smoothing import GaussianSmoothing
from medrobust.transforms.storing import JPEG, BitDepth
from medrobust.transforms.transform import Chain, Transform, straight_through

__all__ = [
    "JPEG",
    "NON_ADAPTIVE",
    "TRANSFORMS",
    "BitDepth",
    "Chain",
    "GaussianSmoothing",
    "MedianFilter",
    "Noise",
    "Preprocessed",
    "PreprocessedDetector",
    "RandomResize",
    "Resize",
    "Smooth",
    "Transform",
    "defended",
    "make_transform",
    "straight_through",
]


class CatalogueEntry(NamedTuple):
    """A transform, and what it does in a line."""

    transform: type[Transform]
    summary: str


TRANSFORMS: dict[str, CatalogueEntry] = {
    "bit_depth": CatalogueEntry(BitDepth, "rounded to 2^bits levels; gradient straight through"),
    "jpeg": CatalogueEntry(JPEG, "compressed by JPEG; gradient straight through"),
    "smooth": CatalogueEntry(Smooth, "smoothed by a Gaussian"),
    "median": CatalogueEntry(MedianFilter, "the median of every pixel's window"),
    "resize": CatalogueEntry(Resize, "made smaller and brought back"),
    "random_resize": CatalogueEntry(RandomResize, "made smaller by a random factor and brought back"),
    "noise": CatalogueEntry(Noise, "Gaussian noise of sigma in data units"),
}


def make_transform(written: object) -> Transform:
    """A transform as a configuration writes it: "smooth", {"jpeg": {"quality": 75}}, a list of such for one by one.

    One that is there already is given back.

    Raises:
        InputError: it is none of these, there is no such transform or option of it, or an option has no such value.
    """
    if isinstance(written, Transform):
        return written
    if isinstance(written, list | tuple):
        return Chain([make_transform(one) for one in written])
    name, options = split("a transform", written, "{jpeg: {quality: 75}}, or a list of such for one after the other")
    makers = {key: entry.transform for key, entry in TRANSFORMS.items()}
    made: Transform = make("transform", makers, name, options)
    return made
