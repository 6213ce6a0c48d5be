"""Attacks that know a screen: wrong answers that it does not notice.

After Carlini and Wagner, AISec 2017, arXiv 1705.07263, who put the detector's score into the objective, and search its
weight for each image as their attack does (S&P 2017, arXiv 1608.04644, section V).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from medrobust.attacks.attack import SearchAttack
from medrobust.attacks.case import Candidate, Case, Effort, Found, rows_where
from medrobust.attacks.iterative import IterativeAttack
from medrobust.attacks.loop import run_plan
from medrobust.attacks.objectives import Iterate, Objective, Terms
from medrobust.attacks.per_image import either, exchanged, rows_of
from medrobust.attacks.plan import Plan
from medrobust.checks import at_least, positive
from medrobust.errors import InputError
from medrobust.guards.screens import Screen
from medrobust.victim import Victim

SLACK = 0.05  # of the scale: how far below the threshold the suspicion is pushed
FACTOR = 10.0  # of the weight, until it has been both too small and too large


@dataclass(frozen=True)
class Alarm:
    """A screen with the suspicion above which it raises the alarm.

    Attributes:
        screen: tells the suspicion.
        threshold: the most that is let through.
        scale: how much the suspicion of clean images varies, above 0: the unit of weights.
    """

    screen: Screen
    threshold: float
    scale: float

    @torch.no_grad()
    def raised(self, victim: Victim, images: Tensor, outputs: Any) -> Tensor:
        """Bool `(B,)`."""
        return self.screen(victim, images, outputs) > self.threshold


@dataclass(frozen=True)
class Evading:
    """J(x') = inner(x') − w · max(s(x') − threshold, −slack)/scale, s the suspicion; w of each image.

    Below the threshold there is nothing to gain by less suspicion, and the inner objective has the step to itself.

    Attributes:
        inner: of the attack: to leave the truth.
        alarm: of the screen.
        weights: `(B,)`.
    """

    inner: Objective
    alarm: Alarm
    weights: Tensor

    @property
    def looks_back(self) -> bool:
        """Whether the inner objective does."""
        return bool(getattr(self.inner, "looks_back", True))

    def begin(self, victim: Victim, clean: Tensor, truth: Tensor) -> Evading:
        """The same around an inner objective that has begun."""
        return replace(self, inner=self.inner.begin(victim, clean, truth))

    def rows(self, index: Tensor) -> Evading:
        """For some of the images."""
        return replace(self, inner=self.inner.rows(index), weights=self.weights[index.to(self.weights.device)])

    def __call__(self, victim: Victim, iterate: Iterate) -> Terms:
        """Both terms; an image that is wrong, but suspicious, has not reached its goal."""
        terms, alarm = self.inner(victim, iterate), self.alarm
        suspicion = alarm.screen(victim, iterate.current, terms.outputs)
        excess = ((suspicion - alarm.threshold) / alarm.scale).clamp_min(-SLACK)
        return replace(terms, total=terms.total - iterate.of_copies(self.weights) * excess, left=None)


@dataclass(frozen=True, kw_only=True)
class Evasive(SearchAttack):
    """An attack in the loop, given a screen to evade; success is a wrong answer that raises no alarm.

    It runs with several weights of the suspicion: where the answer is wrong and the alarm is raised the weight grows,
    where the answer is still right it shrinks, image by image, until one run gets through.

    Args:
        attack: an iterative one; its last iterate is taken, whatever it keeps otherwise.
        alarm: of the screen.
        rounds: runs at most, each for the images that did not get through.
        weight: of the suspicion in the first run.

    Raises:
        InputError: an option has no such value, or the attack is not iterative.
    """

    attack: IterativeAttack
    alarm: Alarm
    rounds: int = 6
    weight: float = 1.0
    targeted: ClassVar[bool] = False  # type: ignore[misc]

    def __post_init__(self) -> None:
        at_least("rounds", self.rounds, 1)
        positive("weight", self.weight)
        if not isinstance(self.attack, IterativeAttack) or self.attack.targeted:
            raise InputError(f"only untargeted attacks in the loop can be told of a screen, not {self.attack!r}")

    def describe(self) -> dict[str, object]:
        """Those of the attack, with the screen."""
        inner = self.attack.describe()
        knows = {"screen": self.alarm.screen.describe(), "threshold": self.alarm.threshold}
        told = {"rounds": self.rounds, "weight": self.weight}
        return {**inner, "attack": f"{inner.get('attack')} that knows the screen", **knows, **told}

    def search(self, case: Case) -> Found:
        """Round by round, for the images that did not get through; of these the last one that fools is handed in."""
        effort, weights = Effort.of(case), _Weights(self.weight, case)
        rows = torch.arange(len(case), device=case.clean.device)
        through = torch.zeros(len(case), dtype=torch.bool, device=case.clean.device)
        kept: Candidate | None = None
        for _ in range(self.rounds):
            part = case if len(rows) == len(case) else case.rows(rows)
            found = run_plan(self._plan(part, weights.now[rows]), part)
            effort.add(found.effort, rows)
            made = found.candidate
            through[rows] = made.success & ~self.alarm.raised(case.victim, made.image, made.outputs)
            weights.learn(rows, too_small=made.success)
            if kept is None:
                kept = made
            else:
                before = rows_of(kept, rows)
                kept = exchanged(kept, either(made.success | ~before.success, before, made), rows)
            rows = rows_where(~through)
            if not len(rows):
                break
        assert kept is not None
        return Found(replace(kept, success=through), effort)

    def _plan(self, case: Case, weights: Tensor) -> Plan:
        plan = self.attack.plan(case)
        objective = Evading(plan.objective, self.alarm, weights)
        return replace(plan, objective=objective, restarts=1, keep_best=False, early_stop=False)


class _Weights:
    """Weights by bisection, in powers of ten until one was too small and one too large."""

    def __init__(self, first: float, case: Case) -> None:
        self.now = torch.full((len(case),), first, device=case.clean.device)
        self.least, self.most = torch.zeros_like(self.now), torch.full_like(self.now, torch.inf)

    def learn(self, rows: Tensor, too_small: Tensor) -> None:
        """The next weights, of images whose answer was wrong under suspicion (`too_small`), or still right."""
        now = self.now[rows]
        least = torch.where(too_small, now, self.least[rows])
        most = torch.where(too_small, self.most[rows], now)
        self.least[rows], self.most[rows] = least, most
        middle = (least * most).sqrt()
        self.now[rows] = torch.where(most.isinf(), FACTOR * now, torch.where(least == 0, now / FACTOR, middle))
