"""FMN: a ball whose radius follows the border, and gradient steps in it.

Pintor, Roli, Brendel, Biggio: Fast Minimum-norm Adversarial Attacks through Adaptive Norm Constraints, NeurIPS 2021,
arXiv 2102.12827, algorithm 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch

from medrobust.attacks.borders import margin, slope
from medrobust.attacks.case import Case, Effort
from medrobust.attacks.luck import Luck
from medrobust.attacks.nearest import DUAL, POWER, Closest, Nearest, NearestAttack, ball, length, limits, width
from medrobust.checks import at_least, boolean, positive
from medrobust.errors import InputError
from medrobust.threat import TINY, per_image

# where the steps and the changes of the radius end, along half a cosine
_LAST_STEP, _LAST_GAMMA = 0.01, 0.001


@dataclass(frozen=True, kw_only=True)
class FMN(NearestAttack):
    """δ ← Π_ε(δ + α·∇m/‖∇m‖₂), m the margin, in the ball of radius ε about the clean image, cut to the bounds.

    ε ← min((1 − γ)·ε, the smallest found) where the model is fooled; where it was before, (1 + γ)·ε; where it never
    was, ‖δ‖_p + |m|/‖∇m‖_q, the distance of the border as it looks from there. α falls along a cosine to a hundredth,
    γ to 0.001. In L1 Π is exact for ball and bounds together, where the authors cut to one after the other.

    Args:
        steps: gradient steps.
        max_step: the first α, in widths of the bounds, in every norm the L2 length of a step. The paper takes 1 for
            images of 28 to 300 pixels a side.
        gamma: the first γ, the paper's 0.05.
        targeted: `truth` is the answer to reach.

    Raises:
        InputError: an option has no such value.
    """

    steps: int = 100
    max_step: float = 1.0
    gamma: float = 0.05
    targeted: bool = False

    norms: ClassVar[tuple[str, ...]] = ("linf", "l2", "l1")

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("steps", self.steps, 1)
        positive("max_step", self.max_step)
        positive("gamma", self.gamma)
        if self.gamma >= 1:
            raise InputError(f"gamma must be below 1, got {self.gamma!r}")
        boolean("targeted", self.targeted)

    def nearest(self, case: Case) -> Nearest:
        """Walk along the border, from the clean image."""
        power, dual = POWER[case.threat.norm], DUAL[case.threat.norm]
        low, high = limits(case)
        farthest = length(torch.maximum(case.clean - low, high - case.clean), power)
        images, closest, effort = case.clean, Closest(case), Effort.of(case)
        luck = Luck()
        radius, ever = torch.full_like(farthest, torch.inf), torch.zeros_like(farthest, dtype=torch.bool)
        for index in range(self.steps):
            outputs, gap, gradient = slope(case, images, lambda outputs: margin("FMN", case, outputs))
            with torch.no_grad():
                cosine = (1 + math.cos(math.pi * index / self.steps)) / 2
                gamma = _LAST_GAMMA + (self.gamma - _LAST_GAMMA) * cosine
                alpha = self.max_step * width(case) * (_LAST_STEP + (1 - _LAST_STEP) * cosine)
                _, reached = case.measure(outputs)
                size = length(images - case.clean, power)
                closest.see(images, reached, size)
                ever = ever | reached
                gradient, lost = luck.revived(gradient, case, index)
                effort.steps += 1
                effort.stuck += lost
                border = size + gap.abs() / length(gradient, dual).clamp_min(TINY)
                outside = torch.where(ever, radius * (1 + gamma), border)
                radius = torch.where(reached, (radius * (1 - gamma)).minimum(closest.size), outside).minimum(farthest)
                step = gradient * per_image(alpha / length(gradient, 2.0).clamp_min(TINY), gradient)
                images = images + step
                ball(case, radius).project_(images)
        return Nearest(closest.or_else(images), effort)
