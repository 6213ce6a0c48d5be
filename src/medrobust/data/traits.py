"""What the images of a set have in common, learned before any sample is asked for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from medrobust.data.file_types import StoredImage, read_stored
from medrobust.data.files import FileEntry
from medrobust.data.images import printable
from medrobust.data.options import DataOptions
from medrobust.data.stored_image import UNIT_INTERVAL
from medrobust.errors import BadSampleError, InputError

HU_BOUNDS = (-1024.0, 3071.0)  # 12 bits from -1024, the range of most CT scanners
AIR = -500  # no stored value of MRI, PET or a picture is as low as CT's air, -1000 HU


@dataclass(frozen=True)
class ImageTraits:
    """Channels, axes, unit and bounds of a set's images, as in `DatasetInfo`, and what the report must say of them."""

    channels: int
    spatial_dims: int
    unit: str
    bounds: tuple[float, float]
    notes: tuple[str, ...] = ()


def image_traits(entries: Sequence[FileEntry], options: DataOptions, source: str) -> ImageTraits:
    """The traits of a set: those that options give, and else those of its first image that can be read.

    Where options name no bounds and the values are not in [0, 1], every image is read, for the least and greatest
    value: they are the bounds, or widen those of 12-bit CT.

    Raises:
        InputError: no image can be read, or an option does not fit what is in the files; the message names `source`.
    """
    first = _first_readable(entries, options, source)
    axes = first.pixels.ndim - 1
    if options.slices is not None and axes != 3:
        raise InputError(f"{source}: option slices has no meaning for images of {axes} axes; leave it out")
    unit, notes = _unit(first, options, source)
    if unit == UNIT_INTERVAL:
        bounds = (0.0, 1.0)
    elif options.bounds is not None:
        bounds = (float(options.bounds[0]), float(options.bounds[1]))
    elif unit == "HU":
        bounds, told = _hu_bounds(entries, options.max_pixels)
        notes = (*notes, *told)
    else:
        bounds = _extremes(entries, options.max_pixels)
        if bounds[0] >= bounds[1]:
            raise InputError(f"{source}: every image has the value {bounds[0]:g} alone; set bounds")
        notes = (*notes, f"No bounds are given: values may go from {bounds[0]:g} to {bounds[1]:g}, as in these images.")
    return ImageTraits(
        channels=len(first.pixels) if options.channels is None else options.channels,
        spatial_dims=axes if options.slices is None else 2,
        unit=unit,
        bounds=bounds,
        notes=notes,
    )


def _first_readable(entries: Sequence[FileEntry], options: DataOptions, source: str) -> StoredImage:
    faults = []
    for entry in entries:
        try:
            if not entry.fault:
                stored = read_stored(entry.image, options.max_pixels)
                return stored.shown(options.window, printable(entry.image))
            faults.append(entry.fault)
        except BadSampleError as error:
            faults.append(str(error))
    raise InputError(f"{source}: no image can be read; the first: {faults[0]}")


def _unit(first: StoredImage, options: DataOptions, source: str) -> tuple[str, tuple[str, ...]]:
    """The unit of a set by its first image, and what to tell of a guess."""
    if first.unit == UNIT_INTERVAL and options.window is not None and options.unit is None and options.bounds is None:
        return UNIT_INTERVAL, (f"Images are shown through the window {options.window}, from black to white.",)
    if first.unit == UNIT_INTERVAL:
        for name in ("unit", "bounds"):
            if getattr(options, name) is not None:
                raise InputError(f"{source}: option {name} has no meaning for images in {UNIT_INTERVAL}; leave it out")
    if first.unit != "stored":
        if options.unit not in (None, first.unit):
            raise InputError(f"{source}: the files say that they hold {first.unit}, not {options.unit}; leave unit out")
        return first.unit, ()
    if options.unit is not None:
        return options.unit, ()
    least = float(first.pixels.min())
    if least <= AIR and bool((first.pixels == first.pixels.round()).all()):
        what = f"Hounsfield units, as the first is of whole numbers from {least:g}"
        return "HU", (f"The files name no unit: their values are taken for {what}. If they are not, set unit: stored.",)
    return "stored", ("The files name no unit: values are as stored. If they are Hounsfield units, set unit: HU.",)


def _hu_bounds(entries: Sequence[FileEntry], max_pixels: int | None) -> tuple[tuple[float, float], tuple[str, ...]]:
    """Those of 12-bit CT, made wider where images are: padding lies below air, metal above bone; and what to tell."""
    least, most = _extremes(entries, max_pixels)
    low, high = HU_BOUNDS
    if low <= least and most <= high:
        return HU_BOUNDS, ()
    wider = min(low, least), max(high, most)
    seen, allowed = (f"from {ends[0]:.7g} to {ends[1]:.7g}" for ends in ((least, most), wider))
    note = f"Images go {seen} HU, beyond [{low:g}, {high:g}]: values may go {allowed}. If they may not, set bounds."
    return wider, (note,)


def _extremes(entries: Sequence[FileEntry], max_pixels: int | None) -> tuple[float, float]:
    """Least and greatest value of the images that can be read."""
    least, most = math.inf, -math.inf
    for entry in entries:
        if entry.fault:
            continue
        try:
            low, high = read_stored(entry.image, max_pixels).pixels.aminmax()
        except BadSampleError:
            continue  # told when the sample is read
        least, most = min(least, float(low)), max(most, float(high))
    return least, most
