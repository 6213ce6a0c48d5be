"""A folder for each class, with its images: `root/class/…`, or `root/split/class/…`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from medrobust.data.assembly import assemble
from medrobust.data.dataset import Dataset
from medrobust.data.files import (
    SPLIT_NAMES,
    FileEntry,
    images_under,
    last_name,
    no_split_of,
    relative_id,
    subfolders,
)
from medrobust.data.images import printable
from medrobust.data.options import DataOptions, choose_task, evenly
from medrobust.errors import InputError


def detect(path: Path, options: DataOptions) -> bool:  # noqa: ARG001
    """Is it a folder with folders that hold images?"""
    return path.is_dir() and any(images_under(folder) for folder in subfolders(path))


def splits(path: Path, options: DataOptions) -> tuple[str, ...]:  # noqa: ARG001
    """The folders of splits."""
    return tuple(folder.name for folder in subfolders(path) if folder.name.lower() in SPLIT_NAMES)


def open_image_folder(path: Path, options: DataOptions) -> Dataset:
    """Open a folder of class folders.

    Classes are the folders' names in alphabetical order, as in torchvision's `ImageFolder` (numbers are the
    indices themselves), unless `classes` names them in another; a folder without images counts, so that
    indices stay those of the training set.
    Ids are the files' paths below `path`.

    Raises:
        InputError: there is no such split, the folders do not match `classes`, or no image can be read.
    """
    source = printable(path)
    roots, notes = _roots(path, source, options.split)
    folders = {printable(folder.name) for root in roots for folder in subfolders(root)}
    classes = _classes(source, folders, options.classes)
    every = [
        FileEntry(relative_id(image, path), image, classes.index(printable(folder.name)))
        for folder in subfolders(roots[0])
        for image in images_under(folder)
    ]
    if not every:
        raise InputError(
            f"{printable(roots[0])}: no image in its class folders; put PNG, JPEG, TIFF or NIfTI files there"
        )
    return assemble(
        evenly(every, options.limit),
        path,
        options,
        name=last_name(path),
        task=choose_task(options.task, "classification", ["classification", "ordinal"], source),
        classes=classes,
        notes=notes,
    )


def _roots(path: Path, source: str, split: str) -> tuple[Sequence[Path], tuple[str, ...]]:
    """The folder that holds the wanted split's class folders first, then those of other splits; and notes."""
    splits = [folder for folder in subfolders(path) if folder.name.lower() in SPLIT_NAMES]
    if not splits:
        return [path], no_split_of(source, split)
    wanted = [folder for folder in splits if folder.name == split]
    if not wanted:
        names = ", ".join(folder.name for folder in splits)
        raise InputError(f"{source}: no split {split!r}; choose one of: {names}")
    return [*wanted, *(folder for folder in splits if folder.name != split)], ()


def _classes(source: str, folders: Iterable[str], wanted: int | tuple[str, ...] | None) -> tuple[str, ...]:
    found = tuple(sorted(folders))
    if isinstance(wanted, tuple):
        unnamed = [name for name in found if name not in wanted]
        if unnamed:
            raise InputError(
                f"{source}: the folder {unnamed[0]!r} is not among classes ({', '.join(wanted)}); "
                "name it there or move it away"
            )
        return wanted
    if len(found) != (wanted or len(found)) or len(found) < 2:
        raise InputError(
            f"{source}: {len(found)} class folders ({', '.join(found)}) but {wanted or 'at least 2'} classes "
            "are needed: add the missing folders, even empty, or name all classes in order"
        )
    if all(name.isdecimal() for name in found):
        found = tuple(sorted(found, key=int))
        if [int(name) for name in found] != list(range(len(found))):
            raise InputError(
                f"{source}: the class folders {', '.join(found)} are numbers but not 0 to {len(found) - 1}: "
                "add the missing folders, even empty, or name the classes in order"
            )
    return found
