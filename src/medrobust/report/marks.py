"""Truth and answer as lines to lay over an image: the truth solid blue, the answer dashed orange; contours or boxes.

Lines are pictures of their own, `(H, W)` of the numbers `NOTHING`, `TRUTH` and `ANSWER`: what a page lays over an image
it can also take away.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

_DRAWN = 320  # lines need this many pixels on the longer side to be lines
NOTHING, TRUTH, ANSWER = 0, 1, 2
COLOURS = {TRUTH: (86, 180, 233), ANSWER: (230, 159, 0)}  # Okabe and Ito's sky blue and orange
_DASH = 5  # pixels
_EDGES = 120  # the edge of a box is this part of the longer side

Pixels = NDArray[np.uint8]
Corners = NDArray[np.float64]


def contours(truth: Tensor, answer: Tensor, shown: tuple[int, int]) -> Pixels:
    """Borders between classes, for an image shown with `shown` pixels.

    Class maps are (H, W), or (L, H, W) when every label is a mask of its own.
    """
    scale = _scale(shown)
    lines = np.full((shown[0] * scale, shown[1] * scale), NOTHING, np.uint8)
    lines[_borders(truth, shown, scale)] = TRUTH
    lines[_borders(answer, shown, scale) & _dashes(lines.shape)] = ANSWER
    return lines


def boxes(truth: Corners, answer: Corners, size: tuple[int, int], shown: tuple[int, int]) -> Pixels:
    """Boxes `(n, 4)` for an image shown with `shown` pixels.

    The corners x1, y1, x2, y2 are in pixels of the image as it was, of height and width `size`.
    """
    scale = _scale(shown)
    lines = np.full((shown[0] * scale, shown[1] * scale), NOTHING, np.uint8)
    down, across = (now / was for now, was in zip(lines.shape, size, strict=True))
    stretch, width = np.array([across, down, across, down]), math.ceil(max(lines.shape) / _EDGES)
    lines[_outlines(truth * stretch, lines.shape, width)] = TRUTH
    lines[_outlines(answer * stretch, lines.shape, width) & _dashes(lines.shape)] = ANSWER
    return lines


def _scale(shown: tuple[int, int]) -> int:
    """The whole factor that makes an image large enough for lines."""
    return math.ceil(_DRAWN / max(shown))


def _dashes(shape: tuple[int, ...]) -> NDArray[np.bool_]:
    row, column = np.indices(shape)
    return np.asarray((row + column) // _DASH % 2 == 0)


def _outlines(corners: Corners, shape: tuple[int, ...], width: int) -> NDArray[np.bool_]:
    """The edges of boxes, drawn inwards; what lies outside the image is left out."""
    drawn = np.zeros(shape, bool)
    limits = np.array([shape[1], shape[0]] * 2)
    for x1, y1, x2, y2 in np.round(corners).clip(0, limits).astype(int).tolist():
        edge = np.zeros_like(drawn)
        edge[y1:y2, x1:x2] = True
        edge[y1 + width : max(y2 - width, 0), x1 + width : max(x2 - width, 0)] = False
        drawn |= edge
    return drawn


def _borders(labels: Tensor, shown: tuple[int, int], scale: int) -> NDArray[np.bool_]:
    maps = labels.numpy() if labels.ndim == 3 else labels.numpy()[None]
    maps = _thinned(maps, shown).repeat(scale, 1).repeat(scale, 2)
    across, down = maps[:, :, 1:] != maps[:, :, :-1], maps[:, 1:] != maps[:, :-1]
    borders = np.zeros(maps.shape, bool)
    borders[:, :, 1:] |= across
    borders[:, :, :-1] |= across
    borders[:, 1:] |= down
    borders[:, :-1] |= down
    return np.asarray(borders.any(0))


def _thinned(maps: NDArray[np.int64], shown: tuple[int, int]) -> NDArray[np.int64]:
    """Class maps `(L, H, W)` at the size of the shown image: the nearest class, never a mean of two."""
    rows, columns = (
        ((np.arange(to) + 0.5) * size / to).astype(np.int64) for to, size in zip(shown, maps.shape[1:], strict=True)
    )
    return maps[:, rows[:, None], columns]
