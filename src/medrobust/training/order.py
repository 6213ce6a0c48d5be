"""In what order the images are seen: told by seed and step alone, so that a training can go on from any step."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from medrobust.threat import derived


@dataclass(frozen=True)
class Order:
    """The batches from a step on; each epoch anew in random order.

    Args:
        count: images.
        batch_size: images a step.
        seed: of the order.
        first: the step to begin with.
        steps: the step to end before.
    """

    count: int
    batch_size: int
    seed: int
    first: int
    steps: int

    @property
    def per_epoch(self) -> int:
        """Steps of an epoch: the last batch of it may be smaller."""
        return math.ceil(self.count / self.batch_size)

    def __len__(self) -> int:
        return self.steps - self.first

    def __iter__(self) -> Iterator[list[int]]:
        """The places of the images of one batch after the other."""
        epoch, places = -1, []
        for step in range(self.first, self.steps):
            if step // self.per_epoch != epoch:
                epoch = step // self.per_epoch
                generator = torch.Generator().manual_seed(derived(self.seed, "order", epoch))
                places = torch.randperm(self.count, generator=generator).tolist()
            start = step % self.per_epoch * self.batch_size
            yield places[start : start + self.batch_size]
