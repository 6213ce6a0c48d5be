"""Where the frames or slices of a DICOM volume lie, and their order along the slice normal.

Source: DICOM PS3.3, C.7.6.2.1.1 (position and orientation), C.7.6.16.2.1 to 4 (of the frames of one file).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medrobust.data.dicom_files import bad, tag_name
from medrobust.data.dicom_values import functional_groups

_SAME_DIRECTION = 1e-3  # difference of direction cosines by rounding
_SAME_PLACE = 1e-3  # millimetres; also the least step between slices
_GAP = 1.5  # steps between two slices from which on one is missing between them

Vector = tuple[float, ...]


@dataclass(frozen=True)
class Plane:
    """Where a frame lies.

    Attributes:
        position: of the centre of its first pixel, in millimetres (x, y, z of the patient).
        orientation: direction cosines along a row, then along a column.
    """

    position: Vector
    orientation: Vector

    @property
    def normal(self) -> Vector:
        """Direction in which slices follow each other: along a row × along a column."""
        return tuple(np.cross(self.orientation[:3], self.orientation[3:]).tolist())


@dataclass(frozen=True)
class Stack:
    """The order of planes along their normal.

    Attributes:
        order: index of the planes from the lowest place on the normal to the highest.
        step: millimetres between neighbours; None for a single one.
        places: place of each on the normal in this order, in millimetres.
    """

    order: tuple[int, ...]
    step: float | None
    places: Vector


def plane_of(group: Any, path: Path, orientation: Any = None) -> Plane | None:
    """The plane that a dataset tells; None if it does not."""
    position = numbers(group, "ImagePositionPatient", 3, path)
    cosines = numbers(orientation if orientation is not None else group, "ImageOrientationPatient", 6, path)
    if position is None or cosines is None:
        return None
    plane = Plane(position, cosines)
    if math.hypot(*plane.normal) < 0.5:
        raise bad(path, f"has {tag_name('ImageOrientationPatient')} {list(cosines)}, no two directions", "mend it")
    return plane


def frame_planes(dataset: Any, path: Path) -> list[Plane | None]:
    """The planes of the frames of a multi-frame file; an empty list where it has no functional groups."""
    positions = functional_groups(dataset, "PlanePositionSequence")
    orientations = functional_groups(dataset, "PlaneOrientationSequence")
    return [
        plane_of(position, path, orientation) if position is not None and orientation is not None else None
        for position, orientation in zip(positions, orientations, strict=True)
    ]


def pixel_spacing(dataset: Any, path: Path) -> tuple[float, float] | None:
    """Millimetres between rows and between columns: in the patient or, of a projection, at the detector."""
    groups = functional_groups(dataset, "PixelMeasuresSequence")
    for group in (*(group for group in groups[:1] if group is not None), dataset):
        for keyword in ("PixelSpacing", "ImagerPixelSpacing"):
            spacing = numbers(group, keyword, 2, path)
            if spacing is not None and min(spacing) > 0:
                return spacing[0], spacing[1]
    return None


def stack_planes(planes: Sequence[Plane], names: Sequence[str], path: Path) -> Stack:
    """Order planes along their normal.

    Args:
        planes: one for each slice.
        names: of the slices, for errors.
        path: of the whole, for errors.

    Raises:
        BadSampleError: orientations differ, two lie at one place, or one is missing in a row of even steps.
    """
    first = planes[0]
    for plane, name in zip(planes, names, strict=True):
        if np.abs(np.subtract(plane.orientation, first.orientation)).max() > _SAME_DIRECTION:
            fault = f"has slices of different {tag_name('ImageOrientationPatient')} ({names[0]}, {name})"
            raise bad(path, fault, "put slices of one orientation into a folder of their own")
    along = [float(np.dot(plane.position, first.normal)) for plane in planes]
    order = tuple(sorted(range(len(planes)), key=along.__getitem__))
    places = tuple(along[index] for index in order)
    steps = np.diff(places)
    _check_steps(steps.tolist(), places, [names[index] for index in order], path)
    return Stack(order, float(steps.mean()) if steps.size else None, places)


def mean_step(planes: Sequence[Plane]) -> float:
    """Millimetres from one of two or more planes in a row to the next, along their normal."""
    first, last = (float(np.dot(plane.position, planes[0].normal)) for plane in (planes[0], planes[-1]))
    return (last - first) / (len(planes) - 1)


def all_at_one_place(planes: Sequence[Plane]) -> bool:
    """Do all planes have one position, as those of moments in time?"""
    return bool(np.ptp([plane.position for plane in planes], axis=0).max() < _SAME_PLACE)


def numbers(group: Any, keyword: str, count: int, path: Path) -> Vector | None:
    """An element of so many finite numbers; None where it is missing or empty."""
    value = group.get(keyword) if group is not None else None
    if value is None or value == "" or len(value) == 0:
        return None
    parts = tuple(float(part) for part in value)
    if len(parts) != count or not all(map(math.isfinite, parts)):
        raise bad(path, f"has {tag_name(keyword)} {list(parts)}, not {count} finite numbers", "mend it")
    return parts


def _check_steps(steps: Sequence[float], places: Vector, names: Sequence[str], path: Path) -> None:
    for index, step in enumerate(steps):
        if step < _SAME_PLACE:
            fault = f"has two slices at {places[index]:g} mm along the normal ({names[index]}, {names[index + 1]})"
            raise bad(path, fault, "keep one, or put each time point, echo or phase into a folder of its own")
    least = min(steps, default=0.0)
    for index, step in enumerate(steps):
        if step > _GAP * least:
            expected = places[index] + least
            fault = (
                f"has no slice at {expected:g} mm along the normal, between {names[index]} ({places[index]:g} mm) and "
                f"{names[index + 1]} ({places[index + 1]:g} mm)"
            )
            raise bad(path, fault, "add the missing slice, or put evenly spaced slices into a folder of their own")
