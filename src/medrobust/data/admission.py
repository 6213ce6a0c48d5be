"""What every format does with its entries before they are a data set: patients from ids, nothing from outside."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath, PureWindowsPath

from medrobust.data.files import FileEntry, refuse_faults
from medrobust.data.images import printable
from medrobust.data.options import DataOptions
from medrobust.errors import BadSampleError, InputError


@dataclass(frozen=True)
class Enclosure:
    """The folders that a data set may read from: a link or a path in a file must not lead anywhere else.

    Attributes:
        roots: real paths of the data set's folder, and of those that options name.
        given: the path by which the user opened the data set, which may be a link to anywhere.
        open: whether everything may be read, as the option `allow_outside` says.
    """

    roots: tuple[Path, ...]
    given: Path
    open: bool = False
    _real_folders: dict[Path, Path] = field(default_factory=dict)

    @classmethod
    def around(cls, path: Path, options: DataOptions) -> Enclosure:
        """That of a data set opened by its folder, or by a file in it (or in its folder annotations/)."""
        folder = path if path.is_dir() else path.parent
        if path.is_file() and folder.name == "annotations":
            folder = folder.parent
        named = [folder / name for name in (options.image_folder, options.mask_folder) if name is not None]
        there = [place for place in (folder, *named) if place.is_dir()]
        return cls(tuple(Path(os.path.realpath(place)) for place in there), path, options.allow_outside)

    def check(self, path: Path) -> None:
        """Raise `BadSampleError` if the path, with its links followed, leads out."""
        if self.open or path == self.given:
            return
        real = self._real_folder(path.parent) / path.name
        if path.is_symlink():
            real = Path(os.path.realpath(path))
        if not any(real.is_relative_to(root) for root in self.roots):
            raise BadSampleError(
                f"{printable(path)} leads out of the data folder {printable(self.roots[0])}, to {printable(real)}: "
                "put the file there, or set allow_outside"
            )

    def below(self, folder: Path, text: str) -> Path:
        """The path that a text in a data set's file names, relative to a folder.

        Raises:
            InputError: it is empty, absolute, goes up, or leads out by a link.
        """
        place = PurePosixPath(text.replace("\\", "/"))
        goes_out = place.is_absolute() or ".." in place.parts or PureWindowsPath(text).drive
        if not self.open and goes_out:
            raise InputError(
                f"{text!r} leads out of the data folder; give a path relative to {printable(folder)}, "
                "or set allow_outside"
            )
        if not _is_path(text) or not place.parts:
            raise InputError(f"{text!r} is not a path; give one relative to {printable(folder)}")
        path = folder / place
        self.check(path)
        return path

    def _real_folder(self, folder: Path) -> Path:
        """With links followed; asked once, as a set has many files in few folders."""
        if folder not in self._real_folders:
            self._real_folders[folder] = Path(os.path.realpath(folder))
        return self._real_folders[folder]


def _is_path(text: str) -> bool:
    try:
        return b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:  # half of a surrogate pair, which JSON can write
        return False


def admit(entries: Iterable[FileEntry], path: Path, options: DataOptions) -> list[FileEntry]:
    """The entries of a data set at `path` as the options want them.

    Each gets its patient from its id by `patient_pattern`. One that leads out of the data folder gets a `fault`.

    Raises:
        BadSampleError: an entry has a fault, unless `skip_bad`.
        InputError: an id does not match `patient_pattern`.
    """
    enclosure = Enclosure.around(path, options)
    admitted = [_enclosed(_with_patient(entry, options.patient_pattern), enclosure) for entry in entries]
    if not options.skip_bad:
        refuse_faults(admitted)
    return admitted


def _with_patient(entry: FileEntry, pattern: str | None) -> FileEntry:
    if pattern is None:
        return entry
    found = re.search(pattern, entry.id)
    if found is None or not found.group(1):
        raise InputError(f"patient_pattern {pattern!r} finds no patient in the id {entry.id!r}; mend the pattern")
    return replace(entry, patient=found.group(1))


def _enclosed(entry: FileEntry, enclosure: Enclosure) -> FileEntry:
    if entry.fault:
        return entry
    try:
        for path in (entry.image, entry.truth):
            if isinstance(path, Path):
                enclosure.check(path)
                for part in path.iterdir() if path.is_dir() else ():  # of a DICOM series
                    enclosure.check(part)
    except BadSampleError as error:
        return replace(entry, fault=str(error))
    return entry
