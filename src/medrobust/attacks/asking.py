"""What an attack that sees answers alone asks of a model: each question counted, and threats that it can search."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from medrobust.attacks.case import Case
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


class Decisions:
    """Is an image fooled? Nothing else is seen of the model, and each question is counted.

    Args:
        case: the batch.
        most: questions that may be asked about an image.

    Attributes:
        spent: int64 `(B,)`, the questions so far.
        free: bool like the images, where they may change.
    """

    def __init__(self, case: Case, most: int) -> None:
        self.case, self.most = case, most
        self.spent = torch.zeros(len(case), dtype=torch.int64, device=case.clean.device)
        self.free = case.space.allowed(torch.ones_like(case.clean)) > 0

    def __call__(self, rows: Tensor, points: Tensor) -> Tensor:
        """Bool `(n,)` for points `(n, C, *spatial)`, each of an image of the batch; an image may come more than once.

        Whoever asks sees to it that every image has a question `left`.
        """
        if not len(rows):
            return torch.zeros(0, dtype=torch.bool, device=rows.device)
        self.spent.index_add_(0, rows, torch.ones_like(rows))
        return goal_met(self.case, self.case.victim.forward(points), self.case.truth[rows])

    def left(self, rows: Tensor) -> Tensor:
        """Questions that may still be asked, `(n,)`."""
        return self.most - self.spent[rows]

    def limited(self, rows: Tensor, points: Tensor) -> Tensor:
        """The points within the bounds, and clean where nothing may change."""
        return torch.where(self.free[rows], points.clamp(*self.case.victim.bounds), self.case.clean[rows])


def goal_met(case: Case, outputs: Any, truth: Tensor) -> Tensor:
    """Bool `(B,)`: is the answer not the truth (the target, when targeted)?"""
    fooled = case.victim.task.fooled(outputs, truth)
    return ~fooled if case.targeted else fooled


def movable(case: Case) -> Tensor:
    """Bool `(B,)`: has the image a budget above 0?"""
    return torch.as_tensor(case.threat.eps, device=case.clean.device).expand(len(case)) > 0
