"""A part of an attack by itself: an iterate, a case that nobody asks, a point."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from medrobust.attacks.case import Case, opened
from medrobust.attacks.gradients import Point
from medrobust.attacks.objectives import Iterate
from medrobust.tasks import Classification
from medrobust.threat import Threat
from medrobust.victim import Victim

HU = (-1000.0, 3000.0)


def iterate(current: Tensor, clean: Tensor | None = None, **more: Any) -> Iterate:
    clean = current if clean is None else clean
    return Iterate(1, 4, clean, current, torch.zeros(len(current), dtype=torch.int64), 1, **more)


class opened_for:
    """A case around images, of a network that nobody asks."""

    def __init__(self, clean: Tensor, threat: Threat | None = None, bounds: tuple[float, float] = (0.0, 1.0), ids=None):
        victim = Victim(nn.Flatten(), Classification(3), bounds=bounds)
        truth = torch.zeros(len(clean), dtype=torch.int64)
        threat = Threat(0.1) if threat is None else threat
        self.context = opened(victim, clean, truth, threat, 0, ids, targeted=False)

    def __enter__(self) -> Case:
        return self.context.__enter__()

    def __exit__(self, *error: object) -> None:
        self.context.__exit__(*error)


def point(variables: Tensor, last: bool = False, gradient_at: Any = None) -> Point:
    return Point(variables, last, gradient_at)
