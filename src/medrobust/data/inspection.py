"""What a data set holds, and what is wrong with it: every image is read once, one at a time."""

from __future__ import annotations

import hashlib
import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from medrobust.data import EMBEDDED, FORMATS, DataOptions, Dataset, Sample, open_dataset, recognise
from medrobust.data.dataset import TaskName
from medrobust.data.images import printable
from medrobust.errors import BadSampleError

Progress = Callable[[str, int, int], None]  # split, images seen, images in it


@dataclass(frozen=True)
class ClassCount:
    """How much there is of one class in one split.

    Attributes:
        images: images that are or have it.
        objects: its boxes; None unless for detection.
        pixels: its share of all pixels; None unless for segmentation.
    """

    images: int
    objects: int | None = None
    pixels: float | None = None


@dataclass(frozen=True)
class SplitFindings:
    """One split.

    Attributes:
        images: how many could be read.
        classes: class → how much there is of it.
        sizes: size of an image (width × height, as people say it; depth first for volumes) → how many have it.
        low, high: the lowest and highest value seen, in data units.
        depths: how finely values are stored ("8 bits", "steps of 1", "float") → how many images.
        patients: how many are known by name.
        without_patient: images of which the patient is not known.
    """

    name: str
    images: int
    classes: Mapping[str, ClassCount]
    sizes: Mapping[tuple[int, ...], int]
    low: float
    high: float
    depths: Mapping[str, int]
    patients: int
    without_patient: int


@dataclass(frozen=True)
class Findings:
    """What was found in a data set.

    Attributes:
        format: name in `FORMATS`, or "embedded".
        splits: each of them; one named "all" where the data have none.
        unreadable: what is wrong with each image that cannot be used.
        shared_patients: patient → the splits it is in, where these are several.
        duplicates: the splits and ids of images that are the same, byte for byte.
        notes: what the format says of the data.
    """

    source: str
    format: str
    task: TaskName
    classes: tuple[str, ...]
    unit: str
    channels: int
    spatial_dims: int
    splits: tuple[SplitFindings, ...]
    unreadable: tuple[str, ...]
    shared_patients: Mapping[str, tuple[str, ...]]
    duplicates: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...]

    @property
    def images(self) -> int:
        """How many could be read, of all splits."""
        return sum(split.images for split in self.splits)


def inspect(
    path: str | Path,
    options: DataOptions | None = None,
    *,
    split: str | None = None,
    on_progress: Progress = lambda *_: None,
) -> Findings:
    """Read all images of a data set, or of one split of it, and tell what they are.

    Args:
        path: as for `open_dataset`.
        options: how to read it; `limit` counts for each split, and `split` is that of the argument.
        split: the one to look at; all when None.
        on_progress: hears of each image.

    Raises:
        InputError: the path is no data set.
    """
    options = replace(options or DataOptions(), skip_bad=True)
    name, splits = _format_and_splits(path, options, split)
    opened = {label: open_dataset(path, replace(options, split=wanted)) for label, wanted in splits.items()}
    first = next(iter(opened.values())).info
    found, unreadable = [], []
    homes: dict[str, list[tuple[str, str]]] = defaultdict(list)  # digest → (split, id)
    patients: dict[str, list[str]] = defaultdict(list)
    for label, dataset in opened.items():
        counts = _Counts(dataset)
        for index in range(len(dataset)):
            on_progress(label, index, len(dataset))
            try:
                sample = dataset[index]
            except BadSampleError as error:
                unreadable.append(str(error))
                continue
            counts.add(sample)
            homes[_digest(sample)].append((label, sample.id))
        on_progress(label, len(dataset), len(dataset))
        found.append(counts.findings(label))
        for patient in counts.patients:
            patients[patient].append(label)
    return Findings(
        source=printable(path),
        format=name,
        task=first.task,
        classes=first.classes,
        unit=first.unit,
        channels=first.channels,
        spatial_dims=first.spatial_dims,
        splits=tuple(found),
        unreadable=tuple(unreadable),
        shared_patients={patient: tuple(labels) for patient, labels in patients.items() if len(labels) > 1},
        duplicates=tuple(_named(places, opened) for places in homes.values() if len(places) > 1),
        notes=tuple(dict.fromkeys(note for dataset in opened.values() for note in dataset.info.notes)),
    )


