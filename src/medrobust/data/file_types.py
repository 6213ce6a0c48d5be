"""The kinds of image file: how each is read, and how an attacked image is written back in its kind.

A new kind is a module here with a `FileType`, and a line in `FILE_TYPES`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from medrobust.data.images import is_image, read_image, read_mask


@dataclass(frozen=True)
class StoredImage:
    """What an image file holds.

    Attributes:
        pixels: `(C, *spatial)` float32 in data units; spatial is (H, W) or (D, H, W).
        unit: "[0, 1]", "HU", or "stored" where the file names none.
        spacing: millimetres from one pixel (voxel) to the next along each spatial axis, if known.
        quantum: step between the values the file can hold, in data units; None when it holds floats, or is of a kind
            that is not written back.
        patient: identity, if the file names one.
    """

    pixels: Tensor
    unit: str = "[0, 1]"
    spacing: tuple[float, ...] | None = None
    quantum: float | None = None
    patient: str | None = None


@dataclass(frozen=True)
class FileType:
    """One kind of image file.

    Attributes:
        matches: is this path (a file, or a folder that is one image) of this kind? By its name, or its first bytes.
        read: reads it; raises `BadSampleError` naming the file.
        read_mask: reads one as class indices, `(*spatial)` int64; raises `BadSampleError`.
        write: `write(source, pixels, target)` writes `(C, *spatial)` in data units as the source is stored, with its
            header, to the new path `target`; None when this kind is not written back.
        suffix: of a file written back, for a source: ".nii.gz", ".dcm", or "" when it is a folder.
    """

    matches: Callable[[Path], bool]
    read: Callable[[Path], StoredImage]
    read_mask: Callable[[Path], Tensor]
    write: Callable[[Path, Tensor, Path], None] | None = None
    suffix: Callable[[Path], str] = lambda source: source.suffix


FILE_TYPES: dict[str, FileType] = {
    "raster": FileType(is_image, lambda path: StoredImage(read_image(path)), read_mask),
}


def file_type_of(path: Path) -> FileType:
    """The kind of a path; that of PNG, JPEG and TIFF for one of unknown name, whose reader then says what is wrong."""
    return next((known for known in FILE_TYPES.values() if known.matches(path)), FILE_TYPES["raster"])


def is_readable(path: Path) -> bool:
    """Does the name look like that of an image of any kind?"""
    return any(known.matches(path) for known in FILE_TYPES.values())


def read_stored(path: Path) -> StoredImage:
    """Read an image of any kind.

    Raises:
        BadSampleError: the file cannot be used; the message names it.
    """
    return file_type_of(path).read(path)


def read_stored_mask(path: Path) -> Tensor:
    """Read a mask of any kind as the integers stored in it, `(*spatial)` int64.

    Raises:
        BadSampleError: as for `read_stored`, or the values are no whole numbers.
    """
    return file_type_of(path).read_mask(path)
