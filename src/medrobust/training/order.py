"""In what order the images are seen: told by seed and step alone, so that a training can go on from any step."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from medrobust.threat import derived


@dataclass(frozen=True)
class Order:
    """The batches from a step on; each epoch anew in random order.

    Args:
        count: images.
        batch_size: images a step; a single one that would be left over at the end of an epoch joins the batch before
            it, for what normalises by the batch makes nothing of one image.
        seed: of the order.
        first: the step to begin with.
        steps: the step to end before.
        chances: `(count,)`, how likely each image is to be drawn; each draw is then from all of them, so that an image
            may be seen several times an epoch, or not at all. None: each once an epoch.
        share, shares: of every batch, the images at the places `share`, `share + shares`, …; its first one where there
            are none.
    """

    count: int
    batch_size: int
    seed: int
    first: int
    steps: int
    chances: Tensor | None = None
    share: int = 0
    shares: int = 1

    @property
    def per_epoch(self) -> int:
        """Steps of an epoch: the last batch of it may be smaller, or larger by one."""
        whole, rest = divmod(self.count, self.batch_size)
        left_over = rest == 1 and whole > 0
        return whole + (rest > 0 and not left_over)

    def size(self, step: int) -> int:
        """Images of the batch of a step, of all shares together."""
        place = step % self.per_epoch
        last = place + 1 == self.per_epoch
        return self.count - place * self.batch_size if last else self.batch_size

    def __len__(self) -> int:
        return self.steps - self.first

    def __iter__(self) -> Iterator[list[int]]:
        """The places of the images of one batch after the other, or of the share of each."""
        epoch, places = -1, []
        for step in range(self.first, self.steps):
            if step // self.per_epoch != epoch:
                epoch = step // self.per_epoch
                places = self._of_epoch(torch.Generator().manual_seed(derived(self.seed, "order", epoch)))
            place = step % self.per_epoch
            start = place * self.batch_size
            batch = places[start : start + self.size(step)]
            yield batch[self.share :: self.shares] or batch[:1]

    def _of_epoch(self, generator: torch.Generator) -> list[int]:
        if self.chances is None:
            drawn = torch.randperm(self.count, generator=generator)
        else:
            drawn = torch.multinomial(self.chances, self.count, replacement=True, generator=generator)
        places: list[int] = drawn.tolist()
        return places