class _Counts:
    """Adds up what the samples of one split are."""

    def __init__(self, dataset: Dataset) -> None:
        self.info = dataset.info
        self.images = 0
        self.having: Counter[int] = Counter()  # class → images
        self.amounts: Counter[int] = Counter()  # class → objects or pixels
        self.sizes: Counter[tuple[int, ...]] = Counter()
        self.depths: Counter[str] = Counter()
        self.range = (float("inf"), -float("inf"))
        self.patients: Counter[str] = Counter()

    def add(self, sample: Sample) -> None:
        """Count one sample."""
        self.images += 1
        *depth, height, width = sample.image.shape[1:]
        self.sizes[(width, height, *depth)] += 1
        low, high = self.range
        self.range = min(low, float(sample.image.min())), max(high, float(sample.image.max()))
        self.depths[_depth(sample, self.info.unit)] += 1
        if sample.patient is not None:
            self.patients[sample.patient] += 1
        amounts = _amounts(sample.truth, self.info.task)
        self.amounts.update(amounts)
        self.having.update(amounts.keys())

    def findings(self, name: str) -> SplitFindings:
        """What was counted."""
        task, every = self.info.task, max(self.amounts.total(), 1)
        classes = {
            name: ClassCount(
                self.having[index],
                self.amounts[index] if task == "detection" else None,
                self.amounts[index] / every if task == "segmentation" else None,
            )
            for index, name in enumerate(self.info.classes)
        }
        return SplitFindings(
            name=name,
            images=self.images,
            classes=classes,
            sizes=dict(self.sizes.most_common()),
            low=self.range[0],
            high=self.range[1],
            depths=dict(self.depths.most_common()),
            patients=len(self.patients),
            without_patient=self.images - self.patients.total(),
        )


def middle_size(sizes: Mapping[tuple[int, ...], int]) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Smallest, median and largest extent along each axis of the sizes of images."""
    axes = list(zip(*(size for size, count in sizes.items() for _ in range(count)), strict=True))
    return tuple(map(min, axes)), tuple(map(statistics.median_low, axes)), tuple(map(max, axes))


def _format_and_splits(path: str | Path, options: DataOptions, split: str | None) -> tuple[str, dict[str, str]]:
    """The format's name, and label → split to open."""
    if isinstance(path, str) and path.startswith(EMBEDDED):
        names: Sequence[str] = (split,) if split else ("train", "test")
        return EMBEDDED.rstrip(":"), {name: name for name in names}
    place = Path(path).expanduser()
    if not place.exists() or options.format not in ("auto", *FORMATS):
        open_dataset(path, options)  # says what is wrong
    name = recognise(place, options) if options.format == "auto" else options.format
    known = (split,) if split else FORMATS[name].splits(place, options)
    return name, {label: label for label in known} or {"all": DataOptions().split}


def _amounts(truth: Tensor, task: TaskName) -> dict[int, int]:
    """Class → how many objects, pixels or, for labels, 1; of the classes that are there."""
    if task == "detection":
        truth = truth[:, 4].long()
    elif task == "multilabel":
        truth = (truth == 1).nonzero().flatten()
    values, counts = torch.unique(truth, return_counts=True)
    return {int(value): int(count) for value, count in zip(values, counts, strict=True)}


def _depth(sample: Sample, unit: str) -> str:
    """How finely the values of an image are stored, by its file's word or, in [0, 1], by the values themselves."""
    if sample.quantum is not None:
        return f"steps of {sample.quantum:.6g}"
    if unit == "[0, 1]":
        for bits in (8, 16):
            stored = sample.image.double() * (2**bits - 1)
            if (stored - stored.round()).abs().max() < 0.01:
                return f"{bits} bits"
    return "float"


def _digest(sample: Sample) -> str:
    """SHA-256 of the image's file, or of its values where it has no file of its own."""
    if sample.file is not None and sample.file.is_file():
        with sample.file.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    values = sample.image.contiguous().numpy()
    return hashlib.sha256(repr(values.shape).encode() + values.tobytes()).hexdigest()


def _named(places: Iterable[tuple[str, str]], opened: Mapping[str, Dataset]) -> tuple[str, ...]:
    return tuple(f"{label}: {name}" if len(opened) > 1 else name for label, name in places)
