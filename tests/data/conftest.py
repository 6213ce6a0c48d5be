"""Small files of every format."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def write_image() -> Callable[..., Path]:
    """Write an 8-bit image file of one grey or colour, making its folder."""

    def write(path: Path, value: int | tuple[int, ...] = 100, size: tuple[int, int] = (6, 4)) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        mode = {3: "RGB", 4: "RGBA"}[len(value)] if isinstance(value, tuple) else "L"
        Image.new(mode, size, value).save(path)
        return path

    return write


@pytest.fixture
def write_mask() -> Callable[..., Path]:
    """Write `(H, W)` uint8 values as a greyscale PNG, making its folder."""

    def write(path: Path, values: object) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.asarray(values, np.uint8)).save(path)
        return path

    return write
