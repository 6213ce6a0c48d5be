"""YOLO's text files: a row `class cx cy w h` for each object, in shares of the image's size, one file an image.

Images and text files lie side by side, in images/ and labels/, with or without a folder of the split in each
(images/train) or around both (train/images). The names of the classes are in data.yaml, classes.txt, obj.names or
class_list.txt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medrobust.data.admission import Enclosure
from medrobust.data.assembly import assemble
from medrobust.data.boxes import Box, BoxTruth
from medrobust.data.class_names import name_classes, numbered
from medrobust.data.dataset import Dataset
from medrobust.data.file_types import is_readable
from medrobust.data.files import (
    SPLIT_NAMES,
    FileEntry,
    images_under,
    is_hidden,
    last_name,
    no_split_of,
    relative_id,
    subfolders,
)
from medrobust.data.images import printable
from medrobust.data.labels import as_index
from medrobust.data.options import DataOptions, choose_task, evenly
from medrobust.data.rows import numbered_lines
from medrobust.errors import BadSampleError, InputError

IMAGES, LABELS = "images", "labels"
CLASS_LISTS = ("classes.txt", "obj.names", "class_list.txt")
YAML_FILES = ("data.yaml", "data.yml", "dataset.yaml")
_SLACK = 1e-4  # share of the image by which a box may reach out because its numbers were rounded


@dataclass(frozen=True)
class Folders:
    """Where the images of one split are, and their text files; `beside` when that is one folder."""

    images: Path
    labels: Path

    @property
    def beside(self) -> bool:
        """Do the text files lie beside the images?"""
        return self.images == self.labels

    def found(self) -> list[Path]:
        """The images, by name; side by side only those of the folder itself."""
        if not self.beside:
            return images_under(self.images)
        return sorted(path for path in self.images.iterdir() if is_readable(path) and not is_hidden(Path(path.name)))

    def text_of(self, image: Path) -> Path:
        """The text file of an image, there or not."""
        return (self.labels / image.relative_to(self.images)).with_suffix(".txt")


def detect(path: Path, options: DataOptions) -> bool:  # noqa: ARG001
    """Is it a folder of images with a text file of the name of one of them?"""
    return path.is_dir() and any(
        folders.text_of(image).is_file() for folders in _layouts(path).values() for image in folders.found()
    )


def splits(path: Path, options: DataOptions) -> tuple[str, ...]:  # noqa: ARG001
    """The folders of splits that have images and labels."""
    return tuple(name for name in _layouts(path) if name)


def open_yolo(path: Path, options: DataOptions) -> Dataset:
    """Open a folder in YOLO's layout for detection.

    An image without a text file has no objects. Ids are the images' paths below `path`.

    Raises:
        InputError: the split is missing, the names of the classes are, or no image has a text file.
        BadSampleError: a row cannot be used (unless `options.skip_bad`); the message names file and row.
    """
    source = printable(path)
    layouts = _layouts(path)
    if not layouts:
        raise InputError(f"{source}: the folders {IMAGES!r} and {LABELS!r} are not both there, nor images beside .txt")
    if "" in layouts:
        notes = no_split_of(source, options.split)
    elif options.split not in layouts:
        raise InputError(f"{source}: no split {options.split!r}; choose one of: {', '.join(layouts)}")
    else:
        notes = ()
    folders = layouts["" if "" in layouts else options.split]
    classes = _classes(path, folders, options, source)
    return open_boxes(path, folders, classes, options, notes)


def open_boxes(
    path: Path, folders: Folders, classes: tuple[str, ...], options: DataOptions, notes: tuple[str, ...]
) -> Dataset:
    """The data set of images with text files of boxes; raises as `open_yolo`."""
    source = printable(path)
    images = folders.found()
    if not images:
        raise InputError(f"{printable(folders.images)}: there is no image; put some there")
    without = sum(not folders.text_of(image).is_file() for image in images)
    if without == len(images):
        raise InputError(
            f"{printable(folders.labels)}: no image has a text file of its name; put them there "
            "(an empty one for an image without objects)"
        )
    if without:
        notes = (*notes, f"Images without a text file count as without objects: {without} of {len(images)}.")
    enclosure = Enclosure.around(path, options)
    chosen = [_entry(image, path, folders, len(classes), enclosure) for image in evenly(images, options.limit)]
    return assemble(
        chosen,
        path,
        options,
        name=last_name(path),
        task=choose_task(options.task, "detection", ["detection"], source),
        classes=classes,
        notes=notes,
    )


def read_boxes(path: Path, classes: int) -> BoxTruth:
    """Read a text file of boxes.

    Raises:
        BadSampleError: a row has not five numbers, its class is not one of 0 to classes − 1, or its box has no area or
            lies outside the image.
    """
    boxes = [_box(line.split(), classes, f"{printable(path)}, row {number}") for number, line in numbered_lines(path)]
    return BoxTruth(tuple(boxes), relative=True)


def read_class_list(path: Path) -> tuple[str, ...]:
    """The names in a file of one a line.

    Raises:
        InputError: it is no text, has no name, or one twice.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise InputError(f"{printable(path)}: is not UTF-8 text; save it as such") from None
    return _checked_names(path, [line.strip() for line in lines if line.strip()])


