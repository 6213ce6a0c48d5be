"""What an attack that sees answers alone asks of a model: each question counted, and threats that it can search."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from medrobust.attacks.case import Case
from medrobust.errors import InputError
from medrobust.victim import Victim

NORMS = ("linf", "l2")


class CountedVictim(Victim):
    """The same victim, which counts the images that it is shown."""

    def __init__(self, victim: Victim) -> None:
        vars(self).update(vars(victim))
        self.inner, self.shown = victim, 0

    def forward(self, images: Tensor) -> Any:
        """As the victim's own."""
        self.shown += len(images)
        return self.inner.forward(images)

    def per_image(self, count: int) -> int:
        """How often each of `count` images was shown since this was last asked, all of them equally often."""
        times, self.shown = self.shown // count, 0
        return times


def goal_met(case: Case, outputs: Any) -> Tensor:
    """Bool `(B,)`: is the answer wrong (the target, when targeted)?"""
    fooled = case.victim.task.fooled(outputs, case.truth)
    return ~fooled if case.targeted else fooled


def movable(case: Case) -> Tensor:
    """Bool `(B,)`: has the image a budget above 0?"""
    return torch.as_tensor(case.threat.eps, device=case.clean.device).expand(len(case)) > 0


def needs_norm(name: str, case: Case) -> None:
    """Raise `InputError` unless the threat is an L∞ or an L2 ball of the image's own values."""
    if case.threat.norm not in NORMS:
        raise InputError(f"{name} searches in the norms {' and '.join(NORMS)}, the threat is {case.threat.norm}")
