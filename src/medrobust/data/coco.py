"""COCO's detection JSON (Lin et al., arXiv 1405.0312): a file, or a folder with annotations/*.json and images."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medrobust.data.admission import Enclosure
from medrobust.data.assembly import assemble
from medrobust.data.boxes import Box, BoxTruth
from medrobust.data.class_names import order_classes
from medrobust.data.dataset import Dataset
from medrobust.data.files import SPLIT_NAMES, FileEntry, last_name, no_split_of
from medrobust.data.images import printable
from medrobust.data.options import DataOptions, choose_task, evenly
from medrobust.errors import BadSampleError, InputError

ANNOTATIONS, IMAGES = "annotations", "images"
OTHER_TASKS = ("captions", "person_keypoints", "panoptic", "stuff", "image_info")


@dataclass(frozen=True)
class CocoFile:
    """What a COCO file says: its images in order, and the objects of each.

    Attributes:
        path: the file.
        classes: names of the categories, in the order of their ids.
        images: id → file name.
        boxes: image id → its objects.
        faults: image id → what is wrong with the first of its annotations that cannot be used.
        crowds: how many boxes are of a crowd, and left out.
    """

    path: Path
    classes: tuple[str, ...]
    images: Mapping[int, str]
    boxes: dict[int, list[Box]] = field(default_factory=dict)
    faults: dict[int, str] = field(default_factory=dict)
    crowds: int = 0


def detect(path: Path, options: DataOptions) -> bool:  # noqa: ARG001
    """Is it a JSON file, or a folder with some in annotations/?"""
    return (path.is_file() and path.suffix.lower() == ".json") or bool(path.is_dir() and _files(path))


def splits(path: Path, options: DataOptions) -> tuple[str, ...]:  # noqa: ARG001
    """The splits that the names of the files speak of."""
    names = [name for file in ([path] if path.is_file() else _files(path)) for name in _splits_of(file)]
    return tuple(dict.fromkeys(names))


def open_coco(path: Path, options: DataOptions) -> Dataset:
    """Open COCO annotations for detection.

    Of several files in annotations/ the one is read whose name has the split in it (instances_val2017.json). Ids are
    the images' file names. Boxes of crowds are left out, images without any box are kept.

    Raises:
        InputError: the file is not laid out like COCO's, there is no such split, or an annotation is of an image that
            is not listed; the message names file, annotation and field.
        BadSampleError: an image is missing, or one of its annotations cannot be used (unless `options.skip_bad`).
    """
    file, notes = _choose(path, options.split)
    enclosure = Enclosure.around(path, options)
    enclosure.check(file)
    coco = read_coco(file)
    source = printable(path)
    classes = order_classes(coco.classes, options.classes, source)
    folder = _image_folder(path, file, coco, options)
    every = [_entry(coco, key, name, folder, enclosure, classes) for key, name in coco.images.items()]
    if coco.crowds:
        notes = (*notes, f"Boxes marked iscrowd are left out: {coco.crowds}.")
    return assemble(
        evenly(every, options.limit),
        path,
        options,
        name=last_name(path) if path.is_dir() else printable(path.stem),
        task=choose_task(options.task, "detection", ["detection"], source),
        classes=classes,
        notes=notes,
    )


def read_coco(path: Path) -> CocoFile:
    """Read a COCO file; of an object, `label` is the place of its category among the ids in order.

    Raises:
        InputError: as for `open_coco`.
    """
    content = _load(path)
    names = _by_id(path, content, "categories", "name")
    if len(set(names.values())) < len(names):
        raise InputError(f"{printable(path)}: two categories have one name; give each a name of its own")
    order = sorted(names)
    images = _by_id(path, content, "images", "file_name")
    if len(set(images.values())) < len(images):
        raise InputError(f"{printable(path)}: two images have one file_name; keep one of them")
    coco = CocoFile(path, tuple(names[key] for key in order), images)
    source, crowds, seen = printable(path), 0, set()
    for annotation in _list(path, content, "annotations"):
        place = f"{source}, annotation {annotation.get('id')!r}"
        key = annotation.get("image_id")
        if not _is_whole(annotation.get("id")) or annotation["id"] in seen:
            raise InputError(f"{place}, field 'id': must be a whole number that no other annotation has")
        if not _is_whole(key) or key not in images:
            raise InputError(f"{place}, field 'image_id': there is no image {key!r}; list it under images")
        seen.add(annotation["id"])
        if annotation.get("iscrowd") == 1:
            crowds += 1
            continue
        try:
            coco.boxes.setdefault(key, []).append(_box(annotation, order, place))
        except BadSampleError as error:
            coco.faults.setdefault(key, str(error))
    return CocoFile(path, coco.classes, images, coco.boxes, coco.faults, crowds)


def _box(annotation: Mapping[str, Any], order: Sequence[int], place: str) -> Box:
    category, bbox = annotation.get("category_id"), annotation.get("bbox")
    if category not in order:
        raise BadSampleError(f"{place}, field 'category_id': there is no category {category!r}; list it, or mend it")
    if not isinstance(bbox, list) or len(bbox) != 4 or not all(map(_is_number, bbox)):
        raise BadSampleError(f"{place}, field 'bbox': must be four numbers x, y, width, height, not {bbox!r:.80}")
    x, y, width, height = bbox
    if width <= 0 or height <= 0:
        raise BadSampleError(f"{place}, field 'bbox': {bbox} has no area; mend it or leave it out")
    return Box((x, y, x + width, y + height), order.index(category), f"{place}, field 'bbox'")


def _entry(
    coco: CocoFile, key: int, name: str, folder: Path, enclosure: Enclosure, classes: tuple[str, ...]
) -> FileEntry:
    place = f"{printable(coco.path)}, image {key}, field 'file_name'"
    boxes = tuple(
        Box(box.corners, classes.index(coco.classes[box.label]), box.place) for box in coco.boxes.get(key, ())
    )
    try:
        image = enclosure.below(folder, name)
    except InputError as error:
        return FileEntry(printable(name), folder, BoxTruth(), fault=f"{place}: {error}")
    fault = coco.faults.get(key, "")
    if not image.exists():
        fault = f"{place}: there is no image {printable(image)}; put it there, or set image_folder"
    return FileEntry(printable(name), image, BoxTruth(boxes), fault=fault)


def _image_folder(path: Path, file: Path, coco: CocoFile, options: DataOptions) -> Path:
    """The folder below which the first image that can be found lies, of those where sets have them."""
    root = path if path.is_dir() else file.parent.parent if file.parent.name == ANNOTATIONS else file.parent
    if options.image_folder is not None:
        if not (root / options.image_folder).is_dir():
            raise InputError(f"{printable(root / options.image_folder)}: there is no such folder; set image_folder")
        return root / options.image_folder
    subset = re.sub(r"^instances_", "", file.stem)
    folders = [root / IMAGES / subset, root / subset, root / IMAGES, root]
    there = [folder for folder in folders if folder.is_dir()]
    first = list(coco.images.values())[:10]
    return next((folder for folder in there if any((folder / name).is_file() for name in first)), there[0])


def _choose(path: Path, split: str) -> tuple[Path, tuple[str, ...]]:
    """The file of the split, and notes."""
    if path.is_file():
        known = _splits_of(path)
        if not known:
            return path, no_split_of(printable(path), split)
        if split not in (*known, "test"):
            raise InputError(f"{printable(path)}: this is the split {known[0]!r}, not {split!r}; leave split out")
        return path, ()
    files = _files(path)
    if not files:
        raise InputError(f"{printable(path)}: there is no .json file in its folder {ANNOTATIONS!r}; put one there")
    if len(files) == 1 and not _splits_of(files[0]):
        return files[0], no_split_of(printable(path), split)
    fitting = [file for file in files if split in _splits_of(file)]
    if len(fitting) != 1:
        names = ", ".join(printable(file.name) for file in files)
        which = "several files" if fitting else "no file"
        raise InputError(f"{printable(path)}: {which} of split {split!r} in {ANNOTATIONS} ({names}); give one's path")
    return fitting[0], ()


def _files(path: Path) -> list[Path]:
    folder = path / ANNOTATIONS
    found = sorted(folder.glob("*.json")) if folder.is_dir() else []
    return [file for file in found if not file.name.startswith((".", *OTHER_TASKS))]


def _splits_of(file: Path) -> list[str]:
    return [word for word in re.split(r"[^a-z]+", file.stem.lower()) if word in SPLIT_NAMES]


def _load(path: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{printable(path)}: is not JSON that can be read ({error}); save it again") from None
    if not isinstance(content, dict):
        raise InputError(f"{printable(path)}: is no COCO file: it must be an object with images and annotations")
    return content


def _list(path: Path, content: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    items = content.get(name)
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise InputError(f"{printable(path)}, field {name!r}: must be a list of objects, as in COCO")
    return items


def _by_id(path: Path, content: Mapping[str, Any], name: str, text: str) -> dict[int, str]:
    """Id → its text, of the items of a list."""
    found: dict[int, str] = {}
    for number, item in enumerate(_list(path, content, name), start=1):
        key, value = item.get("id"), item.get(text)
        place = f"{printable(path)}, item {number} of {name!r}"
        if not isinstance(key, int) or isinstance(key, bool) or key in found:
            raise InputError(f"{place}, field 'id': {key!r} must be a whole number that no other has")
        if not isinstance(value, str) or not value.strip():
            raise InputError(f"{place}, field {text!r}: must be a text, not {value!r:.80}")
        found[key] = value
    if not found:
        raise InputError(f"{printable(path)}, field {name!r}: is empty; there must be one at least")
    return found


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
