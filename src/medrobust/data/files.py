"""A data set whose samples are image files, each read when it is asked for."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from medrobust.data.boxes import BoxTruth, box_tensor
from medrobust.data.dataset import DatasetInfo, Sample
from medrobust.data.file_types import StoredImage, check_same_place, is_readable, read_stored
from medrobust.data.images import printable, with_channels
from medrobust.data.masks import read_class_mask
from medrobust.data.resizing import resized
from medrobust.data.window import Window
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
        max_pixels: refuse files with more pixels (voxels); None leaves that to the kind of file.
        window: through which images are shown, or None.
    """

    info: DatasetInfo
    entries: Sequence[FileEntry]
    size: tuple[int, int] | None = None
    max_pixels: int | None = None
    window: Window | Literal["file"] | None = None

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
        stored = read_stored(entry.image, self.max_pixels).shown(self.window, printable(entry.image))
        self._check_kind(stored, entry)
        image = with_channels(stored.pixels, self.info.channels)
        patient = entry.patient if entry.patient is not None else stored.patient
        sample = Sample(
            id=entry.id,
            image=image,
            truth=self._truth(entry, image),
            patient=patient,
            columns={**self._header_columns(stored), **entry.columns},
            spacing=stored.spacing,
            quantum=stored.quantum,
            file=entry.image if self.window is None else None,  # which no longer holds these values
        )
        sample = resized(sample, self.size)
        refuse_unknown_truth(sample.truth, self.info.ignore_index, printable(entry.image))
        return sample

    def fingerprint(self) -> str:
        """SHA-256 (hex) over how files are read, the entries, and the bytes of their files.

        A file that cannot be read counts as such.
        """
        reading = (self.size, self.window, self.info.channels, self.info.classes, self.info.ignore_index)
        digest = hashlib.sha256(repr(reading).encode())
        for entry in self.entries:
            truth = "mask" if isinstance(entry.truth, Path) else entry.truth
            digest.update(repr((entry.id, truth, entry.patient, sorted(entry.columns.items()))).encode())
            for path in (entry.image, entry.truth):
                if isinstance(path, Path):
                    digest.update(_file_digest(path))
        return digest.hexdigest()

    def _header_columns(self, stored: StoredImage) -> dict[str, str]:
        """Of what a header tells, the columns that are to be grouped by, and no other."""
        named = [column.name for column in self.info.groups]
        return {name: stored.columns[name] for name in named if name in stored.columns}

    def _check_kind(self, stored: StoredImage, entry: FileEntry) -> None:
        """Unit and axes must be the set's; what a file without a unit of its own holds, the set has decided."""
        decided = stored.unit == "stored" and self.info.unit == "HU"
        if stored.unit != self.info.unit and not decided:
            raise BadSampleError(
                f"{printable(entry.image)} has values in {stored.unit}, the set is in {self.info.unit}: give each a "
                "run of its own"
            )
        axes = stored.pixels.ndim - 1
        if axes != self.info.spatial_dims:
            raise BadSampleError(
                f"{printable(entry.image)} has {axes} axes, the set's images have {self.info.spatial_dims}: give each "
                "a run of its own"
            )

    def _truth(self, entry: FileEntry, image: Tensor) -> Tensor:
        if isinstance(entry.truth, BoxTruth):
            return box_tensor(entry.truth, image.shape[-2:], printable(entry.image))
        if not isinstance(entry.truth, Path):
            return torch.tensor(entry.truth, dtype=torch.int64)
        mask = read_class_mask(
            entry.truth, len(self.info.classes), self.info.ignore_index, self.max_pixels, entry.image
        )
        if mask.shape != image.shape[1:]:
            raise BadSampleError(
                f"{printable(entry.image)} is {_size(image[0])} but its mask {printable(entry.truth)} is "
                f"{_size(mask)}: give both one size"
            )
        check_same_place(entry.image, entry.truth)
        return mask


def images_under(folder: Path) -> list[Path]:
    """All image files in the folder and the folders in it, in an order that does not hang on the machine.

    A folder in it that is one image (a DICOM series) stands for its files.

    Raises:
        OSError: a folder cannot be listed, which `Path.rglob` would pass over.
    """
    found: list[Path] = []
    for place, folders, names in os.walk(folder, onerror=_raise):
        folders[:] = [name for name in folders if not is_hidden(Path(name))]
        whole = [name for name in folders if is_readable(Path(place, name))]
        found += [Path(place, name) for name in whole]
        folders[:] = [name for name in folders if name not in whole]
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


def refuse_unknown_truth(truth: Tensor, ignore_index: int | None, name: str) -> None:
    """Raise `BadSampleError` when all of the truth is `ignore_index`."""
    if ignore_index is not None and (truth == ignore_index).all():
        raise BadSampleError(
            f"{name} has no truth but ignore_index {ignore_index}, so no answer to it is right or wrong: leave it out"
        )


def no_split_of(source: str, split: str) -> tuple[str, ...]:
    """The note for a source without splits; `InputError` if a split other than the default is asked of it."""
    if split != "test":
        raise InputError(f"{source}: these data have no splits, so no {split!r}; leave split out to use them all")
    return ("The source names no splits: samples are from all of it.",)


def _raise(error: OSError) -> None:
    raise error


def _file_digest(path: Path) -> bytes:
    try:
        if path.is_dir():  # of a DICOM series
            return b"".join(_file_digest(file) for file in sorted(path.iterdir()) if file.is_file())
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").digest()
    except OSError:
        return b"unreadable"


def _size(pixels: Tensor) -> str:
    return " × ".join(str(length) for length in reversed(pixels.shape))
