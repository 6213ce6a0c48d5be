"""The patch-wise step of PI-FGSM: Gao, Zhang, Song, Liu, Shen, ECCV 2020, arXiv 2007.06891."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor

from medrobust.attacks.case import Case
from medrobust.attacks.per_image import PerImage
from medrobust.attacks.steps import Length, Move, Situation, Stepper, held, stepped
from medrobust.checks import not_negative, positive
from medrobust.errors import InputError
from medrobust.threat import per_image
from medrobust.transforms.smoothing import odd


@dataclass(frozen=True)
class PatchWise:
    """x ← Π(x + β·α·sign ∇ + γ·sign(W ∗ C)), C what of the accumulated steps is beyond eps. Algorithm 1, eq. 7 to 9.

    a ← a + β·α·sign ∇, C = max(|a| − eps, 0)·sign a, and a takes in the part that is passed on. W spreads evenly over
    the pixels around, not onto the pixel itself. For L∞; of any number of channels and axes.

    Args:
        amplification: β.
        project_factor: γ as a share of β·α.
        patch: side of W, odd.
    """

    amplification: float = 10.0
    project_factor: float = 1.0
    patch: int = 3

    def __post_init__(self) -> None:
        positive("amplification", self.amplification)
        not_negative("project_factor", self.project_factor)
        odd("patch", self.patch)

    def begin(self, case: Case, length: Length) -> Stepper:
        """Nothing accumulated yet.

        Raises:
            InputError: the threat is not L∞.
        """
        if case.threat.norm != "linf":
            raise InputError(f"patch-wise steps are for changes within linf, the threat is {case.threat.norm}")
        return _Patches(self, case, length)


class _Patches(PerImage):
    def __init__(self, rule: PatchWise, case: Case, length: Length) -> None:
        self.rule = rule
        self.length = length * rule.amplification
        self.eps = torch.as_tensor(case.threat.eps).to(case.clean).expand(len(case)).clone()
        self.accumulated = torch.zeros_like(case.clean)

    def __call__(self, gradient: Tensor, at: Situation) -> Move:
        sign = gradient.sign()
        self.accumulated = stepped(self.accumulated, sign, self.length)
        excess = (self.accumulated.abs() - per_image(self.eps, gradient)).clamp_min(0) * self.accumulated.sign()
        passed_on = self.rule.project_factor * self._spread(excess).sign()
        self.accumulated = stepped(self.accumulated, passed_on, self.length)
        direction = sign + passed_on
        moved = stepped(at.variables, direction, self.length)
        at.case.space.project_(moved)
        return Move(held(moved, at), direction, self.length)

    def _spread(self, values: Tensor) -> Tensor:
        """The sum over the pixels around; only its sign counts.

        Shifted views are added, always in the same order: a convolution sums in one that hangs on the batch, and what
        cancels out must do so for every batch alike.
        """
        radius, spatial = self.rule.patch // 2, values.shape[2:]
        padded = F.pad(values, [radius] * 2 * len(spatial))
        total = torch.zeros_like(values)
        for corner in product(range(self.rule.patch), repeat=len(spatial)):
            if any(place != radius for place in corner):
                view = padded
                for axis, (place, length) in enumerate(zip(corner, spatial, strict=True)):
                    view = view.narrow(axis + 2, place, length)
                total += view
        return total
