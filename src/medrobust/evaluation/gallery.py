"""Images kept for looking at, evenly spread over the data set; of a volume, a few slices evenly spread over it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from medrobust.attacks import AttackResult
from medrobust.evaluation.batches import Batch
from medrobust.evaluation.records import GalleryAttack, GalleryImage
from medrobust.tasks import Task
from medrobust.threat import Threat

SLICES = 9  # of a volume that are kept, the middle one among them


class GalleryCollector:
    """Picks up the chosen images as a campaign passes them."""

    def __init__(self, part: str, size: int, wanted: int, task: Task) -> None:
        self._part = part
        self._task = task
        self._chosen = set(_spread(size, wanted))
        self._images: dict[int, GalleryImage] = {}

    def add_clean(self, batch: Batch, outputs: Any) -> None:
        """Keep the chosen images of a batch, with the model's outputs on them."""
        answers = self._answers(outputs)
        for place, index in self._places(batch):
            slices = _spread(batch.images.shape[-3], SLICES) if batch.volumes else ()
            self._images[index] = GalleryImage(
                part=self._part,
                index=index,
                clean=_kept(batch.images[place], slices).float(),
                attacks=[],
                truth=None if answers is None else _kept(batch.truth[place], slices),
                before=None if answers is None else _kept(answers[place], slices),
                slices=slices,
            )

    def add_attack(self, batch: Batch, label: str, threat: Threat, result: AttackResult) -> None:
        """Keep what an attack made of the chosen images of a batch."""
        answers = self._answers(result.outputs)
        for place, index in self._places(batch):
            slices = self._images[index].slices
            image = _kept(result.adversarial[place], slices).float()
            after = None if answers is None else _kept(answers[place], slices)
            moved = None if answers is None or result.truth is None else _kept(result.truth[place], slices)
            made = GalleryAttack(label, threat.norm, threat.budget(), image, after, moved)
            self._images[index].attacks.append(made)

    def images(self) -> list[GalleryImage]:
        """All that was kept, in the order of the data set."""
        return [self._images[index] for index in sorted(self._images)]

    def _places(self, batch: Batch) -> Iterator[tuple[int, int]]:
        return ((place, index) for place, index in enumerate(batch.indices) if index in self._chosen)

    def _answers(self, outputs: Any) -> Tensor | None:
        """Class maps, for a dense task; the answers of the others are in the records."""
        with torch.no_grad():
            return self._task.predict(outputs) if self._task.dense else None


def _spread(size: int, wanted: int) -> tuple[int, ...]:
    """At most so many places of `size`, evenly spread; of an odd number of them the middle one is the middle."""
    count = min(size, wanted)
    return tuple((2 * k + 1) * size // (2 * count) for k in range(count))


def _kept(values: Tensor, slices: tuple[int, ...]) -> Tensor:
    """`(…, H, W)` as it is; of `(…, D, H, W)` the slices."""
    values = values.detach().cpu()
    return values[..., list(slices), :, :] if slices else values
