"""A folder of one DICOM series as a volume `(C, D, H, W)`: slices by their place along the normal, not by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from medrobust.data.dicom import load, mask_numbers, read_dicom, read_dicom_mask, stored_image
from medrobust.data.dicom_files import is_dicom, is_segmentation, open_dicom, series_files
from medrobust.data.dicom_pixels import frame_count
from medrobust.data.dicom_segmentation import read_segmentation_for
from medrobust.data.dicom_slices import series_slices
from medrobust.data.stored_image import StoredImage


def read_series(folder: Path, max_pixels: int | None = None) -> StoredImage:
    """Read the series in a folder.

    Args:
        folder: with the DICOM files of one series, or one multi-frame file. Hidden files, DICOMDIR and files of other
            kinds are passed over.
        max_pixels: refuse more voxels; 2^26 pixels a slice and 2^30 in all when None.

    Returns:
        `(1 or 3, D, H, W)` in data units, as `read_dicom` says, D from the lowest place along the slice normal
        (row × column direction) to the highest; spacing of (D, H, W) from the positions of the slices.

    Raises:
        BadSampleError: a file cannot be used, files are of several series, sizes, orientations or rescales, a slice is
            missing or there twice, or the volume is too large.
    """
    alone = multi_frame_file(folder)
    if alone is not None:
        return read_dicom(alone, max_pixels)
    slices = series_slices(folder, max_pixels)
    first = load(slices.files[0], max_pixels)
    volume = first.pixels()[:, None].repeat(1, len(slices.files), 1, 1)
    for place, file in enumerate(slices.files[1:], start=1):
        volume[:, place] = load(file, max_pixels).pixels()
    return stored_image(first.dataset, first.decoded, volume, slices.spacing)


def read_series_mask(folder: Path, max_pixels: int | None = None) -> Tensor:
    """Read a mask whose slices are files of integers, or a folder with one DICOM-SEG or multi-frame file.

    Returns:
        `(D, H, W)` int64, in the order of `read_series`.

    Raises:
        BadSampleError: as for `read_series`, or the pixels are no integers.
    """
    alone = multi_frame_file(folder)
    if alone is not None:
        return read_dicom_mask(alone, max_pixels)
    files = series_slices(folder, max_pixels).files
    return torch.from_numpy(np.concatenate([mask_numbers(load(file, max_pixels).decoded, file) for file in files]))


def read_mask_on(mask: Path, image: Path, max_pixels: int | None = None) -> Tensor:
    """Read a mask, a DICOM-SEG file on the slices of its DICOM image; any other as it is.

    Raises:
        BadSampleError: as for `read_series_mask` or `read_segmentation_for`.
    """
    file = multi_frame_file(mask) if mask.is_dir() else mask
    if file is None:
        return read_series_mask(mask, max_pixels)
    if (image.is_dir() or is_dicom(image)) and is_segmentation(open_dicom(file, pixels=False)):
        return read_segmentation_for(file, image, max_pixels)
    return read_dicom_mask(file, max_pixels)


def multi_frame_file(folder: Path) -> Path | None:
    """The only file of a folder, if it has several frames or is a segmentation."""
    files = series_files(folder)
    if len(files) > 1:
        return None
    header = open_dicom(files[0], pixels=False)
    return files[0] if is_segmentation(header) or frame_count(header, files[0]) > 1 else None
