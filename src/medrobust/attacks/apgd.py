"""APGD: PGD that finds its step size by itself. Croce & Hein, ICML 2020, arXiv 2003.01690."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from medrobust.attacks.apgd_l1 import SparseAdaptiveWalk
from medrobust.attacks.case import Candidate, Case, Effort, Found, leaves_less, rows_where
from medrobust.attacks.iterative import IterativeAttack, Keep
from medrobust.attacks.loop import run_plan
from medrobust.attacks.losses import DLR, Margin, TargetedDLR
from medrobust.attacks.objectives import Objective
from medrobust.attacks.per_image import PerImage, either, exchanged, rows_of
from medrobust.attacks.plan import Plan
from medrobust.attacks.steps import Length, Move, Situation, Stepper, StepRule, held, stepped
from medrobust.checks import at_least
from medrobust.threat import TINY, per_image

RISING = 0.75  # ρ: with fewer rising steps than this since the last check, the step is too long
KEPT = 0.75  # α: the share of a step, the rest being the one before


def checkpoints(steps: int) -> list[int]:
    """The numbers of steps after which the step size is looked at: eq. 2, as the authors round it.

    The first after ⌊.22·T⌋ of T steps, then after gaps that shrink by ⌊.03·T⌋ down to ⌊.06·T⌋, each at least 1.
    """
    gap, shrink, least = (max(int(share * steps), 1) for share in (0.22, 0.03, 0.06))
    places = [gap]
    while places[-1] < steps:
        gap = max(gap - shrink, least)
        places.append(places[-1] + gap)
    return places


@dataclass(frozen=True)
class AdaptiveWalk:
    """z = Π(x_t + η·steepest(∇)); x_{t+1} = Π(x_t + ¾(z − x_t) + ¼(x_t − x_{t−1})), η per image. Algorithm 1.

    At a checkpoint η is halved, and the image goes back to its best point, when at most ¾ of the steps since the last
    one rose, or when neither η nor the best value changed since. η begins with the attack's `step_size`.
    """

    def begin(self, case: Case, length: Length) -> Stepper:
        """At the full step size."""
        return _Adaptive(case, length)


class _Adaptive(PerImage):
    def __init__(self, case: Case, length: Length) -> None:
        like = case.clean
        self.eta = torch.as_tensor(length).to(like).expand(len(case)).clone()
        self.before: Tensor | None = None  # the point of the last step
        self.value: Tensor | None = None
        self.best = self.best_gradient = case.space.start()
        self.best_value = self.checked_value = torch.full_like(self.eta, -torch.inf)
        self.rises = torch.zeros_like(self.eta)
        # as if halved before: the second condition is for later checks
        self.halved = torch.ones(len(case), dtype=torch.bool, device=like.device)
        self.places: tuple[int, ...] = ()

    def __call__(self, gradient: Tensor, at: Situation) -> Move:
        point = at.variables
        better = at.value > self.best_value
        self.best = torch.where(per_image(better, point), point, self.best)
        self.best_gradient = torch.where(per_image(better, gradient), gradient, self.best_gradient)
        self.best_value = torch.where(better, at.value, self.best_value)
        if self.value is None:
            self.places, self.checked_value = tuple(checkpoints(at.steps)), at.value
        else:
            self.rises = self.rises + (at.value > self.value).to(self.rises)
            if at.index in self.places:
                point, gradient = self._checked(point, gradient, at.index)
        self.value = at.value
        space = at.case.space
        straight = stepped(point, space.steepest(gradient, point), self.eta)
        space.project_(straight)
        if self.before is None:
            moved = straight
        else:
            moved = point + KEPT * (straight - point) + (1 - KEPT) * (point - self.before)
            space.project_(moved)
        self.before, moved = point, held(moved, at)
        return Move(moved, (moved - at.variables) / per_image(self.eta.clamp_min(TINY), moved), self.eta)

    def _checked(self, point: Tensor, gradient: Tensor, index: int) -> tuple[Tensor, Tensor]:
        place = self.places.index(index)
        since = index - (self.places[place - 1] if place else 0)
        wavering = self.rises <= RISING * since
        stuck = ~self.halved & (self.checked_value >= self.best_value)
        self.halved = wavering | stuck
        self.eta = torch.where(self.halved, self.eta / 2, self.eta)
        self.rises = torch.zeros_like(self.rises)
        self.checked_value = self.best_value
        back = per_image(self.halved, point)
        return torch.where(back, self.best, point), torch.where(back, self.best_gradient, gradient)


@dataclass(frozen=True, kw_only=True)
class APGD(IterativeAttack):
    """PGD by `AdaptiveWalk`, on the cross-entropy (APGD-CE) unless a `loss` is given. arXiv 2003.01690, algorithm 1.

    η begins with 2·eps. The best iterate is kept: the paper's too, by the loss alone; here a fooled one comes first. In
    L1 the walk is `SparseAdaptiveWalk`, and η begins with eps.
    """

    steps: int = 100
    random_start: bool = True
    keep: Keep = "best"

    def default_step_size(self, eps: float) -> float:
        """The width of the ball."""
        return 2 * eps

    def default_step(self) -> StepRule:
        """The adaptive one."""
        return AdaptiveWalk()

    def plan(self, case: Case) -> Plan:
        """The loop's choices; those of L1 for an L1 ball."""
        plan = super().plan(case)
        if case.threat.norm != "l1" or self.step is not None:
            return plan
        return replace(plan, step=SparseAdaptiveWalk(), step_size=plan.step_size / (2 if self.step_size is None else 1))


