"""A data set whose samples are image files, each read when it is asked for."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from medrobust.data.boxes import BoxTruth, box_tensor, resize_boxes
from medrobust.data.dataset import DatasetInfo, Sample
from medrobust.data.file_types import StoredImage, is_readable, read_stored
from medrobust.data.images import printable, resize, resize_mask, with_channels
from medrobust.data.masks import read_class_mask
from medrobust.errors import BadSampleError, InputError

SPLIT_NAMES = frozenset({"train", "training", "val", "valid", "validation", "test", "testing"})


@dataclass(frozen=True)
class FileEntry:
    """Where one sample is to be read from.

    Attributes:
        id: of the sample.
        image: its image file.
        truth: a class, 0/1 (or the set's `ignore_index`) for each label, the mask file, or boxes.
        patient: identity, if known.
        columns: further columns of the source.
        fault: what is already known to be wrong with it; raised when the sample is read.
    """

    id: str
    image: Path
    truth: int | tuple[int, ...] | Path | BoxTruth
    patient: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    fault: str = ""


@dataclass(frozen=True)
class FileDataset:
    """Samples in image files.

    Attributes:
        info: what the set says of itself.
        entries: one for each sample.
        size: (height, width) to bring images and masks to, or None to leave them as they are.
    """

    info: DatasetInfo
    entries: Sequence[FileEntry]
    size: tuple[int, int] | None = None

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.entries)

    def __getitem__(self, index: int) -> Sample:
        """Read one sample: image `(C, *spatial)` float32 in data units, truth as `Sample` says.

        Raises:
            BadSampleError: a file of it cannot be used.
        """
        entry = self.entries[index]
        if entry.fault:
            raise BadSampleError(entry.fault)
        stored = read_stored(entry.image)
        self._check_unit(stored, entry)
        image = with_channels(stored.pixels, self.info.channels)
        truth = self._truth(entry, image)
        spacing, quantum = stored.spacing, stored.quantum
        if self.size is not None:
            before = image.shape[-2:]
            image, quantum = resize(image, self.size), None
            if isinstance(entry.truth, Path):
                truth = resize_mask(truth, self.size)
            elif isinstance(entry.truth, BoxTruth):
                truth = resize_boxes(truth, before, self.size)
            if spacing is not None:
                ratios = (old / new for old, new in zip(before, self.size, strict=True))
                spacing = tuple(step * ratio for step, ratio in zip(spacing, ratios, strict=True))
        if self.info.ignore_index is not None and (truth == self.info.ignore_index).all():
            raise BadSampleError(
                f"{printable(entry.image)} has no truth but ignore_index {self.info.ignore_index}, so no answer to it "
                "is right or wrong: leave it out"
            )
        patient = entry.patient if entry.patient is not None else stored.patient
        return Sample(entry.id, image, truth, patient, entry.columns, spacing, quantum, entry.image)

    def fingerprint(self) -> str:
        """SHA-256 (hex) over how files are read, the entries, and the bytes of their files.

        A file that cannot be read counts as such.
        """
        reading = (self.size, self.info.channels, self.info.classes, self.info.ignore_index)
        digest = hashlib.sha256(repr(reading).encode())
        for entry in self.entries:
            truth = "mask" if isinstance(entry.truth, Path) else entry.truth
            digest.update(repr((entry.id, truth, entry.patient, sorted(entry.columns.items()))).encode())
            for path in (entry.image, entry.truth):
                if isinstance(path, Path):
                    digest.update(_file_digest(path))
        return digest.hexdigest()

    def _check_unit(self, stored: StoredImage, entry: FileEntry) -> None:
        if stored.unit != self.info.unit:
            raise BadSampleError(
                f"{printable(entry.image)} has values in {stored.unit}, the set is in {self.info.unit}: give each a "
                "run of its own"
            )

    def _truth(self, entry: FileEntry, image: Tensor) -> Tensor:
        if isinstance(entry.truth, BoxTruth):
            return box_tensor(entry.truth, image.shape[-2:], printable(entry.image))
        if not isinstance(entry.truth, Path):
            return torch.tensor(entry.truth, dtype=torch.int64)
        mask = read_class_mask(entry.truth, len(self.info.classes), self.info.ignore_index)
        if mask.shape != image.shape[1:]:
            raise BadSampleError(
                f"{printable(entry.image)} is {_size(image[0])} but its mask {printable(entry.truth)} is "
                f"{_size(mask)}: give both one size"
            )
        return mask


def images_under(folder: Path) -> list[Path]:
    """All image files in the folder and the folders in it, in an order that does not hang on the machine.

    Raises:
        OSError: a folder cannot be listed, which `Path.rglob` would pass over.
    """
    found: list[Path] = []
    for place, folders, names in os.walk(folder, onerror=_raise):
        folders[:] = [name for name in folders if not is_hidden(Path(name))]
        paths = [Path(place, name) for name in names if not is_hidden(Path(name))]
        found += [path for path in paths if is_readable(path) and path.is_file()]
    return sorted(found, key=lambda path: path.relative_to(folder).as_posix())


def subfolders(folder: Path) -> list[Path]:
    """The folders in a folder, by name, without hidden ones and those that archives leave behind."""
    return sorted(path for path in folder.iterdir() if path.is_dir() and not is_hidden(Path(path.name)))


def is_hidden(path: Path) -> bool:
    """Is the file the system's own, or an archive's, rather than the user's?"""
    return any(part.startswith(".") or part == "__MACOSX" for part in path.parts)


def last_name(path: Path) -> str:
    """The last part of a path as the user gave it, for tables; that of the folder itself for "." and ".."."""
    return printable(path.name if path.name not in ("", "..") else path.resolve().name)


def relative_id(path: Path, root: Path) -> str:
    """A file's path below `root`, the same on every system, as printable text."""
    return printable(path.relative_to(root).as_posix())


def refuse_faults(entries: Iterable[FileEntry]) -> None:
    """Raise `BadSampleError` for the first entry that is known to be wrong."""
    fault = next((entry.fault for entry in entries if entry.fault), "")
    if fault:
        raise BadSampleError(f"{fault} (--skip-bad leaves such images out and lists them)")


def count_channels(entries: Iterable[FileEntry], wanted: int | None, source: str) -> int:
    """The wanted number of channels, or that of the first image that can be read.

    Raises:
        InputError: no image can be read.
    """
    if wanted is not None:
        return wanted
    faults = []
    for entry in entries:
        try:
            if not entry.fault:
                return len(read_stored(entry.image).pixels)
            faults.append(entry.fault)
        except BadSampleError as error:
            faults.append(str(error))
    raise InputError(f"{source}: no image can be read; the first: {faults[0]}")


def no_split_of(source: str, split: str) -> tuple[str, ...]:
    """The note for a source without splits; `InputError` if a split other than the default is asked of it."""
    if split != "test":
        raise InputError(f"{source}: these data have no splits, so no {split!r}; leave split out to use them all")
    return ("The source names no splits: samples are from all of it.",)


def _raise(error: OSError) -> None:
    raise error


def _file_digest(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").digest()
    except OSError:
        return b"unreadable"


def _size(pixels: Tensor) -> str:
    height, width = pixels.shape
    return f"{width} × {height}"
