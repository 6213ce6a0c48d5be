"""What an attack searches: variables that make images out of a batch of clean ones, and which of them are allowed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

Bounds = tuple[float, float]
# guards a division by a norm: far below any gradient that float32 can step along
TINY = 1e-30


class Space(Protocol):
    """What may be chosen around one batch of clean images `(B, C, *spatial)`; every image by itself.

    The variables, a tensor `(B, …)`, are the images' own values for a threat of `pixels`, else those of a family.
    """

    def start(self) -> Tensor:
        """The variables that give the clean images; not to be written on."""
        ...

    def random_start(self, generators: Sequence[torch.Generator]) -> Tensor:
        """Allowed variables drawn at random, each image's from its own generator."""
        ...

    def images(self, variables: Tensor) -> Tensor:
        """`(B, C, *spatial)` in data units within the bounds, differentiable; of pixels the variables themselves."""
        ...

    def project_(self, variables: Tensor) -> None:
        """Make them the nearest allowed ones, in place."""
        ...

    def steepest(self, gradient: Tensor, at: Tensor | None = None) -> Tensor:
        """The step of unit norm along which the loss rises fastest, `(B, …)`; zero where the gradient is.

        Args:
            gradient: of the loss, by the variables.
            at: the variables there, if known; L1 then spends nothing on a value that cannot go further.
        """
        ...

    def allowed(self, gradient: Tensor) -> Tensor:
        """The gradient where the variables may change, zero elsewhere."""
        ...

    def truth(self, truth: Tensor, variables: Tensor) -> Tensor:
        """The truth in register with `images(variables)`."""
        ...

    def rows(self, index: Tensor) -> Space:
        """The space of some of the images, by their places `(n,)`."""
        ...


def per_image(values: Tensor, like: Tensor) -> Tensor:
    """`(B,)` → `(B, 1, …)` so that it broadcasts over images `(B, C, *spatial)`."""
    return values.reshape(-1, *[1] * (like.ndim - 1))