@dataclass(frozen=True, kw_only=True)
class APGDDLR(APGD):
    """APGD on `DLR`, which the scale of the logits does not matter to (the margin, of two classes). Section 4."""

    def objective(self) -> Objective:
        """DLR, unless a loss is given."""
        return DLR() if self.loss is None else self.loss


@dataclass(frozen=True, kw_only=True)
class APGDT(APGD):
    """APGD on the targeted DLR, towards one other class after the other, on what still stands. Section 5.1, APGD-T.

    The classes are the most likely ones of the clean image (of each of its pixels) but the true one; success is any
    wrong answer. Of masks every class is tried and the lowest Dice kept, below `success_dice` too; `early_stop` stops
    there. Where every answer has but two alternatives there is one run, on the margin.

    Args:
        targets: how many classes at most.
    """

    targets: int = 9
    targeted: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("targets", self.targets, 1)

    def search(self, case: Case) -> Found:
        """A run for each rank of the clean image's other classes."""
        kept: Found | None = None
        effort, standing = Effort.of(case), torch.arange(len(case), device=case.clean.device)
        for objective in self._objectives(case):
            part = case if len(standing) == len(case) else case.rows(standing)
            plan = replace(self.plan(part), objective=objective.rows(standing))
            found = run_plan(plan, part)
            effort.add(found.effort, standing)
            if kept is None:
                candidate = found.candidate
            else:
                before = kept.candidate
                candidate = exchanged(before, _worse(part, rows_of(before, standing), found.candidate), standing)
            kept = Found(candidate, effort)
            standing = rows_where(~candidate.success if self.early_stop else case.left(candidate) > 0)
            if not len(standing):
                break
        assert kept is not None
        return kept

    @torch.no_grad()
    def _objectives(self, case: Case) -> Sequence[Objective]:
        if self.loss is not None:
            return [self.loss]
        task = case.victim.task
        log_probs = task.log_probs(case.victim.forward(case.clean))
        classes = log_probs.shape[1]
        if classes == 2:
            return [Margin()]
        true = task.targets(log_probs, case.truth).clamp_min(0).unsqueeze(1)
        others = log_probs.scatter(1, true, -torch.inf).argsort(1, descending=True)
        return [TargetedDLR(others[:, rank]) for rank in range(min(self.targets, classes - 1))]


def _worse(case: Case, kept: Candidate, other: Candidate) -> Candidate:
    """Per image the candidate that leaves less of the true answers; among equals that of the higher loss."""
    return either(leaves_less(case.left(other), other.loss, case.left(kept), kept.loss), kept, other)
