"""Kvasir-SEG (Jha et al., MMM 2020): images/ and masks/ of one name, and the polyps' boxes in kavsir_bboxes.json."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from medrobust.data.admission import Enclosure
from medrobust.data.assembly import assemble
from medrobust.data.boxes import Box, BoxTruth
from medrobust.data.class_names import name_classes
from medrobust.data.dataset import Dataset
from medrobust.data.files import (
    FileEntry,
    images_under,
    last_name,
    no_split_of,
    relative_id,
)
from medrobust.data.image_masks import IMAGES, open_image_masks
from medrobust.data.images import printable
from medrobust.data.options import DataOptions, choose_task, evenly
from medrobust.errors import BadSampleError, InputError

BOXES = "kavsir_bboxes.json"  # as the authors spell it
POLYP = "polyp"
_CORNERS = ("xmin", "ymin", "xmax", "ymax")


def detect(path: Path, options: DataOptions) -> bool:  # noqa: ARG001
    """Is it a folder with images/ and Kvasir-SEG's file of boxes?"""
    return (path / IMAGES).is_dir() and (path / BOXES).is_file()


def open_kvasir(path: Path, options: DataOptions) -> Dataset:
    """Open Kvasir-SEG: for segmentation, or by the task "detection" with the boxes of its polyps.

    Ids are the images' paths below `path`.

    Raises:
        InputError: a folder or the file of boxes is missing or not laid out like Kvasir-SEG's.
        BadSampleError: an image has no mask or no boxes, or they cannot be used (unless `options.skip_bad`).
    """
    source = printable(path)
    task = choose_task(options.task, "segmentation", ["segmentation", "detection"], source)
    if task == "segmentation":
        return open_image_masks(path, replace(options, classes=options.classes or ("background", POLYP)))
    classes = name_classes(options.classes, (POLYP,))
    if len(classes) != 1:
        raise InputError(f"{source}: {len(classes)} classes are wanted but the boxes are of one ({POLYP})")
    Enclosure.around(path, options).check(path / BOXES)
    boxes = _read(path / BOXES)
    images = images_under(path / IMAGES)
    return assemble(
        [_entry(image, path, boxes) for image in evenly(images, options.limit)],
        path,
        options,
        name=last_name(path),
        task=task,
        classes=classes,
        notes=no_split_of(source, options.split),
    )


def _read(path: Path) -> Mapping[str, Any]:
    """Image's name without suffix → its height, width and boxes."""
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{printable(path)}: is not JSON that can be read ({error}); download it again") from None
    if not isinstance(content, dict):
        raise InputError(f"{printable(path)}: must give each image's name its boxes; download it again")
    return content


def _entry(image: Path, path: Path, content: Mapping[str, Any]) -> FileEntry:
    place = f"{printable(path / BOXES)}, image {printable(image.stem)!r}"
    try:
        truth = BoxTruth(_boxes(content.get(image.stem), place))
    except BadSampleError as error:
        return FileEntry(relative_id(image, path), image, BoxTruth(), fault=str(error))
    return FileEntry(relative_id(image, path), image, truth)


def _boxes(item: Any, place: str) -> tuple[Box, ...]:
    rows = item.get("bbox") if isinstance(item, dict) else None
    if not isinstance(rows, list):
        raise BadSampleError(f"{place}, field 'bbox': must be a list of boxes; add it, or move the image away")
    boxes = []
    for number, row in enumerate(rows, start=1):
        values: list[Any] = [row.get(name) if isinstance(row, dict) else None for name in _CORNERS]
        if not all(isinstance(value, int | float) and math.isfinite(value) for value in values):
            raise BadSampleError(f"{place}, box {number}: must have the numbers {', '.join(_CORNERS)}; mend it")
        x1, y1, x2, y2 = (float(value) for value in values)
        boxes.append(Box((x1, y1, x2, y2), 0, f"{place}, box {number}"))
    return tuple(boxes)
