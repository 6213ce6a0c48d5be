"""Pascal VOC (Everingham et al., IJCV 88, 2010): Annotations/*.xml, JPEGImages/ and lists in ImageSets/Main/."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException, ElementTree

from medrobust.data.admission import Enclosure
from medrobust.data.assembly import assemble
from medrobust.data.boxes import Box, BoxTruth
from medrobust.data.class_names import order_classes
from medrobust.data.dataset import Dataset
from medrobust.data.file_types import is_readable, without_suffix
from medrobust.data.files import FileEntry, is_hidden, last_name, no_split_of
from medrobust.data.images import printable
from medrobust.data.options import DataOptions, choose_task, evenly
from medrobust.errors import BadSampleError, InputError

ANNOTATIONS, IMAGES, LISTS = "Annotations", "JPEGImages", "ImageSets/Main"
SPLITS = ("train", "val", "trainval", "test")
_CORNERS = ("xmin", "ymin", "xmax", "ymax")


@dataclass(frozen=True)
class VocObject:
    """One object of an annotation file: its class by name, and its box as x1, y1, x2, y2 counted from 0."""

    name: str
    corners: tuple[float, float, float, float]
    place: str
    difficult: bool = False


def detect(path: Path, options: DataOptions) -> bool:  # noqa: ARG001
    """Is it a folder with Annotations/*.xml and JPEGImages/?"""
    return (path / IMAGES).is_dir() and (path / ANNOTATIONS).is_dir() and any((path / ANNOTATIONS).glob("*.xml"))


def splits(path: Path, options: DataOptions) -> tuple[str, ...]:  # noqa: ARG001
    """Those of which there is a list in ImageSets/Main."""
    return tuple(name for name in SPLITS if (path / LISTS / f"{name}.txt").is_file())


def open_voc(path: Path, options: DataOptions) -> Dataset:
    """Open a Pascal VOC folder for detection.

    VOC's corners are pixels counted from 1 and both within the box: x1 − 1, y1 − 1, x2, y2 are its edges. Classes are
    the names of all splits in alphabetical order, unless `classes` gives another. Objects marked difficult are left
    out, as in VOC's own evaluation. Ids are the files' names without their suffix.

    Raises:
        InputError: a folder or the split is missing.
        BadSampleError: an image or its annotation is missing, or the latter cannot be used (unless
            `options.skip_bad`); the message names file and object.
    """
    source = printable(path)
    enclosure = Enclosure.around(path, options)
    for name in (ANNOTATIONS, IMAGES):
        if not (path / name).is_dir():
            raise InputError(f"{source}: there is no folder {name!r}; Pascal VOC has {ANNOTATIONS} and {IMAGES}")
    files = {file.stem: file for file in sorted((path / ANNOTATIONS).glob("*.xml")) if not is_hidden(Path(file.name))}
    images = _images(path / IMAGES)
    names, notes = _names_of_split(path, options, files, images, enclosure)
    objects, faults = _read_all(files, enclosure)
    found = tuple(sorted({item.name for items in objects.values() for item in items}))
    if not found and options.classes is None:
        raise InputError(f"{source}: no annotation file names an object; set classes")
    classes = order_classes(found, options.classes, source)
    every = [_entry(name, path, images.get(name, ()), objects.get(name), faults.get(name), classes) for name in names]
    difficult = sum(item.difficult for name in names for item in objects.get(name, ()))
    if difficult:
        notes = (*notes, f"Objects marked difficult are left out: {difficult}.")
    return assemble(
        evenly(every, options.limit),
        path,
        options,
        name=last_name(path),
        task=choose_task(options.task, "detection", ["detection"], source),
        classes=classes,
        notes=notes,
    )


def read_annotation(path: Path) -> list[VocObject]:
    """The objects of an annotation file. An XML that defines entities or a document type is refused.

    Raises:
        BadSampleError: it cannot be read, or an object has no name or box that can be used.
    """
    try:
        root = ElementTree.parse(path, forbid_dtd=True).getroot()
    except DefusedXmlException:
        raise BadSampleError(f"{printable(path)}: defines entities or a document type, which is refused") from None
    except (ParseError, ValueError, LookupError) as error:
        raise BadSampleError(f"{printable(path)}: is not XML that can be read ({error}); save it again") from None
    except OSError as error:
        raise BadSampleError(f"{printable(path)}: cannot be opened ({error.strerror}); mend its permissions") from None
    return [
        _object(element, f"{printable(path)}, object {number}")
        for number, element in enumerate(root.findall("object"), start=1)
    ]


def _object(element: Element, place: str) -> VocObject:
    name = (element.findtext("name") or "").strip()
    if not name:
        raise BadSampleError(f"{place}, field 'name': is missing; name its class")
    x1, y1, x2, y2 = (_corner(element, corner, place) for corner in _CORNERS)
    if x1 < 1 or y1 < 1:
        raise BadSampleError(f"{place}, field 'bndbox': {x1:g}, {y1:g} lies outside; VOC counts pixels from 1")
    if x2 < x1 or y2 < y1:
        raise BadSampleError(f"{place}, field 'bndbox': has no area; mend it or leave the object out")
    difficult = (element.findtext("difficult") or "0").strip() == "1"
    return VocObject(name, (x1 - 1, y1 - 1, x2, y2), f"{place}, field 'bndbox'", difficult)


def _corner(element: Element, corner: str, place: str) -> float:
    text = element.findtext(f"bndbox/{corner}")
    try:
        return float(text or "")
    except ValueError:
        raise BadSampleError(f"{place}, field {corner!r}: must be a number, not {text!r}") from None


def _read_all(files: Mapping[str, Path], enclosure: Enclosure) -> tuple[dict[str, list[VocObject]], dict[str, str]]:
    """Name → objects, and name → what is wrong with its file."""
    objects, faults = {}, {}
    for name, file in files.items():
        try:
            enclosure.check(file)
            objects[name] = read_annotation(file)
        except BadSampleError as error:
            faults[name] = str(error)
    return objects, faults


def _entry(
    name: str,
    path: Path,
    images: Sequence[Path],
    objects: Sequence[VocObject] | None,
    fault: str | None,
    classes: tuple[str, ...],
) -> FileEntry:
    if len(images) != 1:
        which = f"several images ({', '.join(image.name for image in images)})" if images else "no image"
        fault = f"{printable(path / IMAGES)}: there is {which} of the name {printable(name)!r}; there must be one"
    elif objects is None and fault is None:
        missing = printable(path / ANNOTATIONS / f"{name}.xml")
        fault = f"{missing}: does not exist; put it there, or take the image off the list"
    counted = [item for item in objects or () if not item.difficult]
    boxes = tuple(Box(item.corners, classes.index(item.name), item.place) for item in counted)
    return FileEntry(printable(name), images[0] if images else path / IMAGES, BoxTruth(boxes), fault=fault or "")


def _images(folder: Path) -> dict[str, list[Path]]:
    """Name without suffix → image files."""
    found: dict[str, list[Path]] = {}
    for image in sorted(folder.iterdir()):
        if is_readable(image) and not is_hidden(Path(image.name)):
            found.setdefault(without_suffix(image.name), []).append(image)
    return found


def _names_of_split(
    path: Path,
    options: DataOptions,
    files: Mapping[str, Path],
    images: Mapping[str, Sequence[Path]],
    enclosure: Enclosure,
) -> tuple[list[str], tuple[str, ...]]:
    """The names of the images of the split, and notes."""
    source, known = printable(path), splits(path, options)
    if not known:
        notes = no_split_of(source, options.split)
        unlabelled = len(set(images) - set(files))
        if unlabelled:
            notes = (*notes, f"Images without an annotation file are left out: {unlabelled}.")
        return list(files), notes
    if options.split not in known:
        raise InputError(f"{source}: no split {options.split!r}; choose one of: {', '.join(known)}")
    file = path / LISTS / f"{options.split}.txt"
    enclosure.check(file)
    try:
        names = [words[0] for words in map(str.split, file.read_text(encoding="utf-8-sig").splitlines()) if words]
    except UnicodeDecodeError:
        raise InputError(f"{printable(file)}: is not UTF-8 text; save it as such") from None
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise InputError(f"{printable(file)}: {twice[0]!r} is there twice; keep one")
    return names, ()
