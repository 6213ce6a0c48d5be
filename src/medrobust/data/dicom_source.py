"""A DICOM image by its headers alone: the size of its frames, where they lie, and which instances they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medrobust.data.dicom_files import bad, open_dicom, reading, series_files, tag_name
from medrobust.data.dicom_geometry import (
    Plane,
    all_at_one_place,
    frame_planes,
    pixel_spacing,
    plane_of,
    stack_planes,
)
from medrobust.data.dicom_pixels import check_size, frame_count
from medrobust.data.dicom_slices import series_slices
from medrobust.data.stored_image import USUAL_PLANES, Outline

Reference = tuple[str, int]  # SOP instance UID, and frame number from 1
_WORLD_PLANES = ("sagittal", "coronal", "axial")  # of a slice across x, y and z


@dataclass(frozen=True)
class Source:
    """An image in the order in which it is read.

    Attributes:
        size: rows and columns.
        planes: where each frame (slice) lies; empty where this is not told of all.
        references: what each is called by others.
        spacing: millimetres between rows and columns, if told.
        is_volume: is it read as `(C, D, H, W)`?
    """

    size: tuple[int, int]
    planes: tuple[Plane, ...]
    references: tuple[Reference, ...]
    spacing: tuple[float, float] | None
    is_volume: bool


def source_of(path: Path, max_pixels: int | None = None) -> Source:
    """The frames of a DICOM file, or the slices of a series in a folder; raises as reading it does of headers."""
    if path.is_dir():
        files = series_files(path)
        if len(files) > 1 or frame_count(open_dicom(files[0], pixels=False), files[0]) == 1:
            return _series(path, max_pixels)
        path = files[0]
    header = open_dicom(path, pixels=False)
    with reading(path):
        for keyword in ("Rows", "Columns"):
            if header.get(keyword) is None:
                raise bad(path, f"has no {tag_name(keyword)}", "give an image")
        count = frame_count(header, path)
        check_size(header.Rows, header.Columns, count, path, max_pixels)
        planes, order = frames_in_order(header, count, path)
        references = tuple((str(header.get("SOPInstanceUID")), frame + 1) for frame in order)
        return Source((header.Rows, header.Columns), planes, references, pixel_spacing(header, path), count > 1)


def outline(path: Path, max_pixels: int | None = None) -> Outline:
    """Shape and planes of an image, from its headers alone; raises `BadSampleError` as `source_of`."""
    source = source_of(path, max_pixels)
    if not source.is_volume:
        return Outline(source.size)
    shape = (len(source.references), *source.size)
    if not source.planes:
        return Outline(shape, USUAL_PLANES)
    plane = source.planes[0]
    across = (plane.normal, plane.orientation[3:], plane.orientation[:3])
    return Outline(shape, tuple(_WORLD_PLANES[int(np.abs(direction).argmax())] for direction in across))


def frames_in_order(header: Any, count: int, path: Path) -> tuple[tuple[Plane, ...], Sequence[int]]:
    """The planes of a file's frames along their normal, and the frames' numbers from 0 in that order.

    Without planes, and in the file's own order, where they are unknown or all at one place (moments in time).
    """
    planes = frame_planes(header, path) if count > 1 else [plane_of(header, path)]
    if len(planes) not in (0, count):
        raise bad(path, f"has {count} frames, but tells the places of {len(planes)}", "mend it")
    known = tuple(plane for plane in planes if plane is not None)
    if len(known) < count or (count > 1 and all_at_one_place(known)):
        return (), range(count)
    order = stack_planes(known, [f"frame {place}" for place in range(1, count + 1)], path).order
    return tuple(known[frame] for frame in order), order


def _series(folder: Path, max_pixels: int | None) -> Source:
    slices = series_slices(folder, max_pixels)
    first = slices.headers[0]
    references = tuple((str(header.get("SOPInstanceUID")), 1) for header in slices.headers)
    return Source((first.Rows, first.Columns), slices.planes, references, pixel_spacing(first, folder), is_volume=True)
