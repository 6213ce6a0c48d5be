"""Samples of one shape, gathered to be attacked together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from medrobust.data import BadSampleError, Dataset, DatasetInfo, Sample, stack
from medrobust.errors import InputError
from medrobust.evaluation.records import Skipped
from medrobust.tasks.surface import Spacing
from medrobust.victim import Victim


@dataclass(frozen=True)
class Batch:
    """`images` `(B, C, *spatial)` and `truth` `(B, …)` on the victim's device, with what is known of each."""

    indices: list[int]
    samples: Sequence[Sample]
    images: Tensor
    truth: Tensor

    @property
    def ids(self) -> list[str]:
        """The samples' ids."""
        return [sample.id for sample in self.samples]

    @property
    def spacing(self) -> list[Spacing]:
        """Millimetres between the pixels of each image, None where unknown."""
        return [sample.spacing for sample in self.samples]

    @property
    def volumes(self) -> bool:
        """Whether the images have three spatial axes."""
        return self.images.ndim == 5

    def rows(self, index: Tensor) -> Batch:
        """Some of the images, by their places `(n,)` int64."""
        if len(index) == len(self.indices):
            return self
        places = index.tolist()
        return Batch(
            [self.indices[place] for place in places],
            [self.samples[place] for place in places],
            self.images[index.to(self.images.device)],
            self.truth[index.to(self.truth.device)],
        )

    def moved(self, truth: Tensor | None) -> Batch:
        """With a truth `(B, …)` in register with attacked images; None is the same."""
        return self if truth is None else replace(self, truth=truth.to(self.truth.device))


def batches(dataset: Dataset, victim: Victim, size: int, on_bad: Callable[[Skipped], None] | None) -> Iterator[Batch]:
    """Runs of neighbours of the same shape and quantum, at most `size` long.

    A sample that cannot be read, or that the victim cannot take (NaN, out of bounds), goes to `on_bad`; without one it
    stops the iteration.

    Raises:
        BadSampleError: a sample cannot be read, and there is no `on_bad`.
        InputError: two samples have the same id.
    """
    waiting: list[tuple[int, Sample]] = []
    seen: set[str] = set()
    for index in range(len(dataset)):
        try:
            sample = _checked(dataset[index], victim)
        except BadSampleError as error:
            if on_bad is None:
                raise BadSampleError(f"{error} (--skip-bad leaves such images out and lists them)") from error
            on_bad(Skipped(index, str(error)))
            continue
        if sample.id in seen:
            raise InputError(
                f"two samples have the id {sample.id!r}: an attack's random numbers depend on it, rename one"
            )
        seen.add(sample.id)
        if waiting and (len(waiting) == size or not _alike(sample, waiting[0][1])):
            yield _batch(waiting, victim.device)
            waiting = []
        waiting.append((index, sample))
    if waiting:
        yield _batch(waiting, victim.device)


class Usable:
    """The samples of a data set that `batches` does not leave out; looked for when first needed."""

    def __init__(self, whole: Dataset, victim: Victim) -> None:
        self._whole, self._victim = whole, victim

    @cached_property
    def _indices(self) -> list[int]:
        return [index for index in range(len(self._whole)) if self._is_usable(index)]

    def _is_usable(self, index: int) -> bool:
        try:
            _checked(self._whole[index], self._victim)
        except BadSampleError:
            return False
        return True

    @property
    def info(self) -> DatasetInfo:
        """What the whole set says of itself."""
        return self._whole.info

    def __len__(self) -> int:
        """Number of usable samples."""
        return len(self._indices)

    def __getitem__(self, index: int) -> Sample:
        """The usable sample at `index`."""
        return self._whole[self._indices[index]]

    def fingerprint(self) -> str:
        """SHA-256 (hex) of the whole set."""
        return self._whole.fingerprint()


def _checked(sample: Sample, victim: Victim) -> Sample:
    try:
        victim.check_images(sample.image.unsqueeze(0))
    except InputError as error:
        raise BadSampleError(f"image {sample.id!r}: {error}") from error
    return sample


def _alike(sample: Sample, other: Sample) -> bool:
    return sample.image.shape == other.image.shape and sample.quantum == other.quantum


def _batch(members: list[tuple[int, Sample]], device: torch.device) -> Batch:
    samples = [sample for _, sample in members]
    images, truth, _ = stack(samples)
    return Batch([index for index, _ in members], samples, images.to(device), truth.to(device))
