"""Attacks that go on where those of the last epoch ended."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from medrobust.threat import Space, sample_generators


class LastChanges:
    """The change of every image at its last attack, where its next one starts.

    Zheng et al.: Efficient Adversarial Training with Transferable Adversarial Examples, CVPR 2020, arXiv 1912.11969:
    a change that was made on the weights of the last epoch still does most of its work on those of this one.

    Attributes:
        kept: place in the data set → change `(C, *spatial)`, in bfloat16 (any unit of images fits in it) and in main
            memory.
    """

    def __init__(self) -> None:
        self.kept: dict[int, Tensor] = {}

    def starts(self, places: Sequence[int], images: Tensor, space: Space, seed: int, ids: Sequence[object]) -> Tensor:
        """Where the attacks on images `(B, C, *spatial)` start; one that was never attacked starts at random.

        Changes may be of a larger budget, and are to be put into the ball.
        """
        known = [place in self.kept for place in places]
        random = None if all(known) else space.random_start(sample_generators(seed, ids, "warm"))
        return torch.stack(
            [
                image + self.kept[place].to(image) if random is None or place in self.kept else random[row]
                for row, (place, image) in enumerate(zip(places, images, strict=True))
            ]
        )

    def keep(self, places: Sequence[int], changes: Tensor) -> None:
        """Remember the changes `(B, C, *spatial)`."""
        small = changes.detach().to("cpu", torch.bfloat16)
        self.kept.update({place: change.clone() for place, change in zip(places, small, strict=True)})

    def tensors(self) -> dict[str, Tensor]:
        """For a checkpoint."""
        return {str(place): change for place, change in self.kept.items()}

    def fill(self, tensors: dict[str, Tensor]) -> None:
        """The reverse."""
        self.kept = {int(place): change for place, change in tensors.items()}
