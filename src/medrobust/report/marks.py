"""Truth and answer drawn on an image: the truth solid blue, the answer dashed orange, as contours or as boxes."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

LARGEST = 512  # pixels of the longer side that are shown
_DRAWN = 320  # lines need this many to be lines
_TRUTH, _ANSWER = (86, 180, 233), (230, 159, 0)  # Okabe and Ito's sky blue and orange
_DASH = 5  # pixels
_EDGES = 120  # the edge of a box is this part of the longer side

Pixels = NDArray[np.uint8]
Corners = NDArray[np.float64]


def contoured(pixels: Pixels, truth: Tensor, answer: Tensor) -> Pixels:
    """Borders between classes on `(H, W)` or `(H, W, 3)` pixels: the truth's solid blue, the answer's dashed orange.

    Class maps are (H, W), or (L, H, W) when every label is a mask of its own.
    """
    large, scale = _enlarged(pixels)
    large[_borders(truth, scale)] = _TRUTH
    large[_borders(answer, scale) & _dashes(large)] = _ANSWER
    return large


def boxed(pixels: Pixels, truth: Corners, answer: Corners, size: tuple[int, int]) -> Pixels:
    """Boxes `(n, 4)` on `(H, W)` or `(H, W, 3)` pixels: the truth's solid blue, the answer's dashed orange.

    The corners x1, y1, x2, y2 are in pixels of the image as it was, of height and width `size`.
    """
    large, _ = _enlarged(pixels)
    down, across = (shown / was for shown, was in zip(large.shape[:2], size, strict=True))
    scale, width = np.array([across, down, across, down]), math.ceil(max(large.shape) / _EDGES)
    large[_outlines(truth * scale, large.shape, width)] = _TRUTH
    large[_outlines(answer * scale, large.shape, width) & _dashes(large)] = _ANSWER
    return large


def reduced(height: int, width: int) -> tuple[int, int]:
    """The size at which an image is shown: its own, or with `LARGEST` pixels on the longer side."""
    ratio = min(1.0, LARGEST / max(height, width))
    return max(1, round(height * ratio)), max(1, round(width * ratio))


def _enlarged(pixels: Pixels) -> tuple[Pixels, int]:
    """In colour, and large enough for lines; the whole factor besides."""
    colour = pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, 2)
    scale = math.ceil(_DRAWN / max(pixels.shape[:2]))
    return colour.repeat(scale, 0).repeat(scale, 1), scale


def _dashes(pixels: Pixels) -> NDArray[np.bool_]:
    row, column = np.indices(pixels.shape[:2])
    return np.asarray((row + column) // _DASH % 2 == 0)


def _outlines(boxes: Corners, shape: tuple[int, ...], width: int) -> NDArray[np.bool_]:
    """The edges of boxes, drawn inwards; what lies outside the image is left out."""
    drawn = np.zeros(shape[:2], bool)
    limits = np.array([shape[1], shape[0]] * 2)
    for x1, y1, x2, y2 in np.round(boxes).clip(0, limits).astype(int).tolist():
        edge = np.zeros_like(drawn)
        edge[y1:y2, x1:x2] = True
        edge[y1 + width : max(y2 - width, 0), x1 + width : max(x2 - width, 0)] = False
        drawn |= edge
    return drawn


def _borders(labels: Tensor, scale: int) -> NDArray[np.bool_]:
    maps = labels.numpy() if labels.ndim == 3 else labels.numpy()[None]
    maps = _thinned(maps).repeat(scale, 1).repeat(scale, 2)
    across, down = maps[:, :, 1:] != maps[:, :, :-1], maps[:, 1:] != maps[:, :-1]
    borders = np.zeros(maps.shape, bool)
    borders[:, :, 1:] |= across
    borders[:, :, :-1] |= across
    borders[:, 1:] |= down
    borders[:, :-1] |= down
    return np.asarray(borders.any(0))


def _thinned(maps: NDArray[np.int64]) -> NDArray[np.int64]:
    """Class maps `(L, H, W)` at the size of the shown image: the nearest class, never a mean of two."""
    before, after = maps.shape[1:], reduced(*maps.shape[1:])
    rows, columns = (
        ((np.arange(to) + 0.5) * size / to).astype(np.int64) for to, size in zip(after, before, strict=True)
    )
    return maps[:, rows[:, None], columns]
