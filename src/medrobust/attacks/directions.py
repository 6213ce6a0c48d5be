"""Which way a step goes, given the gradient: by the norm, or by an attack's own rule."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from medrobust.attacks.objectives import Iterate
from medrobust.tasks import Task
from medrobust.threat import TINY, Space, Threat, per_image


@dataclass(frozen=True)
class Situation:
    """What a rule may look at: what the model was shown, and what it answers there."""

    threat: Threat
    space: Space
    task: Task
    iterate: Iterate
    outputs: Tensor


Direction = Callable[[Tensor, Situation], Tensor]
"""From the gradient `(B, C, *spatial)` to what, times `step_size`, is added to the iterate before projection."""


def steepest(gradient: Tensor, at: Situation) -> Tensor:
    """The way of the norm: the sign of the gradient (L∞), the gradient at unit length (L2)."""
    return at.space.steepest(gradient)


def largest_to_one(gradient: Tensor, at: Situation) -> Tensor:
    """The gradient itself, at a largest change of 1 (DAG, arXiv 1703.08603, eq. 5); at unit length in L2."""
    if at.threat.norm != "linf":
        return at.space.steepest(gradient)
    return gradient / per_image(gradient.flatten(1).abs().amax(1).clamp_min(TINY), gradient)
