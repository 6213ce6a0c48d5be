"""Values of images inside a page, to the nearest whole unit: what level and width of a CT are set on in the browser."""

from __future__ import annotations

import base64
import zlib

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def whole_values(slices: list[NDArray[np.float64]], shown: tuple[int, int]) -> NDArray[np.int16]:
    """Slices `(H, W)`, one below the other, as they are shown; each pixel the mean of those it stands for."""
    fitted = [
        piece
        if piece.shape == shown
        else np.asarray(
            Image.fromarray(piece.astype(np.float32)).resize((shown[1], shown[0]), Image.Resampling.BOX), np.float64
        )
        for piece in slices
    ]
    limits = np.iinfo(np.int16)
    return np.round(np.nan_to_num(np.concatenate(fitted))).clip(limits.min, limits.max).astype(np.int16)


def packed(values: NDArray[np.int16]) -> str:
    """Base64 of deflated differences along the rows: first the low byte of each, then the high one.

    `templates/window.js` undoes it.
    """
    steps = np.diff(values, axis=1, prepend=np.zeros((len(values), 1), np.int16)).astype("<i2")
    planes = steps.ravel().view(np.uint8).reshape(-1, 2).T
    return base64.b64encode(zlib.compress(planes.tobytes(), 9)).decode()
