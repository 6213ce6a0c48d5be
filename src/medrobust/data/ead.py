"""Endoscopy Artefact Detection, 2019 (Ali et al., arXiv 1905.03209) and 2020 (EndoCV2020), in the official layouts.

Each image has a text file of boxes in YOLO's form: beside it (2019), or in gt_bbox/ for the images in frames/, or in
bbox/ for those in originalImages/ (2020). class_list.txt names the classes; without it they are the challenge's own.
"""

from __future__ import annotations

from pathlib import Path

from medrobust.data.admission import Enclosure
from medrobust.data.class_names import EAD_2019, EAD_2020, name_classes
from medrobust.data.dataset import Dataset
from medrobust.data.files import no_split_of
from medrobust.data.images import printable
from medrobust.data.options import DataOptions
from medrobust.data.yolo import Folders, open_boxes, read_class_list
from medrobust.errors import InputError

CLASS_LIST = "class_list.txt"
FOLDERS_2020 = (("frames", "gt_bbox"), ("originalImages", "bbox"))


def detect(path: Path, options: DataOptions) -> bool:  # noqa: ARG001
    """Is it a folder with the challenge's list of classes, or with the folders of 2020 and no other list?"""
    if not path.is_dir():
        return False
    named = path / CLASS_LIST
    if named.is_file():
        return _names(named) in (EAD_2019, EAD_2020)
    return _folders_2020(path) is not None


def open_ead(path: Path, options: DataOptions) -> Dataset:
    """Open EAD's images for detection.

    An image without a text file has no artefact. Ids are the images' paths below `path`.

    Raises:
        InputError: there are no images with text files, or `classes` names another number of classes.
        BadSampleError: a row cannot be used (unless `options.skip_bad`); the message names file and row.
    """
    source = printable(path)
    if not path.is_dir():
        raise InputError(f"{source}: is not a folder; EAD is one of images and text files")
    of_2020 = _folders_2020(path)
    known = EAD_2020 if of_2020 else EAD_2019
    if (path / CLASS_LIST).is_file():
        Enclosure.around(path, options).check(path / CLASS_LIST)
        known = read_class_list(path / CLASS_LIST)
    classes = name_classes(options.classes, known)
    if len(classes) != len(known):
        raise InputError(f"{source}: {len(classes)} classes are wanted but EAD has {len(known)} ({', '.join(known)})")
    return open_boxes(path, of_2020 or Folders(path, path), classes, options, no_split_of(source, options.split))


def _folders_2020(path: Path) -> Folders | None:
    for images, labels in FOLDERS_2020:
        if (path / images).is_dir() and (path / labels).is_dir():
            return Folders(path / images, path / labels)
    return None


def _names(path: Path) -> tuple[str, ...]:
    try:
        return read_class_list(path)
    except InputError:
        return ()
