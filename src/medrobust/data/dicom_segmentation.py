"""DICOM-SEG masks as class indices, alone or slice by slice beside the image that they segment.

Source: DICOM PS3.3, A.51 and C.8.20. Class k is segment number k; what no segment covers is the background, 0.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medrobust.data.dicom_files import bad, is_segmentation, open_dicom, reading, tag_name
from medrobust.data.dicom_geometry import Plane, frame_planes, pixel_spacing
from medrobust.data.dicom_pixels import Array, frame_count
from medrobust.data.dicom_source import Reference, Source, source_of
from medrobust.data.images import printable
from medrobust.errors import BadSampleError, MissingExtraError

_SAME_PLACE = 0.01  # millimetres: positions are stored with few digits
_SAME_DIRECTION = 1e-3  # of direction cosines
_SAME_SPACING = 1e-3  # relative
_OFF_GRID = 0.1  # steps by which a plane may lie beside its place in a stack


@dataclass(frozen=True)
class Segments:
    """A DICOM-SEG file.

    Attributes:
        frames: `(N, H, W)`: 0 and 1 of the frame's segment, or segment numbers in a label map.
        numbers: segment number of each frame; 1 for all of a label map.
        planes: where each frame lies; None where it does not tell.
        references: what each frame was drawn on.
        spacing: millimetres between rows and columns, if told.
    """

    frames: Array
    numbers: tuple[int, ...]
    planes: tuple[Plane | None, ...]
    references: tuple[tuple[Reference, ...], ...]
    spacing: tuple[float, float] | None


def read_segmentation(path: Path) -> Tensor:
    """Read a DICOM-SEG file alone: its planes along their normal, with empty ones where it leaves some out between.

    Returns:
        `(D, H, W)` int64 segment numbers, 0 for the background; `(H, W)` for a single plane.

    Raises:
        BadSampleError: it cannot be read, its segments overlap or are fractional, or its planes are no stack.
        MissingExtraError: highdicom is not installed.
    """
    segments = _open(path)
    planes = [plane for plane in segments.planes if plane is not None]
    if len(planes) < len(segments.frames):
        raise bad(path, f"has frames without {tag_name('ImagePositionPatient')}", "give the image it was drawn on")
    along = np.array([np.dot(plane.position, planes[0].normal) for plane in planes])
    places = np.unique((along / _SAME_PLACE).round()) * _SAME_PLACE
    step = float(np.diff(places).min()) if len(places) > 1 else 1.0
    on_grid = (along - along.min()) / step
    index = on_grid.round().astype(int)
    if np.abs(on_grid - index).max() > _OFF_GRID:
        raise bad(path, "has planes at uneven steps", "give the image it was drawn on")
    painted = _paint(segments, index.tolist(), int(index.max()) + 1, path)
    return torch.from_numpy(painted if len(painted) > 1 else painted[0])


def read_segmentation_for(seg: Path, source: Path, max_pixels: int | None = None) -> Tensor:
    """Read a DICOM-SEG file onto the pixels of its image: planes that it leaves out are background.

    Frames are matched by position and orientation or, where these are unknown, by the SOP instance (and frame) that
    they refer to.

    Args:
        seg: the DICOM-SEG file.
        source: the image: a DICOM file, or the folder of a series.
        max_pixels: refuse an image of more.

    Returns:
        int64 segment numbers, 0 for the background, `(D, H, W)` in the order in which `source` is read, or `(H, W)`
        for an image of one frame.

    Raises:
        BadSampleError: a file cannot be read, segments overlap or are fractional, or the geometries differ.
        MissingExtraError: highdicom is not installed.
    """
    segments = _open(seg)
    image = source_of(source, max_pixels)
    name = printable(source)
    if segments.frames.shape[1:] != image.size:
        own, other = (f"{rows} × {columns}" for rows, columns in (segments.frames.shape[1:], image.size))
        raise bad(seg, f"has frames of {own} pixels, but {name} of {other}", "give its own image")
    spacings = segments.spacing, image.spacing
    if None not in spacings and not np.allclose(*spacings, rtol=_SAME_SPACING, atol=0):  # type: ignore[arg-type]
        raise bad(seg, f"has another {tag_name('PixelSpacing')} than {name}", "give its own image")
    index = []
    for number, (plane, references) in enumerate(zip(segments.planes, segments.references, strict=True), start=1):
        place = _matching(plane, references, image)
        if place is None:
            raise bad(seg, f"has frame {number} where {name} has no slice of its geometry", "give its own image")
        index.append(place)
    painted = _paint(segments, index, len(image.references), seg)
    return torch.from_numpy(painted if image.is_volume else painted[0])


def _open(path: Path) -> Segments:
    try:
        from highdicom.seg import segread
    except ImportError as error:
        raise MissingExtraError("highdicom", "dicom") from error
    header = open_dicom(path, pixels=False)
    if not is_segmentation(header):
        raise bad(path, "is no DICOM-SEG file", "give a segmentation")
    with reading(path):
        if str(header.get("SegmentationType")) == "FRACTIONAL":
            raise bad(path, "is a fractional segmentation", "save it as a binary one or as a label map")
        parsed: Any = segread(path)
        frames = parsed.pixel_array.reshape(frame_count(parsed, path), parsed.Rows, parsed.Columns)
        groups = parsed.PerFrameFunctionalGroupsSequence
        planes = frame_planes(parsed, path)
        is_map = str(header.get("SegmentationType")) == "LABELMAP"
        numbers = [1 if is_map else _segment_number(parsed, group) for group in groups]
        if len(groups) != len(frames):
            raise bad(path, f"has {len(frames)} frames, but tells of {len(groups)}", "mend it")
        references = tuple(tuple(_references(group)) for group in groups)
        return Segments(frames, tuple(numbers), tuple(planes), references, pixel_spacing(parsed, path))


def _segment_number(parsed: Any, group: Any) -> int:
    shared = parsed.SharedFunctionalGroupsSequence[0]
    holder = group if "SegmentIdentificationSequence" in group else shared
    return int(holder.SegmentIdentificationSequence[0].ReferencedSegmentNumber)


def _references(group: Any) -> Iterator[Reference]:
    for derivation in group.get("DerivationImageSequence") or ():
        for image in derivation.get("SourceImageSequence") or ():
            frames = image.get("ReferencedFrameNumber") or 1
            for frame in np.atleast_1d(np.asarray(frames, int)):
                yield str(image.ReferencedSOPInstanceUID), int(frame)


def _matching(plane: Plane | None, references: Sequence[Reference], image: Source) -> int | None:
    """Which slice of the image a frame segments; None if there is none."""
    if plane is None or not image.planes:
        return next((image.references.index(each) for each in references if each in image.references), None)
    distances = [float(np.abs(np.subtract(plane.position, other.position)).max()) for other in image.planes]
    nearest = int(np.argmin(distances))
    turned = np.abs(np.subtract(plane.orientation, image.planes[nearest].orientation)).max() > _SAME_DIRECTION
    return None if turned or distances[nearest] > _SAME_PLACE else nearest


def _paint(segments: Segments, index: Sequence[int], depth: int, path: Path) -> Array:
    """`(depth, H, W)` int64 from the frames, each at its place."""
    painted = np.zeros((depth, *segments.frames.shape[1:]), np.int64)
    for frame, number, place in zip(segments.frames, segments.numbers, index, strict=True):
        values = frame.astype(np.int64) * number
        below = painted[place]
        if ((below != 0) & (values != 0) & (below != values)).any():
            raise BadSampleError(
                f"{printable(path)} has segments that overlap (segment {number} and another), so a pixel has no one "
                "class: save one segment, or segments without overlap"
            )
        np.copyto(below, values, where=values != 0)
    return painted
