"""Images kept for looking at, evenly spread over the data set; of a volume, its middle slice."""

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


class GalleryCollector:
    """Picks up the chosen images as a campaign passes them."""

    def __init__(self, part: str, size: int, wanted: int, task: Task) -> None:
        self._part = part
        self._task = task
        count = min(size, wanted)
        self._chosen = {(2 * k + 1) * size // (2 * count) for k in range(count)}
        self._images: dict[int, GalleryImage] = {}

    def add_clean(self, batch: Batch, outputs: Any) -> None:
        """Keep the chosen images of a batch, with the model's outputs on them."""
        answers = self._answers(outputs)
        for place, index in self._places(batch):
            self._images[index] = GalleryImage(
                part=self._part,
                index=index,
                clean=_plane(batch.images[place], batch.volumes).float(),
                attacks=[],
                truth=None if answers is None else _plane(batch.truth[place], batch.volumes),
                before=None if answers is None else _plane(answers[place], batch.volumes),
            )

    def add_attack(self, batch: Batch, label: str, threat: Threat, result: AttackResult) -> None:
        """Keep what an attack made of the chosen images of a batch."""
        answers = self._answers(result.outputs)
        for place, index in self._places(batch):
            image = _plane(result.adversarial[place], batch.volumes).float()
            after = None if answers is None else _plane(answers[place], batch.volumes)
            moved = None if answers is None or result.truth is None else _plane(result.truth[place], batch.volumes)
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


def _plane(values: Tensor, volumes: bool) -> Tensor:
    """`(…, H, W)` as it is; of `(…, D, H, W)` the middle of D."""
    values = values.detach().cpu()
    return values[..., values.shape[-3] // 2, :, :].clone() if volumes else values
