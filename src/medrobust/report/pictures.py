"""Pixels as pictures inside a page: data URIs, exact or small."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from medrobust.report.marks import COLOURS, NOTHING

Pixels = NDArray[np.uint8]
Encode = Callable[[Pixels], str]

WEBP_QUALITY = 85


@dataclass(frozen=True)
class Picture:
    """A picture in the page: its data URI, what it shows in words, and the lines to lay over it.

    Of a volume, the slices stand one below the other, in the picture and in `lines`.
    """

    source: str
    alt: str
    lines: str | None = None


def exact(pixels: Pixels) -> str:
    """`(H, W)` or `(H, W, 3)` as PNG: every pixel as it is."""
    return _uri(Image.fromarray(pixels), "png", optimize=True)


def small(pixels: Pixels) -> str:
    """The same as WebP of quality 85: to look at."""
    return _uri(Image.fromarray(pixels), "webp", quality=WEBP_QUALITY, method=2)


def lines_only(lines: Pixels) -> str:
    """What `medrobust.report.marks` draws, on a ground that lets the image through."""
    image = Image.fromarray(lines, "P")
    image.putpalette([channel for number in range(3) for channel in COLOURS.get(number, (0, 0, 0))])
    return _uri(image, "png", optimize=True, transparency=NOTHING)


def fitted(pixels: Pixels, shown: tuple[int, int]) -> Pixels:
    """Pixels reduced to the height and width that are shown, each the mean of those it stands for."""
    if shown == pixels.shape[:2]:
        return pixels
    return np.asarray(Image.fromarray(pixels).resize((shown[1], shown[0]), Image.Resampling.BOX))


def thinned(pixels: Pixels, shown: tuple[int, int]) -> Pixels:
    """Pixels reduced to the height and width that are shown, each one of those that are there: noise keeps its size."""
    rows, columns = (
        ((np.arange(to) + 0.5) * size / to).astype(np.int64) for to, size in zip(shown, pixels.shape[:2], strict=True)
    )
    return np.asarray(pixels[rows[:, None], columns])


def shown_size(height: int, width: int, largest: int) -> tuple[int, int]:
    """The size at which an image is shown: its own, or with `largest` pixels on the longer side."""
    ratio = min(1.0, largest / max(height, width))
    return max(1, round(height * ratio)), max(1, round(width * ratio))


def _uri(image: Image.Image, kind: str, **options: object) -> str:
    data = io.BytesIO()
    image.save(data, kind, **options)
    return f"data:image/{kind};base64,{base64.b64encode(data.getvalue()).decode()}"
