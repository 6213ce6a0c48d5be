"""Changes of images by preprocessing or a defence, by the name that users type. A new one is a line in `TRANSFORMS`.

The same object serves three times: attacked images are changed and measured again (`evaluation.Aftercheck`), a model
sees its images through it (`Preprocessed`, `defended`), an attack averages over its draws.
"""

from __future__ import annotations

from collections.abc import Mapping
from inspect import Parameter, signature
from typing import NamedTuple

from medrobust.errors import InputError, unknown
from medrobust.transforms.filters import MedianFilter, Smooth
from medrobust.transforms.noise import Noise
from medrobust.transforms.preprocessed import Preprocessed, PreprocessedDetector, defended
from medrobust.transforms.resizing import RandomResize, Resize
from medrobust.transforms.smoothing import GaussianSmoothing
from medrobust.transforms.storing import JPEG, BitDepth
from medrobust.transforms.transform import Chain, Transform, straight_through

__all__ = [
    "JPEG",
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
    """A transform as a configuration writes it: "smooth", {"jpeg": {"quality": 75}}, or a list of such, one by one.

    Raises:
        InputError: it is none of these, there is no such transform or option of it, or an option has no such value.
    """
    if isinstance(written, list):
        return Chain([make_transform(one) for one in written])
    if isinstance(written, str):
        return _named(written, {})
    if isinstance(written, Mapping) and len(written) == 1:
        ((name, options),) = written.items()
        if isinstance(name, str) and (options is None or isinstance(options, Mapping)):
            return _named(name, options or {})
    raise InputError(
        f"a transform is a name, {{jpeg: {{quality: 75}}}}, or a list of such for one after the other, got {written!r}"
    )


def _named(name: str, options: Mapping[str, object]) -> Transform:
    if name not in TRANSFORMS:
        raise unknown("transform", name, TRANSFORMS)
    kind = TRANSFORMS[name].transform
    known = signature(kind).parameters
    for option in options:
        if option not in known:
            raise unknown(f"option of transform {name}", str(option), known)
    for option, parameter in known.items():
        if parameter.default is Parameter.empty and option not in options:
            raise InputError(f"transform {name} needs its option {option}: {{{name}: {{{option}: …}}}}")
    try:
        return kind(**options)
    except InputError as error:
        raise InputError(f"transform {name}: {error}") from error
