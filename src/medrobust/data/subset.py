"""Part of a data set: some of its samples, or a split that keeps a patient's images together."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from medrobust.data.dataset import Dataset, DatasetInfo, Sample
from medrobust.data.files import FileDataset
from medrobust.errors import InputError


@dataclass(frozen=True)
class Subset:
    """The samples of `whole` at `indices`, in that order."""

    whole: Dataset
    indices: Sequence[int]

    @property
    def info(self) -> DatasetInfo:
        """What the whole set says of itself."""
        return self.whole.info

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.indices)

    def __getitem__(self, index: int) -> Sample:
        """The sample at `index` of the part."""
        return self.whole[self.indices[index]]

    def fingerprint(self) -> str:
        """SHA-256 (hex) of the whole set and of which samples these are."""
        return hashlib.sha256(f"{self.whole.fingerprint()} {list(self.indices)}".encode()).hexdigest()


def split_by_patient(dataset: Dataset, share: float) -> tuple[Subset, Subset]:
    """About `share` of the patients, and the others; without patients, of the images.

    Who is on which side is told by a hash of the identity (of the id, where no patient is known) alone: not by the
    order, nor by who else is there. Of a set of files no image is read.
    """
    first: list[int] = []
    second: list[int] = []
    for index in range(len(dataset)):
        digest = hashlib.sha256(_identity(dataset, index).encode()).digest()
        (first if int.from_bytes(digest[:8], "big") < share * 2**64 else second).append(index)
    return Subset(dataset, first), Subset(dataset, second)


def check_apart(first: Dataset, second: Dataset, names: tuple[str, str]) -> None:
    """Raise `InputError` when a patient is in both; `names` are what the data sets are called."""
    shared = len(patients_of(first) & patients_of(second))
    if shared:
        raise InputError(f"{shared} patients are in both {names[0]} and {names[1]} images: split them by patient")


def patients_of(dataset: Dataset) -> set[str]:
    """Who is in it, as far as patients are known. Of a set of files no image is read."""
    known = (getattr(_entry(dataset, index), "patient", None) for index in range(len(dataset)))
    return {str(patient) for patient in known if patient is not None}


def _identity(dataset: Dataset, index: int) -> str:
    known = _entry(dataset, index)
    return str(getattr(known, "patient", None) or getattr(known, "id", index))


def _entry(dataset: Dataset, index: int) -> object:
    """What tells id and patient of a sample: the sample itself, or what a set of files knows without reading it."""
    if isinstance(dataset, Subset):
        return _entry(dataset.whole, dataset.indices[index])
    return dataset.entries[index] if isinstance(dataset, FileDataset) else dataset[index]
