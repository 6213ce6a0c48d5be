"""The files of one DICOM series as the slices of a volume: checked by their headers, ordered along their normal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medrobust.data.dicom_files import bad, open_dicom, reading, series_files, tag_name
from medrobust.data.dicom_geometry import Plane, pixel_spacing, plane_of, stack_planes
from medrobust.data.dicom_pixels import check_size, frame_count

_NAMED = 1e-4  # relative difference of pixel spacings by rounding


@dataclass(frozen=True)
class Slices:
    """A series, from its headers alone.

    Attributes:
        files: the slices from the lowest place on their normal to the highest.
        headers: of these, without pixels.
        planes: where each lies; empty for a single slice that does not tell.
        spacing: millimetres between slices, rows and columns, if known.
    """

    files: tuple[Path, ...]
    headers: tuple[Any, ...]
    planes: tuple[Plane, ...]
    spacing: tuple[float, float, float] | None


def series_slices(folder: Path, max_pixels: int | None = None) -> Slices:
    """Check and order the single-frame files of a folder.

    Raises:
        BadSampleError: there is none, they are of several series, do not fit each other or into `max_pixels`, or one
            is missing between others.
    """
    files = series_files(folder)
    headers = [open_dicom(file, pixels=False) for file in files]
    names = [file.name for file in files]
    with reading(folder):
        _check_one_series(headers, folder)
        for file, header in zip(files, headers, strict=True):
            _check_slice(header, file, len(files))
        _check_alike(headers, names, folder)
        check_size(headers[0].Rows, headers[0].Columns, len(files), folder, max_pixels)
        in_plane = pixel_spacing(headers[0], folder)
        planes = [plane_of(header, file) for header, file in zip(headers, files, strict=True)]
        known = [plane for plane in planes if plane is not None]
        if len(known) < len(files):
            if len(files) == 1:
                return Slices(tuple(files), tuple(headers), (), None)
            unplaced = files[planes.index(None)]
            missing = f"{tag_name('ImagePositionPatient')} and {tag_name('ImageOrientationPatient')}"
            raise bad(unplaced, f"has no {missing}, so its place in the series is unknown", "give files one by one")
        stack = stack_planes(known, names, folder)
    spacing = (stack.step, *in_plane) if stack.step and in_plane else None
    chosen = stack.order
    return Slices(
        tuple(files[index] for index in chosen),
        tuple(headers[index] for index in chosen),
        tuple(known[index] for index in chosen),
        spacing,
    )


def _check_one_series(headers: Sequence[Any], folder: Path) -> None:
    count = len({str(header.get("SeriesInstanceUID", "")) for header in headers})
    if count > 1:
        fault = f"holds {count} series, told by {tag_name('SeriesInstanceUID')}"
        raise bad(folder, fault, "move the files of each into a folder of its own")


def _check_slice(header: Any, file: Path, count: int) -> None:
    for keyword in ("Rows", "Columns"):
        if header.get(keyword) is None:
            raise bad(file, f"has no {tag_name(keyword)}", "take it out of the folder if it is no image")
    if count > 1 and frame_count(header, file) > 1:
        raise bad(file, "has several frames and other files beside it", "give it as a file of its own")


def _check_alike(headers: Sequence[Any], names: Sequence[str], folder: Path) -> None:
    for what, told in _TOLD.items():
        first = told(headers[0])
        for header, name in zip(headers, names, strict=True):
            other = told(header)
            if not _same(first, other):
                fault = f"has slices of different {what}: {_shown(first)} in {names[0]}, {_shown(other)} in {name}"
                raise bad(folder, fault, "put slices that belong together into a folder of their own")


def _same(one: tuple[Any, ...], other: tuple[Any, ...]) -> bool:
    if any(isinstance(part, float) for part in (*one, *other)):
        return len(one) == len(other) and np.allclose(one, other, rtol=_NAMED, atol=0)
    return one == other


def _shown(values: tuple[Any, ...]) -> str:
    return " ".join(f"{value:g}" if isinstance(value, float) else str(value) for value in values) or "none"


def _floats(*keywords: str) -> Callable[[Any], tuple[float, ...]]:
    def told(header: Any) -> tuple[float, ...]:
        values = (header.get(keyword) for keyword in keywords)
        return tuple(float(part) for value in values if value not in (None, "") for part in np.ravel(value))

    return told


def _texts(*keywords: str) -> Callable[[Any], tuple[str, ...]]:
    return lambda header: tuple(str(header.get(keyword, "")) for keyword in keywords)


_TOLD: dict[str, Callable[[Any], tuple[Any, ...]]] = {
    "size (rows, columns)": _texts("Rows", "Columns"),
    "pixel spacing": _floats("PixelSpacing"),
    "rescale (slope, intercept)": _floats("RescaleSlope", "RescaleIntercept"),
    "pixel format": _texts("PhotometricInterpretation", "BitsStored", "PixelRepresentation", "SamplesPerPixel"),
}
