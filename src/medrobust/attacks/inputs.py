"""What is done to the iterate before the model sees it, so that a step serves more than this very image."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from medrobust.errors import InputError
from medrobust.tasks import Placement


class InputPart(Protocol):
    """One treatment of the images: where each is put in its frame. The truth moves along."""

    def begin(self, generators: Sequence[torch.Generator]) -> Callable[[Tensor], Placement]:
        """A fresh treatment for one run of the loop: images `(B, C, *spatial)` → where they go at this step.

        Args:
            generators: one an image; all randomness is theirs.
        """
        ...


@dataclass(frozen=True)
class Diversity:
    """Input diversity (Xie et al., arXiv 1803.06978, section 3.2).

    With a probability each image is made smaller by a random factor from 1/rate to 1 and put at a random place into its
    own frame, filled up with the lowest value. The paper enlarges image and frame instead (299 to 330 pixels, a rate of
    1.1) and shows the model the larger frame; here the frame keeps its size, which models of fixed input size need.

    Args:
        probability: that an image is treated at a step.
        rate: the largest factor, at least 1.
    """

    probability: float = 0.5
    rate: float = 1.1

    def __post_init__(self) -> None:
        if not 0 <= self.probability <= 1:
            raise InputError(f"probability must be in [0, 1], got {self.probability!r}")
        if not (math.isfinite(self.rate) and self.rate >= 1):
            raise InputError(f"rate must be a finite number of at least 1, got {self.rate!r}")

    def begin(self, generators: Sequence[torch.Generator]) -> Callable[[Tensor], Placement]:
        """A draw for every image and step."""

        def place(images: Tensor) -> Placement:
            frame = tuple(images.shape[2:])
            drawn = [self._draw(frame, generator) for generator in generators]
            return Placement([size for size, _ in drawn], [corner for _, corner in drawn])

        return place

    def _draw(self, frame: tuple[int, ...], generator: torch.Generator) -> tuple[tuple[int, ...], tuple[int, ...]]:
        chance, share, *places = torch.rand(2 + len(frame), generator=generator, dtype=torch.float64).tolist()
        if chance >= self.probability:
            return frame, (0,) * len(frame)
        scale = 1 / self.rate + share * (1 - 1 / self.rate)
        size = tuple(max(1, round(scale * side)) for side in frame)
        free = (side - length + 1 for side, length in zip(frame, size, strict=True))
        return size, tuple(int(place * room) for place, room in zip(places, free, strict=True))
