"""What a data set is to the rest of the package: labelled images in data units, one sample at a time."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import torch
from torch import Tensor

from medrobust.data.groups import GroupColumn, read_groups
from medrobust.errors import InputError

TaskName = Literal["classification", "ordinal", "multilabel", "segmentation", "detection"]
NO_BOX = -1  # class of a row that only fills up the truth of an image with fewer boxes than its neighbours


@dataclass(frozen=True)
class Sample:
    """One image with its truth.

    Attributes:
        id: unique within the data set and stable across runs (a file name, a row key): the attack's
            random numbers for this image depend on it and the seed alone.
        image: `(C, *spatial)` float32 in data units, within the data set's bounds; spatial is (H, W) or
            (D, H, W).
        truth: classification and ordinal: () int64 class; multi-label: (L,) int64 of 0/1;
            segmentation: `(*spatial)` int64 class per pixel. The last two may hold `DatasetInfo.ignore_index`.
            Detection: (n, 5) float32, a row x1, y1, x2, y2, class for each of n ≥ 0 objects; corners in pixels from the
            upper left corner of the image, which is (0, 0), with x1 < x2 and y1 < y2.
        patient: identity for resampling by patient, or None when unknown. It is hashed in records.
        columns: any further columns of the source, for subgroups; those that `DatasetInfo.groups` names are recorded.
        spacing: millimetres from one pixel (voxel) to the next along each spatial axis, or None when unknown.
        quantum: step between the values that the file can hold, in data units; None when it holds floats, or more
            finely than 8-bit grey levels need.
        file: what the image was read from, where that is a file (or the folder of a DICOM series) of its own.
    """

    id: str
    image: Tensor
    truth: Tensor
    patient: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    spacing: tuple[float, ...] | None = None
    quantum: float | None = None
    file: Path | None = None


@dataclass(frozen=True)
class DatasetInfo:
    """What a data set says of itself before any image is read.

    Attributes:
        name: short name for tables, e.g. "retinamnist": the last part of the path alone.
        task: what the truth is.
        classes: names of the classes (labels, for multi-label), in index order; for segmentation the
            first is the background, for detection there is none.
        channels: number of image channels.
        bounds: lowest and highest value an image may hold, in data units.
        unit: of the image values: "[0, 1]", "HU", or "stored" where a file names none (MRI, say).
        spatial_dims: 2 or 3.
        source: where it came from, for the report ("embedded", or the path as the user gave it).
        notes: sentences the report must print about these data (e.g. "one subject").
        ignore_index: the truth's value of a pixel or label that is unknown and does not count, if there is one.
        groups: the columns by which figures are told apart.
    """

    name: str
    task: TaskName
    classes: tuple[str, ...]
    channels: int
    bounds: tuple[float, float] = (0.0, 1.0)
    unit: str = "[0, 1]"
    spatial_dims: int = 2
    source: str = ""
    notes: tuple[str, ...] = ()
    ignore_index: int | None = None
    groups: tuple[GroupColumn, ...] = ()


@runtime_checkable
class Dataset(Protocol):
    """Labelled images, read lazily by index. `fingerprint` is a SHA-256 hex of what they are read from, and how."""

    @property
    def info(self) -> DatasetInfo:
        """What the data set says of itself."""
        ...

    def __len__(self) -> int:
        """Number of samples."""
        ...

    def __getitem__(self, index: int) -> Sample:
        """Read one sample; raises `BadSampleError` naming file and field when it cannot be used."""
        ...

    def fingerprint(self) -> str:
        """SHA-256 (hex) of the data, for `run.json`."""
        ...


@dataclass(frozen=True)
class InMemoryDataset:
    """Samples that are already in memory: a user's own tensors, or a test's.

    Args:
        info: what the set says of itself.
        samples: its images with their truth.
        groups: columns to tell figures apart by, each with a value for every sample (None where unknown), e.g.
            {"sex": ["F", "M"], "age:40,65": [38, 71]}; they join the samples' `columns` and the info's `groups`.

    Raises:
        InputError: a column has not one value a sample.
    """

    info: DatasetInfo
    samples: Sequence[Sample]
    groups: Mapping[str, Sequence[object]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.groups:
            return
        columns = read_groups(list(self.groups))
        for column, values in zip(columns, self.groups.values(), strict=True):
            if len(values) != len(self.samples):
                raise InputError(f"groups: {column.name!r} has {len(values)} values for {len(self.samples)} samples")
        named: list[dict[str, str]] = [{} for _ in self.samples]
        for column, values in zip(columns, self.groups.values(), strict=True):
            for place, value in enumerate(values):
                named[place][column.name] = "" if value is None else str(value)
        samples = [
            replace(sample, columns={**sample.columns, **of_it})
            for sample, of_it in zip(self.samples, named, strict=True)
        ]
        object.__setattr__(self, "samples", samples)
        object.__setattr__(self, "info", replace(self.info, groups=read_groups([*self.info.groups, *columns])))
        object.__setattr__(self, "groups", {})  # they are in the samples now

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.samples)

    def __getitem__(self, index: int) -> Sample:
        """The sample at `index`."""
        return self.samples[index]

    def __iter__(self) -> Iterator[Sample]:
        return iter(self.samples)

    def fingerprint(self) -> str:
        """SHA-256 (hex) over ids, images and truth."""
        digest = hashlib.sha256()
        for sample in self.samples:
            for tensor in (sample.image, sample.truth):
                digest.update(repr((sample.id, tensor.dtype, tuple(tensor.shape))).encode())
                digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()


def stack(samples: Sequence[Sample]) -> tuple[Tensor, Tensor, tuple[str, ...]]:
    """Put samples of one shape into a batch.

    Returns:
        images `(B, C, *spatial)` float32, truth `(B,)`, `(B, L)` or `(B, *spatial)` int64 (detection: `(B, N, 5)`
        float32, filled up with rows of class `NO_BOX`), and the B ids.

    Raises:
        InputError: there is no sample, or shapes differ.
    """
    if not samples:
        raise InputError("a batch needs at least one sample")
    first = samples[0]
    boxes = all(sample.truth.is_floating_point() and sample.truth.shape[1:] == (5,) for sample in samples)
    for sample in samples:
        same_truth = boxes or sample.truth.shape == first.truth.shape
        if sample.image.shape != first.image.shape or not same_truth:
            raise InputError(
                f"samples {first.id!r} and {sample.id!r} have different shapes, {_shapes(first)} and "
                f"{_shapes(sample)}: set resize, or a batch size of 1"
            )
    images = torch.stack([sample.image for sample in samples])
    truths = [sample.truth for sample in samples]
    truth = pad_boxes(truths) if boxes else torch.stack(truths)
    return images, truth, tuple(sample.id for sample in samples)


def pad_boxes(boxes: Sequence[Tensor]) -> Tensor:
    """Boxes of several images, `(n_i, 5)` each, as one `(B, max n, 5)`; the rows added are of class `NO_BOX`."""
    most = max((len(rows) for rows in boxes), default=0)
    padded = torch.zeros(len(boxes), most, 5)
    padded[:, :, 4] = NO_BOX
    for place, rows in enumerate(boxes):
        padded[place, : len(rows)] = rows
    return padded


def _shapes(sample: Sample) -> str:
    truth = f" with truth {tuple(sample.truth.shape)}" if sample.truth.ndim else ""
    return f"{tuple(sample.image.shape)}{truth}"