def _box(fields: Sequence[str], classes: int, place: str) -> Box:
    if len(fields) != 5:
        raise BadSampleError(f"{place}: has {len(fields)} fields, not five (class cx cy w h); mend it")
    label = as_index(fields[0])
    if label is None or not 0 <= label < classes:
        raise BadSampleError(f"{place}: class {fields[0]!r} is not 0 to {classes - 1}; mend it, or name all classes")
    try:
        cx, cy, width, height = map(float, fields[1:])
    except ValueError:
        raise BadSampleError(f"{place}: {' '.join(fields[1:])!r} are not four numbers; mend it") from None
    if not all(0 <= value <= 1 for value in (cx, cy, width, height)):
        raise BadSampleError(f"{place}: {' '.join(fields[1:])} are not all within 0 and 1 (shares of the image's size)")
    if width == 0 or height == 0:
        raise BadSampleError(f"{place}: the box has no area; mend it or leave it out")
    corners = (cx - width / 2, cy - height / 2, cx + width / 2, cy + height / 2)
    if min(corners) < -_SLACK or max(corners) > 1 + _SLACK:
        raise BadSampleError(f"{place}: the box reaches out of the image; mend it")
    x1, y1, x2, y2 = (min(max(corner, 0.0), 1.0) for corner in corners)
    return Box((x1, y1, x2, y2), label, place)


def _entry(image: Path, path: Path, folders: Folders, classes: int, enclosure: Enclosure) -> FileEntry:
    name, text = relative_id(image, path), folders.text_of(image)
    try:
        if not text.is_file():
            return FileEntry(name, image, BoxTruth(relative=True))
        enclosure.check(text)
        return FileEntry(name, image, read_boxes(text, classes))
    except BadSampleError as error:
        return FileEntry(name, image, BoxTruth(), fault=str(error))


def _layouts(path: Path) -> dict[str, Folders]:
    """Split ("" when there are none) → its folders."""
    images, labels = path / IMAGES, path / LABELS
    if images.is_dir() and labels.is_dir():
        named = {folder.name: folder for folder in subfolders(images) if folder.name.lower() in SPLIT_NAMES}
        split = {name: Folders(folder, labels / name) for name, folder in named.items() if (labels / name).is_dir()}
        return split or {"": Folders(images, labels)}
    around = [folder for folder in subfolders(path) if folder.name.lower() in SPLIT_NAMES]
    both = {folder.name: Folders(folder / IMAGES, folder / LABELS) for folder in around}
    split = {name: each for name, each in both.items() if each.images.is_dir() and each.labels.is_dir()}
    if split:
        return split
    beside = Folders(path, path)
    has_text = any(file.suffix == ".txt" for file in path.iterdir())
    return {"": beside} if has_text and beside.found() else {}


def _classes(path: Path, folders: Folders, options: DataOptions, source: str) -> tuple[str, ...]:
    known = _known_classes(path, folders.labels, Enclosure.around(path, options))
    given = numbered(options.classes) if isinstance(options.classes, int) else options.classes
    if known is None:
        if given is None:
            files = ", ".join((*YAML_FILES[:1], *CLASS_LISTS))
            raise InputError(f"{source}: the names of the classes are in none of {files}; put one there or set classes")
        return given
    if given is not None and len(given) != len(known):
        names = ", ".join(known)
        raise InputError(f"{source}: {len(given)} classes are wanted but the data name {len(known)} ({names})")
    return name_classes(options.classes, known)


def _known_classes(path: Path, labels: Path, enclosure: Enclosure) -> tuple[str, ...] | None:
    lists = [folder / name for folder in (path, path / LABELS, labels) for name in CLASS_LISTS]
    file = next((file for file in (*(path / name for name in YAML_FILES), *lists) if file.is_file()), None)
    if file is None:
        return None
    enclosure.check(file)
    return _names_in_yaml(file) if file.name in YAML_FILES else read_class_list(file)


def _names_in_yaml(path: Path) -> tuple[str, ...]:
    """`names` of a data.yaml: a list, or index → name for all indices from 0."""
    import yaml  # here: few sets have one

    try:
        content: Any = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InputError(
            f"{printable(path)}: is not YAML that can be read ({' '.join(str(error).split())}); save it again"
        ) from None
    names = content.get("names") if isinstance(content, dict) else None
    if isinstance(names, Mapping) and sorted(map(str, names)) == sorted(map(str, range(len(names)))):
        names = [names[key] for key in sorted(names, key=int)]
    if not isinstance(names, list):
        raise InputError(f"{printable(path)}, field 'names': must list the classes, or give each index from 0 its name")
    return _checked_names(path, [str(name).strip() for name in names])


def _checked_names(path: Path, names: Sequence[str]) -> tuple[str, ...]:
    if not names or not all(names):
        raise InputError(f"{printable(path)}: a class has no name; name one at least, and each")
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"{printable(path)}: class {twice!r} is there twice; give each a name of its own")
    return tuple(names)
