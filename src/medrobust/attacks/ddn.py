"""DDN: the direction of a change by the gradient, its length by whether the model is fooled.

Rony, Hafemann, Oliveira, Ben Ayed, Sabourin, Granger: Decoupling Direction and Norm for Efficient Gradient-Based L2
Adversarial Attacks and Defenses, CVPR 2019, arXiv 1811.09600, algorithm 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch

from medrobust.attacks.borders import slope
from medrobust.attacks.case import Case, Effort
from medrobust.attacks.luck import Luck
from medrobust.attacks.nearest import Closest, Nearest, NearestAttack, length, limits, width
from medrobust.checks import at_least, boolean, positive
from medrobust.errors import InputError
from medrobust.threat import TINY, per_image

# the step falls along half a cosine from all of the length to this share of it
_LAST_STEP = 0.01


@dataclass(frozen=True, kw_only=True)
class DDN(NearestAttack):
    """δ ← ε·u/‖u‖₂ with u = δ + α·∇L/‖∇L‖₂; ε ← (1 − γ)·ε where the model is fooled, else (1 + γ)·ε.

    L is the task's loss, so it serves every task. α falls along a cosine from the width of the bounds to a hundredth
    of it. The paper rounds to 256 grey levels at every step; here the threat's `quantum` says what can be saved.

    Args:
        steps: gradient steps; the paper's 100 to 1000.
        init_eps: the first ε, in widths of the bounds; the paper's 1.
        gamma: γ, the paper's 0.05.
        targeted: `truth` is the answer to reach.

    Raises:
        InputError: an option has no such value.
    """

    steps: int = 100
    init_eps: float = 1.0
    gamma: float = 0.05
    targeted: bool = False

    norms: ClassVar[tuple[str, ...]] = ("l2",)

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("steps", self.steps, 1)
        positive("init_eps", self.init_eps)
        positive("gamma", self.gamma)
        if self.gamma >= 1:
            raise InputError(f"gamma must be below 1, got {self.gamma!r}")
        boolean("targeted", self.targeted)

    def nearest(self, case: Case) -> Nearest:
        """Walk around the border, from the clean image."""
        task, unit = case.victim.task, width(case)
        low, high = limits(case)
        farthest = length(torch.maximum(case.clean - low, high - case.clean), 2.0)
        images, closest, effort = case.clean, Closest(case), Effort.of(case)
        luck = Luck()
        radius = torch.full_like(farthest, self.init_eps * unit)
        for index in range(self.steps):
            outputs, _, gradient = slope(case, images, lambda outputs: case.sign * task.loss(outputs, case.truth))
            with torch.no_grad():
                _, reached = case.measure(outputs)
                closest.see(images, reached, length(images - case.clean, 2.0))
                gradient, lost = luck.revived(gradient, case, index)
                effort.steps += 1
                effort.stuck += lost
                alpha = _LAST_STEP + (1 - _LAST_STEP) * (1 + math.cos(math.pi * index / self.steps)) / 2
                unit_gradient = gradient / per_image(length(gradient, 2.0).clamp_min(TINY), gradient)
                change = images - case.clean + alpha * unit * unit_gradient
                radius = (radius * torch.where(reached, 1 - self.gamma, 1 + self.gamma)).minimum(farthest)
                change = change * per_image(radius / length(change, 2.0).clamp_min(TINY), change)
                images = (case.clean + change).clamp(low, high)
        return Nearest(closest.or_else(images), effort)
