"""How far an image is from another answer, and which way: what the minimum-norm attacks go by.

Written on a task's `Positions`, on which a difference of log-probabilities is that of the logits: for one answer among
many, one logit, several labels (an image is wrong when one of them is) and ordered grades alike.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from medrobust.attacks.case import Case
from medrobust.attacks.nearest import length
from medrobust.attacks.positions import Positions
from medrobust.errors import InputError
from medrobust.threat import TINY, per_image


def margin(name: str, case: Case, outputs: Tensor, most: float = torch.inf) -> Tensor:
    """How far the goal is reached, `(B,)`: the best wrong logit over the true one (the target over the best other).

    Of several labels it is that of the one that is wrong first, or (targeted) is at the target last. Of a mask it is
    the mean over the pixels; there the goal is met at no particular value.

    Args:
        name: of the attack that asks.
        case: the images.
        outputs: the model's, for them.
        most: a position counts as this much at most, and pulls no more.

    Raises:
        InputError: the task is detection.
    """
    positions = Positions.of(name, case.victim.task, outputs, case.truth)
    gained = (case.sign * (positions.others - positions.true)).clamp_max(most)
    if case.victim.task.dense:
        return positions.mean(gained)
    known = positions.used.any(1)
    worst = torch.where(positions.used, case.sign * gained, -torch.inf).amax(1)
    return torch.where(known, case.sign * worst, 0)


def slope(case: Case, images: Tensor, value: Callable[[Any], Tensor]) -> tuple[Any, Tensor, Tensor]:
    """The model's outputs at images, a value `(B,)` of them, and its gradient where a pixel may change.

    Raises:
        InputError: the outputs do not depend on the images by a differentiable path.
    """
    with torch.enable_grad():
        leaf = images.detach().requires_grad_()
        outputs = case.victim.forward(leaf)
        values = value(outputs)
        return outputs, values.detach(), case.space.allowed(_gradient(values, leaf, keep=False))


@dataclass(frozen=True)
class Border:
    """The nearest border of each image, in the model's linear picture at a point.

    Attributes:
        gap: `(B,)`, the difference of logits f there, below 0 before the border.
        normal: `(B, C, *spatial)`, its gradient w where a pixel may change.
        distance: `(B,)`, |f|/‖w‖ in the dual norm: how far it is.
        lost: bool `(B,)`: no border has a gradient; gap and normal are 0, so is the distance.
    """

    gap: Tensor
    normal: Tensor
    distance: Tensor
    lost: Tensor


@dataclass(frozen=True)
class Borders:
    """The borders of each image to its other answers, the nearest (by the clean logits) first.

    Attributes:
        name: of the attack that looks at them.
        at: int64 `(B, n)`, places among alternatives × positions, flat.
        used: bool `(B, n)`: is there such a border?
    """

    name: str
    at: Tensor
    used: Tensor

    @classmethod
    @torch.no_grad()
    def of(cls, name: str, case: Case, most: int | None = None) -> Borders:
        """Those of the clean images, at most so many of each."""
        task = case.victim.task
        positions = Positions.of(name, task, case.victim.forward(case.clean), case.truth)
        true = torch.zeros_like(positions.log_probs, dtype=torch.bool).scatter(1, positions.at.unsqueeze(1), True)
        used = ~true & positions.used.unsqueeze(1)
        ranked = (
            torch.where(used, _differences(positions), -torch.inf).flatten(1).sort(dim=1, descending=True, stable=True)
        )
        count = positions.log_probs[0].numel() - positions.at[0].numel()
        count = count if most is None else min(count, most)
        at = ranked.indices[:, :count]
        return cls(name, at, used.flatten(1).gather(1, at))

    def __len__(self) -> int:
        """How many borders an image has."""
        return self.at.shape[1]

    def only(self, rank: int) -> Borders:
        """One border of each image, 0 the nearest."""
        return Borders(self.name, self.at[:, rank : rank + 1], self.used[:, rank : rank + 1])

    def rows(self, index: Tensor) -> Borders:
        """For some of the images."""
        return Borders(self.name, self.at[index], self.used[index])

    def nearest(self, case: Case, images: Tensor, dual: float) -> Border:
        """The nearest one at other images: one forward, a backward for each border.

        Args:
            case: the images' case.
            images: where to look from.
            dual: the power q of the norm that measures gradients.

        Raises:
            InputError: the outputs do not depend on the images by a differentiable path.
        """
        with torch.enable_grad():
            leaf = images.detach().requires_grad_()
            positions = Positions.of(self.name, case.victim.task, case.victim.forward(leaf), case.truth)
            gaps = _differences(positions).flatten(1).gather(1, self.at)
            gap, normal = torch.zeros_like(gaps[:, 0]).detach(), torch.zeros_like(leaf)
            distance = torch.full_like(gap, torch.inf)
            for place in range(len(self)):
                gradient = _gradient(gaps[:, place], leaf, keep=place + 1 < len(self))
                gradient = case.space.allowed(gradient)
                steep = length(gradient, dual)
                usable = self.used[:, place] & (steep > 0) & torch.isfinite(steep)
                far = torch.where(usable, gaps[:, place].detach().abs() / steep.clamp_min(TINY), torch.inf)
                nearer = far < distance
                gap, distance = torch.where(nearer, gaps[:, place].detach(), gap), torch.where(nearer, far, distance)
                normal = torch.where(per_image(nearer, gradient), gradient, normal)
        none = torch.isinf(distance)
        return Border(gap, normal, torch.where(none, 0, distance), none & self.used.any(1))


def _differences(positions: Positions) -> Tensor:
    """Of every alternative from the true one, `(B, K, *positions)`."""
    return positions.log_probs - positions.true.unsqueeze(1)


def _gradient(values: Tensor, leaf: Tensor, *, keep: bool) -> Tensor:
    if not values.requires_grad:
        raise InputError("the model's outputs do not depend on its input by a differentiable path: no gradient attack")
    found: tuple[Tensor | None, ...] = torch.autograd.grad(values.sum(), leaf, retain_graph=keep, allow_unused=True)
    return torch.zeros_like(leaf) if found[0] is None else found[0]
