"""Attacks that know a screen: wrong answers that it does not notice.

After Carlini and Wagner, AISec 2017, arXiv 1705.07263, who put the detector's score into the objective, and search its
weight for each image as their attack does (S&P 2017, arXiv 1608.04644, section V).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from medrobust.attacks.applicable import check_kinds
from medrobust.attacks.attack import SearchAttack
from medrobust.attacks.case import Candidate, Case, Effort, Found, rows_where
from medrobust.attacks.iterative import IterativeAttack
from medrobust.attacks.loop import run_plan
from medrobust.attacks.objectives import Iterate, Objective, Terms
from medrobust.attacks.per_image import either, exchanged, rows_of
from medrobust.checks import at_least, positive
from medrobust.errors import InputError
from medrobust.guards.watched import Alarm, Watched, WatchedVictim
from medrobust.victim import Victim

SLACK = 0.05  # of the scale: how far below the threshold the suspicion is pushed
FACTOR = 10.0  # of the weight, until it has been both too small and too large


class Evading:
    """J(x') = inner(x') − w · max(s(x') − threshold, −slack)/scale, s the suspicion; w of each image.

    Below the threshold there is nothing to gain by less suspicion, and the inner objective has the step to itself.

    Args:
        inner: of the attack: to leave the truth.
        victim: without the screen, which the inner objective is for.
        alarm: of the screen.
        weights: `(B,)`.

    Attributes:
        fooled: bool `(B,)`, whether the answer was wrong at the last iterate seen, whatever the screen says.
    """

    def __init__(self, inner: Objective, victim: Victim, alarm: Alarm, weights: Tensor) -> None:
        self.inner, self.victim, self.alarm, self.weights = inner, victim, alarm, weights
        self.looks_back = bool(getattr(inner, "looks_back", True))
        self.fooled = torch.zeros(len(weights), dtype=torch.bool, device=weights.device)

    def begin(self, victim: Victim, clean: Tensor, truth: Tensor) -> Evading:
        """Itself, once the inner objective has begun: an object is for one run of the loop."""
        self.inner = self.inner.begin(self.victim, clean, truth)
        return self

    def rows(self, index: Tensor) -> Evading:
        """For some of the images."""
        index = index.to(self.weights.device)
        return Evading(self.inner.rows(index), self.victim, self.alarm, self.weights[index])

    def __call__(self, victim: Victim, iterate: Iterate) -> Terms:
        """Both terms, with `Watched` outputs; an image that is wrong, but suspicious, has something left to reach."""
        terms, alarm = self.inner(self.victim, iterate), self.alarm
        suspicion = alarm.screen(self.victim, iterate.current, terms.outputs)
        excess = ((suspicion - alarm.threshold) / alarm.scale).clamp_min(-SLACK)
        with torch.no_grad():
            self.fooled = self.victim.task.fooled(terms.outputs, iterate.truth)[: len(iterate)]
        total = terms.total - iterate.of_copies(self.weights) * excess
        return Terms(total, Watched(terms.outputs, suspicion))


@dataclass(frozen=True, kw_only=True)
class Evasive(SearchAttack):
    """An attack in the loop, given a screen to evade; success is a wrong answer that raises no alarm.

    It runs with several weights of the suspicion: where the answer is wrong and the alarm is raised the weight grows,
    where the answer is still right it shrinks, image by image, until one run gets through.

    Args:
        attack: an iterative one, of one run a round; whatever it keeps otherwise, here an iterate that gets through.
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
        if not isinstance(self.attack, IterativeAttack) or self.attack.targeted or self.attack.source().asks:
            raise InputError(
                f"only untargeted attacks in the loop, by the gradient, can be told of a screen, not {self.attack!r}"
            )

    def describe(self) -> dict[str, object]:
        """Those of the attack, with the screen."""
        inner = self.attack.describe()
        knows = {"screen": self.alarm.screen.describe(), "threshold": self.alarm.threshold}
        told = {"rounds": self.rounds, "weight": self.weight}
        return {**inner, "attack": f"{inner.get('attack')} that knows the screen", **knows, **told}

    def search(self, case: Case) -> Found:
        """Round by round, for the images that did not get through; of these the last one that fools is handed in."""
        check_kinds(self.attack, case.victim, [case.threat])
        effort, weights = Effort.of(case), _Weights(self.weight, case.clean)
        rows = torch.arange(len(case), device=case.clean.device)
        kept: Candidate | None = None
        for _ in range(self.rounds):
            part = case if len(rows) == len(case) else case.rows(rows)
            made, objective = self._round(part, weights.now[rows], effort, rows)
            weights.learn(rows, too_small=objective.fooled)
            kept = made if kept is None else exchanged(kept, _better(part, rows_of(kept, rows), made), rows)
            rows = rows_where(~kept.success)
            if not len(rows):
                break
        assert kept is not None
        return Found(kept, effort)

    def _round(self, case: Case, weights: Tensor, effort: Effort, rows: Tensor) -> tuple[Candidate, Evading]:
        """What one run came to, its success a wrong answer without alarm, and the objective as it ended."""
        plan = self.attack.plan(case)
        objective = Evading(plan.objective, case.victim, self.alarm, weights)
        plan = replace(plan, objective=objective, restarts=1, keep_best=True, early_stop=False, watch=None)
        found = run_plan(plan, replace(case, victim=WatchedVictim(case.victim, self.alarm)))
        effort.add(found.effort, rows)
        return replace(found.candidate, outputs=found.candidate.outputs.outputs), objective


def _better(case: Case, kept: Candidate, made: Candidate) -> Candidate:
    """What was made, unless it gets nowhere and what was kept at least fools."""
    task = case.victim.task
    fooled, before = (task.fooled(one.outputs, case.truth if one.truth is None else one.truth) for one in (made, kept))
    return either(fooled | ~before, kept, made)


class _Weights:
    """Weights by bisection, in powers of ten until one was too small and one too large."""

    def __init__(self, first: float, images: Tensor) -> None:
        self.now = torch.full((len(images),), first, device=images.device)
        self.least, self.most = torch.zeros_like(self.now), torch.full_like(self.now, torch.inf)

    def learn(self, rows: Tensor, too_small: Tensor) -> None:
        """The next weights, of images whose answer was wrong under suspicion (`too_small`), or still right."""
        now = self.now[rows]
        least = torch.where(too_small, now, self.least[rows])
        most = torch.where(too_small, self.most[rows], now)
        self.least[rows], self.most[rows] = least, most
        middle = (least * most).sqrt()
        self.now[rows] = torch.where(most.isinf(), FACTOR * now, torch.where(least == 0, now / FACTOR, middle))
