"""Class indices from mask files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from torch import Tensor

from medrobust.data.file_types import read_stored_mask
from medrobust.data.images import printable
from medrobust.errors import BadSampleError, InputError

WHITE = 255  # the foreground of an 8-bit binary mask, whose soft edge is cut at the middle
LOSSY = frozenset({".jpg", ".jpeg"})  # their values are near what was saved: no class indices, but black and white
MAX_INDEX = 30  # a grey up to this one, beside white and no other light grey, may as well be a class index


def guess_classes(path: Path, ignore_index: int | None = None, max_pixels: int | None = None) -> int | None:
    """Number of classes that a mask file seems to have: white on black is two. None if all of it is to be ignored.

    Raises:
        BadSampleError: the file cannot be read.
        InputError: its values may mean one thing or another.
    """
    mask = read_stored_mask(path, max_pixels)
    if _is_lossy(path, mask, ignore_index):
        return 2
    if ignore_index is None and int(mask.max()) == WHITE:
        doubt = _doubt(path, mask)
        if doubt:
            raise InputError(doubt)
        return 2
    used = mask if ignore_index is None else mask[mask != ignore_index]
    if ignore_index is not None and (used == WHITE).any():
        raise InputError(
            f"{printable(path)} has the value {WHITE} beside ignore_index {ignore_index}: store class indices, "
            "or set classes"
        )
    return max(2, int(used.max()) + 1) if used.numel() else None


def read_class_mask(
    path: Path,
    classes: int,
    ignore_index: int | None = None,
    max_pixels: int | None = None,
    image: Path | None = None,
) -> Tensor:
    """Read a mask of `classes` classes.

    Two classes may be stored as 0 and 1 or, without `ignore_index`, as black and white (255): then what is
    above 127 is class 1, so that soft edges are cut in the middle. A JPEG with values above 1 is always so. A mask that
    may leave out slices of its `image` (DICOM-SEG) has all of them when that is told.

    Returns:
        `(H, W)` or `(D, H, W)` int64 in 0 … classes − 1, or `ignore_index`.

    Raises:
        BadSampleError: the file cannot be read, or a value is no class.
    """
    mask = read_stored_mask(path, max_pixels, image)
    if classes == 2 and _is_lossy(path, mask, ignore_index):
        return (mask > WHITE // 2).long()
    if ignore_index is None and classes == 2 and int(mask.max()) == WHITE:
        doubt = _doubt(path, mask)
        if doubt:
            raise BadSampleError(doubt)
        return (mask > WHITE // 2).long()
    wrong = (mask < 0) | (mask >= classes)
    if ignore_index is not None:
        wrong &= mask != ignore_index
    if wrong.any():
        raise BadSampleError(
            f"{printable(path)} has the value {int(mask[wrong][0])}, outside the classes 0 to {classes - 1}: "
            "set classes to their number, set ignore_index, or mend the mask"
        )
    return mask


def _is_lossy(path: Path, mask: Tensor, ignore_index: int | None) -> bool:
    return path.suffix.lower() in LOSSY and ignore_index is None and int(mask.max()) > 1


def _doubt(path: Path, mask: Tensor) -> str:
    """What is wrong with a mask with white that may be no black and white one, else "".

    The soft edge of a binary mask has light greys and dark ones; class indices beside the usual label of an edge
    to ignore are dark alone.
    """
    values = np.unique(mask.numpy())
    between = values[(values != 0) & (values != WHITE)]
    if not between.size or between.min() > MAX_INDEX or between.max() > WHITE // 2:
        return ""
    others = [str(value) for value in values[:-1]]
    named = ", ".join([*others[:6], *(["…"] if len(others) > 6 else [])])
    return (
        f"{printable(path)} has the values {named} and {WHITE}, which may be classes and an edge to ignore: "
        "set classes and ignore_index, or store two values"
    )
