"""DICOM files as images: a single image `(C, H, W)`, or the frames of a multi-frame file as a volume `(C, D, H, W)`.

A folder of one series is read by `medrobust.data.dicom_series`, a DICOM-SEG mask by `dicom_segmentation`; an attacked
image is written back by `dicom_write`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from medrobust.data.dicom_files import bad, is_segmentation, open_dicom, reading
from medrobust.data.dicom_geometry import mean_step, pixel_spacing
from medrobust.data.dicom_groups import group_fields
from medrobust.data.dicom_pixels import Array, Decoded, check_image, decode
from medrobust.data.dicom_segmentation import read_segmentation
from medrobust.data.dicom_source import frames_in_order
from medrobust.data.dicom_values import functional_groups, unit_of
from medrobust.data.stored_image import StoredImage
from medrobust.data.window import Window

if TYPE_CHECKING:
    from pydicom.dataset import FileDataset


@dataclass(frozen=True)
class DicomImage:
    """One file, decoded.

    Attributes:
        dataset: as parsed.
        decoded: its frames in the file's order.
        order: index of the frames in the order of the volume; their own order where positions are unknown.
        spacing: millimetres along the axes of the image, if known.
    """

    dataset: FileDataset
    decoded: Decoded
    order: tuple[int, ...]
    spacing: tuple[float, ...] | None

    @property
    def is_volume(self) -> bool:
        """Has it more than one frame?"""
        return len(self.order) > 1

    def pixels(self) -> Tensor:
        """`(C, H, W)`, of a volume `(C, D, H, W)`, float32 in data units."""
        frames = [_channels_first(self.decoded, frame) for frame in self.order]
        return torch.from_numpy(np.stack(frames, axis=1) if self.is_volume else frames[0])


def read_dicom(path: Path, max_pixels: int | None = None) -> StoredImage:
    """Read a DICOM file.

    Grey values are those after the modality LUT: Hounsfield units for CT. MONOCHROME1 is turned, value' = lo + hi −
    value over the range that the bits stored can hold, so that bright is dense, except for CT, PT, NM and RTDOSE, where
    values are measured. Colour is RGB in [0, 1]. Frames of a multi-frame file are sorted along the slice normal where
    the file tells their positions.

    Args:
        path: the file.
        max_pixels: refuse more than that; 2^26 pixels a frame and 2^30 in all when None.

    Returns:
        `(1 or 3, H, W)`, or `(1 or 3, D, H, W)` for more than one frame; spacing in the order of these axes.

    Raises:
        BadSampleError: the file is missing, damaged, too large, no image, or in a compression without its codec.
    """
    image = load(path, max_pixels)
    with reading(path):
        return stored_image(image.dataset, image.decoded, image.pixels(), image.spacing)


def load(path: Path, max_pixels: int | None = None) -> DicomImage:
    """Parse, check and decode a file; raises as `read_dicom`."""
    dataset = open_dicom(path)
    with reading(path):
        check_image(dataset, path, max_pixels)
        decoded = decode(dataset, path)
        planes, order = frames_in_order(dataset, len(decoded.stored), path)
        spacing: tuple[float, ...] | None = pixel_spacing(dataset, path)
        if len(order) > 1 and spacing is not None:
            spacing = (mean_step(planes), *spacing) if planes else None
        return DicomImage(dataset, decoded, tuple(order), spacing)


def read_dicom_mask(path: Path, max_pixels: int | None = None) -> Tensor:
    """Read a mask: the classes of a DICOM-SEG file, else the integers stored in a grey image.

    Returns:
        `(H, W)`, or `(D, H, W)` for more than one frame (SEG: plane), int64.

    Raises:
        BadSampleError: as for `read_dicom`, or the pixels are colours or floating-point numbers.
        MissingExtraError: a DICOM-SEG file, without highdicom.
    """
    if is_segmentation(open_dicom(path, pixels=False)):
        return read_segmentation(path)
    image = load(path, max_pixels)
    stored = mask_numbers(image.decoded, path)[list(image.order)]
    return torch.from_numpy(stored if image.is_volume else stored[0])


def mask_numbers(decoded: Decoded, path: Path) -> Array:
    """The frames' integers, int64; raises `BadSampleError` where they are colours or floats."""
    if decoded.is_colour or not decoded.bits:
        raise bad(path, "is a mask of colours or floating-point numbers", "save class indices in one channel")
    return decoded.stored.astype(np.int64)


def stored_image(dataset: Any, decoded: Decoded, pixels: Tensor, spacing: tuple[float, ...] | None) -> StoredImage:
    """What is told of pixels that were read."""
    return StoredImage(
        pixels,
        unit="[0, 1]" if decoded.is_colour else unit_of(dataset),
        spacing=spacing,
        quantum=decoded.values.quantum,
        patient=patient_of(dataset),
        bounds=decoded.values.bounds,
        window=None if decoded.is_colour else file_window(dataset, decoded),
        columns=group_fields(dataset),
    )


def patient_of(dataset: Any) -> str | None:
    """The patient's ID, or name where that is empty, as stored."""
    for keyword in ("PatientID", "PatientName"):
        value = str(dataset.get(keyword) or "").strip()
        if value.strip("^= "):  # a name without parts is none
            return value
    return None


def file_window(dataset: Any, decoded: Decoded) -> Window | None:
    """The file's first linear window (PS3.3, C.11.2.1.2) as (level, width) of `apply_window`, if there is one."""
    groups = functional_groups(dataset, "FrameVOILUTSequence")
    group = next((group for group in groups if group is not None), dataset)
    level, width = (_first(group.get(keyword)) for keyword in ("WindowCenter", "WindowWidth"))
    function = str(group.get("VOILUTFunction") or "LINEAR")
    if level is None or width is None or width <= 1 or function == "SIGMOID":
        return None
    if function == "LINEAR":  # from level − 0.5 − (width − 1) / 2 to level − 0.5 + (width − 1) / 2
        level, width = level - 0.5, width - 1
    values = decoded.values
    return (sum(values.bounds) - level if values.turned and values.bounds else level), width


def _channels_first(decoded: Decoded, frame: int) -> Array:
    """One frame `(C, H, W)` in data units, float32."""
    values = decoded.values.to_data(decoded.stored[frame], frame)
    return np.ascontiguousarray(np.moveaxis(values, -1, 0)) if decoded.is_colour else values[None]


def _first(value: Any) -> float | None:
    """The first number of an element that may hold none or several."""
    if value is None or value == "" or not np.size(value):
        return None
    number = float(np.ravel(value)[0])
    return number if np.isfinite(number) else None
