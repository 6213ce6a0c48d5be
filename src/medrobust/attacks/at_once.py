"""How many images a model is given at once: fewer from the moment that memory runs out, for the rest of the work."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from medrobust.attacks.per_image import joined
from medrobust.errors import InputError
from medrobust.memory import halved, halvings, out_of_memory

Value = TypeVar("Value")


@dataclass
class AtOnce:
    """The number of images that some work is given at once.

    Attributes:
        images: at most so many.
        halved: whether memory ever ran out.
    """

    images: int
    halved: bool = False

    def pieces(self, work: Callable[[Tensor], Value], count: int) -> tuple[list[Tensor], list[Value]]:
        """The work's result for `count` images, piece by piece: the places of each, int64 `(n,)`, and its result.

        Raises:
            InputError: not even one image fits into memory.
        """
        places, values = zip(*self._pieces(work, torch.arange(count)), strict=True)
        return list(places), list(values)

    def run(self, work: Callable[[Tensor], Value], count: int) -> Value:
        """As `pieces`, put together again: of tensors and data classes with a row for each image."""
        places, values = self.pieces(work, count)
        return values[0] if len(values) == 1 else joined(values, places)

    def over(self, work: Callable[[Tensor], Value], images: Tensor) -> Value:
        """As `run`, of work that takes the images themselves, `(B, C, *spatial)`."""

        def on_piece(index: Tensor) -> Value:
            return work(images if len(index) == len(images) else images[index.to(images.device)])

        return self.run(on_piece, len(images))

    def _pieces(self, work: Callable[[Tensor], Value], places: Tensor) -> Iterator[tuple[Tensor, Value]]:
        for piece in torch.split(places, self.images):
            found = [] if len(piece) > self.images else self._tried(work, piece)
            if found:
                yield piece, found[0]
            else:
                yield from self._pieces(work, piece)

    def _tried(self, work: Callable[[Tensor], Value], piece: Tensor) -> list[Value]:
        """The result alone, or nothing when memory ran out."""
        with halvings() as heard:
            try:
                return [work(piece)]
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    raise
                if len(piece) < 2:
                    raise InputError(
                        f"out of memory with a single image; resize the images, or lower the attack's at_once ({error})"
                    ) from error
            finally:
                self._hear(heard)
        with halvings() as heard:
            halved(len(piece))
        self._hear(heard)
        return []

    def _hear(self, heard: list[int]) -> None:
        """An attack that went on with fewer images need not try the larger number again."""
        self.halved |= bool(heard)
        self.images = min(self.images, *heard) if heard else self.images
