"""The kinds of image file: how each is read, and how an attacked image is written back in its kind.

A new kind is a module here with the functions of a `FileType`, and an entry in `FILE_TYPES`.
"""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from medrobust.data import images, nifti
from medrobust.data.dicom import read_dicom, read_dicom_mask
from medrobust.data.dicom_files import SUFFIXES as DICOM_SUFFIXES
from medrobust.data.dicom_files import is_dicom, is_series
from medrobust.data.dicom_series import read_mask_on, read_series, read_series_mask
from medrobust.data.dicom_source import outline
from medrobust.data.dicom_write import write_dicom, write_series
from medrobust.data.stored_image import FileType, Outline, StoredImage

__all__ = [
    "FILE_TYPES",
    "FileType",
    "StoredImage",
    "check_same_place",
    "file_type_of",
    "is_dicom_image",
    "is_readable",
    "outline_of",
    "read_stored",
    "read_stored_mask",
    "without_suffix",
]

FILE_TYPES: dict[str, FileType] = {
    "raster": FileType(
        images.is_image,
        lambda path, max_pixels: StoredImage(images.read_image(path, max_pixels)),
        images.read_mask,
        tuple(sorted(images.SUFFIXES)),
    ),
    "nifti": FileType(
        nifti.matches,
        nifti.read,
        nifti.read_mask,
        nifti.SUFFIXES,
        nifti.write,
        nifti.suffix,
        nifti.outline,
        check_mask=nifti.check_mask,
    ),
    "dicom": FileType(
        is_dicom,
        read_dicom,
        read_dicom_mask,
        DICOM_SUFFIXES,
        write_dicom,
        lambda _: ".dcm",
        outline,
        read_mask_on=read_mask_on,
    ),
    "dicom_series": FileType(
        is_series,
        read_series,
        read_series_mask,
        (),
        write_series,
        lambda _: "",
        outline,
        read_mask_on=read_mask_on,
    ),
}


def file_type_of(path: Path) -> FileType:
    """The kind of a path; for one of unknown name that of PNG, JPEG and TIFF, for a folder that of a DICOM series.

    The reader of these then says what is wrong.
    """
    default = FILE_TYPES["dicom_series" if path.is_dir() else "raster"]
    return next((known for known in FILE_TYPES.values() if known.matches(path)), default)


def is_readable(path: Path) -> bool:
    """Does the name look like that of an image of any kind?"""
    return any(known.matches(path) for known in FILE_TYPES.values())


def is_dicom_image(path: Path) -> bool:
    """Is it a DICOM file, or the folder of a series?"""
    return is_series(path) if path.is_dir() else is_dicom(path)


def without_suffix(name: str) -> str:
    """A file's name without the suffix of any kind of image (".nii.gz" is one); as it is if it has none."""
    lowered = name.lower()
    ends = (suffix for known in FILE_TYPES.values() for suffix in known.suffixes if lowered.endswith(suffix))
    return name[: len(name) - len(next(ends, ""))]


def read_stored(path: Path, max_pixels: int | None = None) -> StoredImage:
    """Read an image of any kind, of at most `max_pixels` pixels (voxels); None leaves that to the kind.

    Raises:
        BadSampleError: the file cannot be used; the message names it.
    """
    return file_type_of(path).read(path, max_pixels)


def read_stored_mask(path: Path, max_pixels: int | None = None, image: Path | None = None) -> Tensor:
    """Read a mask of any kind as the integers stored in it, `(*spatial)` int64.

    A mask that leaves out slices of its image (DICOM-SEG) has them when `image` is told.

    Raises:
        BadSampleError: as for `read_stored`, or the values are no whole numbers.
    """
    kind = file_type_of(path)
    if image is not None and kind.read_mask_on is not None:
        return kind.read_mask_on(path, image, max_pixels)
    return kind.read_mask(path, max_pixels)


def outline_of(path: Path, max_pixels: int | None = None) -> Outline:
    """Shape and planes of an image of any kind, from its header alone where there is one.

    Raises:
        BadSampleError: as for `read_stored`.
    """
    kind = file_type_of(path)
    if kind.outline is not None:
        return kind.outline(path, max_pixels)
    return Outline(tuple(kind.read(path, max_pixels).pixels.shape[1:]))


def check_same_place(image: Path, mask: Path) -> None:
    """Raise `BadSampleError` when image and mask, of one kind and shape, say that they lie in different places."""
    kind = file_type_of(image)
    if kind.check_mask is not None and file_type_of(mask) is kind:
        kind.check_mask(image, mask)
