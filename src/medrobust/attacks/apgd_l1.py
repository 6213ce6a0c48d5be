"""APGD's steps in the L1 ball, sparse ones. Croce & Hein, ICML 2021, arXiv 2103.01208, section 3 and algorithm 1."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from medrobust.attacks.case import Case
from medrobust.attacks.per_image import PerImage
from medrobust.attacks.steps import Length, Move, Situation, Stepper, held, stepped
from medrobust.errors import InputError
from medrobust.threat import per_image

CHECKED = 0.04  # of the steps, from one look at the step size to the next
FIRST = 5  # one in so many of an image's values is moved by the first step, at most
FEWER = 0.95  # below this share of the values changed before, the best point has become sparser
SHORTER = 1.5  # what the step is divided by where it has not; and the best point's values, for those a step moves
LEAST = 0.1  # of the first length


@dataclass(frozen=True)
class SparseAdaptiveWalk:
    """x ← Π(x + η · sign(∇_k)/k), ∇_k the k largest entries of the gradient by size; η and k per image.

    Every 4 % of the steps k becomes two thirds of the number of values that the best point changes. Where this number
    fell by more than 5 %, the image goes back to its best point and η to its first length; elsewhere η is divided by
    1.5, down to a tenth of it. Π is the exact projection on the ball cut to the bounds; there is no momentum. k begins
    with a fifth of the values, or two thirds of those that the start changes where these are fewer.
    """

    def begin(self, case: Case, length: Length) -> Stepper:
        """At the full step size.

        Raises:
            InputError: the threat is not L1.
        """
        if case.threat.norm != "l1":
            raise InputError(f"sparse adaptive steps are for changes within l1, the threat is {case.threat.norm}")
        return _Sparse(case, length)


class _Sparse(PerImage):
    def __init__(self, case: Case, length: Length) -> None:
        self.longest = torch.as_tensor(length).to(case.clean).expand(len(case)).clone()
        self.eta = self.longest
        self.values = case.space.allowed(torch.ones_like(case.clean)).flatten(1).sum(1).clamp_min(1)
        self.changed, self.count = self.values, self.values / FIRST
        self.best = self.best_gradient = case.space.start()
        self.best_value = torch.full_like(self.eta, -torch.inf)

    def __call__(self, gradient: Tensor, at: Situation) -> Move:
        point = at.variables
        better = at.value > self.best_value
        self.best = torch.where(per_image(better, point), point, self.best)
        self.best_gradient = torch.where(per_image(better, gradient), gradient, self.best_gradient)
        self.best_value = torch.where(better, at.value, self.best_value)
        if at.index == 0:
            changed = _changed(point, at.case)
            self.changed = torch.where(changed > 0, changed, self.values)
            self.count = torch.minimum(self.changed / SHORTER, self.values / FIRST)
        elif at.index % max(int(CHECKED * at.steps), 1) == 0:
            point, gradient = self._checked(point, gradient, at.case)
        direction = self._sparse(gradient)
        moved = stepped(point, direction, self.eta)
        at.case.space.project_(moved)
        return Move(held(moved, at), direction, self.eta)

    def _checked(self, point: Tensor, gradient: Tensor, case: Case) -> tuple[Tensor, Tensor]:
        changed = _changed(self.best, case)
        sparser = changed < FEWER * self.changed
        self.changed, self.count = changed, changed / SHORTER
        shorter = torch.maximum(self.eta / SHORTER, LEAST * self.longest)
        self.eta = torch.where(sparser, self.longest, shorter)
        back = per_image(sparser, point)
        return torch.where(back, self.best, point), torch.where(back, self.best_gradient, gradient)

    def _sparse(self, gradient: Tensor) -> Tensor:
        """The signs of each image's largest entries, 1 in sum of sizes."""
        sizes = gradient.flatten(1).abs()
        count = self.count.ceil().clamp_min(1).long()
        least = sizes.sort(1, descending=True).values.gather(1, count.unsqueeze(1) - 1)
        chosen = (sizes >= least) & (sizes > 0)
        shares = chosen / chosen.sum(1, keepdim=True).clamp_min(1)
        return gradient.sign() * shares.view_as(gradient).to(gradient)


def _changed(point: Tensor, case: Case) -> Tensor:
    """How many values of each image differ from the clean ones, `(B,)`."""
    return (point != case.clean).flatten(1).sum(1).to(point)
