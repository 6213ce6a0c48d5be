"""What an attack made of a batch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from medrobust.attacks.per_image import joined
from medrobust.attacks.trajectory import Trajectory


@dataclass(frozen=True, repr=False)
class AttackResult:
    """What an attack made of a batch, on the images' device and in their dtype.

    Attributes:
        adversarial: `(B, C, *spatial)` in data units: allowed by the threat, in the bounds and on the grid.
        delta: adversarial − images.
        success: bool `(B,)`: the answer is wrong (is the target, when targeted), from a fresh forward of `adversarial`.
        loss: `(B,)`: the task's loss there, against the truth (the target).
        outputs: the model's outputs there, a tensor or `DetectorOutputs`.
        steps_used: int64 `(B,)`: gradient steps spent on the image, over all restarts; 0 for an attack without.
        zero_gradients: int64 `(B,)`: how many of them had a gradient exactly zero or not finite, and went in a random
            direction instead.
        queries: int64 `(B,)`: how often an attack that sees answers alone asked for this image; 0 for the others.
        trajectory: of the restart that was kept, when asked for.
        smallest: `(B,)`: the size, in the threat's norm, of the smallest change that was found to reach the goal, be it
            allowed or not; inf where none was found. None for an attack that does not look for it.
        found_by: of an ensemble, the member that each image's result is from.
        truth: `(B, …)`: the truth in register with `adversarial`, where a deformation moved it.
    """

    adversarial: Tensor
    delta: Tensor
    success: Tensor
    loss: Tensor
    outputs: Any
    steps_used: Tensor
    zero_gradients: Tensor
    queries: Tensor
    trajectory: Trajectory | None = None
    smallest: Tensor | None = None
    found_by: list[str] | None = None
    truth: Tensor | None = None

    def __repr__(self) -> str:
        """In one line: how many images of which size, how many are fooled, their loss."""
        return in_a_line(self, self.adversarial)


def in_a_line(result: Any, images: Sequence[Tensor] | Tensor) -> str:
    """What came of images `(C, *spatial)`, of which `result` has success and loss `(B,)`."""
    sizes = sorted({tuple(image.shape) for image in images}, key=lambda size: (math.prod(size), size))
    told = [f"{len(images)} image{'s' * (len(images) != 1)}"]
    if sizes:
        told[0] += f" of {_range(['x'.join(map(str, size)) for size in (sizes[0], sizes[-1])])}"
        losses = [f"{float(loss):.3g}" for loss in (result.loss.min(), result.loss.max())]
        told += [f"{int(result.success.sum())} fooled", f"loss {_range(losses)}"]
    return f"{type(result).__name__}({', '.join(told)})"


def _range(ends: Sequence[str]) -> str:
    return " to ".join(dict.fromkeys(ends))


def joined_results(results: Sequence[AttackResult], places: Sequence[Tensor]) -> AttackResult:
    """One result of several: row i of `results[k]` is image `places[k][i]`."""
    return results[0] if len(results) == 1 else joined(list(results), places)
