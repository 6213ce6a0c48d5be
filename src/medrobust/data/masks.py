"""Class indices from mask files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from torch import Tensor

from medrobust.data.images import printable, read_mask
from medrobust.errors import BadSampleError

WHITE = 255  # the foreground of an 8-bit binary mask, whose soft edge is cut at the middle


def guess_classes(mask: Tensor) -> int:
    """Number of classes that a `(H, W)` mask as stored seems to have: white on black is two."""
    highest = int(mask.max())
    return 2 if highest == WHITE else max(2, highest + 1)


def read_class_mask(path: Path, classes: int) -> Tensor:
    """Read a mask of `classes` classes.

    Two classes may be stored as 0 and 1 or as black and white (255): then what is above 127 is class 1, so
    that soft edges are cut in the middle.

    Returns:
        `(H, W)` int64 in 0 … classes − 1.

    Raises:
        BadSampleError: the file cannot be read, or a value is no class.
    """
    mask = read_mask(path)
    if classes == 2 and int(mask.max()) == WHITE:
        if np.unique(mask.numpy()).tolist() in ([1, WHITE], [0, 1, WHITE]):
            raise BadSampleError(
                f"{printable(path)} has the values 0, 1 and 255, which may be class 1 or an edge to ignore: "
                "store two values"
            )
        return (mask > WHITE // 2).long()
    outside = mask[mask >= classes]
    if outside.numel():
        raise BadSampleError(
            f"{printable(path)} has the value {int(outside[0])}, outside the classes 0 to {classes - 1}: "
            "set classes to their number, mend the mask"
        )
    return mask
