"""Volumes read slice by slice, for models of two axes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from torch import Tensor

from medrobust.data.dataset import DatasetInfo, Sample
from medrobust.data.file_types import outline_of
from medrobust.data.files import FileDataset, FileEntry, refuse_unknown_truth
from medrobust.data.masks import read_class_mask
from medrobust.data.options import DataOptions, evenly
from medrobust.data.resizing import resized
from medrobust.errors import BadSampleError, InputError

REMEMBERED = 2  # volumes: neighbouring slices are asked for one after the other


@dataclass(frozen=True)
class Place:
    """Where a slice is: which volume, across which axis of (D, H, W), which one."""

    volume: int
    axis: int
    index: int


@dataclass(frozen=True)
class SlicedDataset:
    """The slices of volumes as samples of two axes.

    Attributes:
        info: what the set says of itself.
        volumes: the volumes that it is cut from.
        places: where each slice is.
        size: (height, width) to bring slices to, or None to leave them as they are.
    """

    info: DatasetInfo
    volumes: FileDataset
    places: Sequence[Place]
    size: tuple[int, int] | None = None
    _recent: dict[int, Sample] = field(default_factory=dict, repr=False, compare=False)

    def __len__(self) -> int:
        """Number of slices."""
        return len(self.places)

    def __getitem__(self, index: int) -> Sample:
        """Read one slice: image `(C, H, W)`, its id the volume's with "#" and the slice's number.

        The patient is the volume's, or the volume itself when unknown: its slices are resampled together.

        Raises:
            BadSampleError: a file of its volume cannot be used.
        """
        place = self.places[index]
        volume = self._volume(place.volume)
        sample = replace(
            volume,
            id=f"{volume.id}#{place.index:04d}",
            image=volume.image.select(1 + place.axis, place.index).clone(),
            truth=_cut(volume.truth, place),
            patient=volume.id if volume.patient is None else volume.patient,
            spacing=None if volume.spacing is None else _without(volume.spacing, place.axis),
            file=None,
        )
        refuse_unknown_truth(sample.truth, self.info.ignore_index, sample.id)
        return resized(sample, self.size)

    def fingerprint(self) -> str:
        """SHA-256 (hex) over the volumes' files, and which slices are taken of them."""
        taken = repr((self.size, list(self.places)))
        return hashlib.sha256(f"{self.volumes.fingerprint()} {taken}".encode()).hexdigest()

    def _volume(self, index: int) -> Sample:
        if index not in self._recent:
            volume = self.volumes[index]
            while len(self._recent) >= REMEMBERED:
                del self._recent[next(iter(self._recent))]
            self._recent[index] = volume
        return self._recent[index]


def dataset_of_files(
    info: DatasetInfo, entries: Sequence[FileEntry], options: DataOptions
) -> FileDataset | SlicedDataset:
    """The images of entries as samples, or the slices of them when `options.slices` asks for these.

    Raises:
        InputError: slices are asked of images with boxes, or only those with a truth where there are no masks.
    """
    if options.slices is None:
        return FileDataset(info, entries, options.size, options.max_pixels, options.window)
    if info.task == "detection":
        raise InputError(f"{info.source}: option slices has no meaning for images with boxes; leave it out")
    if options.slices_with_truth and info.task != "segmentation":
        raise InputError(f"{info.source}: option slices_with_truth has no meaning without masks; leave it out")
    volumes = FileDataset(replace(info, spatial_dims=3), entries, None, options.max_pixels, options.window)
    places = [place for volume in range(len(entries)) for place in _places(volumes, volume, options)]
    if not places:
        raise InputError(f"{info.source}: no slice has any truth but the background; leave slices_with_truth out")
    return SlicedDataset(info, volumes, evenly(places, options.limit), options.size)


def _places(volumes: FileDataset, volume: int, options: DataOptions) -> Iterator[Place]:
    """The slices of a volume; for one that cannot be read its first, whose reading will tell what is wrong."""
    entry = volumes.entries[volume]
    try:
        if entry.fault:
            raise BadSampleError(entry.fault)
        outline = outline_of(entry.image, options.max_pixels)
        if len(outline.shape) != 3:
            raise BadSampleError("no volume")
        axis = outline.planes.index(str(options.slices))
        count = outline.shape[axis]
        wanted = _with_truth(volumes, entry, axis, count) if options.slices_with_truth else range(count)
        yield from (Place(volume, axis, index) for index in wanted)
    except BadSampleError:
        yield Place(volume, 0, 0)


def _with_truth(volumes: FileDataset, entry: FileEntry, axis: int, count: int) -> Sequence[int]:
    info = volumes.info
    assert isinstance(entry.truth, Path)
    mask = read_class_mask(entry.truth, len(info.classes), info.ignore_index, volumes.max_pixels, entry.image)
    if mask.ndim != 3 or mask.shape[axis] != count:
        raise BadSampleError("another shape")
    foreground = mask > 0
    if info.ignore_index is not None:
        foreground &= mask != info.ignore_index
    others = tuple(other for other in range(3) if other != axis)
    return [int(index) for index in foreground.any(others[1]).any(others[0]).nonzero()]


def _cut(truth: Tensor, place: Place) -> Tensor:
    """The slice of a mask; a class or labels are those of each slice."""
    return truth.select(place.axis, place.index).clone() if truth.ndim == 3 else truth


def _without(spacing: tuple[float, ...], axis: int) -> tuple[float, ...]:
    return spacing[:axis] + spacing[axis + 1 :]
