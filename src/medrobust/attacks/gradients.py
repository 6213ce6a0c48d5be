"""What is done to the gradient before it becomes a step. A part is configuration; `begin` gives its state."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from medrobust.threat import TINY, per_image


class GradientPart(Protocol):
    """One treatment of the gradient, `(B, C, *spatial)` to the same shape, per sample."""

    def begin(self) -> Callable[[Tensor], Tensor]:
        """A fresh treatment for one run of the loop."""
        ...


@dataclass(frozen=True)
class Momentum:
    """MI-FGSM's momentum (Dong et al., arXiv 1710.06081, eq. 6): g ← decay·g + ∇/mean|∇|, per sample.

    The paper divides by the sum of |∇|; the mean differs by a constant only and stays in range for large images.
    """

    decay: float

    def begin(self) -> Callable[[Tensor], Tensor]:
        """Momentum that starts from zero."""
        velocity: Tensor | None = None

        def accumulate(gradient: Tensor) -> Tensor:
            nonlocal velocity
            unit = gradient / per_image(gradient.flatten(1).abs().mean(1).clamp_min(TINY), gradient)
            velocity = unit if velocity is None else self.decay * velocity + unit
            return velocity

        return accumulate
