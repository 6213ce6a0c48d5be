"""Grey levels as a viewer shows them: a window of values, from black to white."""

from __future__ import annotations

import math

from torch import Tensor

Window = tuple[float, float]  # level (centre) and width, in data units


def is_window(value: object) -> bool:
    """Is it a level and a width above 0, both finite numbers?"""
    if not isinstance(value, tuple) or len(value) != 2 or any(isinstance(part, bool) for part in value):
        return False
    return all(isinstance(part, int | float) and math.isfinite(part) for part in value) and value[1] > 0


def apply_window(pixels: Tensor, window: Window) -> Tensor:
    """Clip pixels to the window and scale it to [0, 1]: ((x − level) / width + 1/2), as DICOM's LINEAR_EXACT.

    Source: DICOM PS3.3, C.11.2.1.3.2.

    Args:
        pixels: of any shape, in data units.
        window: (level, width), in data units: (40, 400) shows −160 to 240 HU.

    Returns:
        The same shape and dtype, in [0, 1].
    """
    level, width = window
    return ((pixels - level) / width + 0.5).clamp(0, 1)
