"""The one loop that every iterative attack is.

x' ← Π(x' + step_size · steepest(∇J(x'))), per sample, with the gradient taken with respect to the input alone, or to
what a threat makes the image of. Unless images may leave early, nothing in the loop reads a tensor back to Python, so
that a GPU never waits.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from medrobust.attacks.asking import CountedVictim
from medrobust.attacks.best_iterate import BestIterate
from medrobust.attacks.case import Candidate, Case, Effort, Found, rows_where
from medrobust.attacks.gradients import Point
from medrobust.attacks.luck import Luck
from medrobust.attacks.objectives import Iterate, Terms
from medrobust.attacks.per_image import State, exchanged, joined, rows_of, tiled
from medrobust.attacks.plan import Plan
from medrobust.attacks.steps import Move, Situation
from medrobust.attacks.trajectory import TrajectoryRecorder


def run_plan(plan: Plan, case: Case, start: Tensor | None = None) -> Found:
    """Search by the plan: all restarts, of which the worst candidate per image is kept.

    Args:
        plan: the attack.
        case: the batch, not empty.
        start: `(B, …)` where the first run begins; by the plan when not given.
    """
    effort = Effort.of(case)
    kept: Candidate | None = None
    for restart in range(plan.restarts):
        rows = torch.arange(len(case), device=case.clean.device)
        if plan.early_stop and kept is not None:
            rows = rows_where(~kept.success)
            if not len(rows):
                break
        part, way = (case, plan) if len(rows) == len(case) else (case.rows(rows), plan.rows(rows))
        found = _Climb(way, part, restart, start if restart == 0 else None).run()
        effort.add(found.effort, rows)
        if kept is None:
            kept = found.candidate
        else:
            kept = exchanged(kept, part.worse(rows_of(kept, rows), found.candidate), rows)
    assert kept is not None
    return Found(kept, effort)


def walked(plan: Plan, case: Case, start: Tensor | None = None) -> Tensor:
    """The variables at which the first run of a plan ends that lets no image go early; nothing is asked of them."""
    climb = _Climb(plan, case, 0, start)
    climb.walk()
    return climb.variables


class _Climb:
    """One run of the loop, with all its state; images may leave it."""

    def __init__(self, plan: Plan, case: Case, restart: int, start: Tensor | None) -> None:
        self.plan, self.case = plan, case
        self.rows = torch.arange(len(case), device=case.clean.device)  # of the case that it began with
        self.effort = Effort.of(case)
        self.counted = CountedVictim(case.victim)
        self.objective = plan.objective.begin(self.counted, case.clean, case.truth)
        self.looks_back = getattr(self.objective, "looks_back", True)
        self._count()
        if start is None:
            start = case.space.start()
            if plan.random_start or restart:
                start = case.space.random_start(case.generators(f"start {restart}"))
        self.variables = start
        self.inputs = [part.begin(case, f"input {place} {restart}") for place, part in enumerate(plan.inputs)]
        self.gradients = [part.begin(case, f"gradient {place} {restart}") for place, part in enumerate(plan.gradients)]
        self.stepper = plan.step.begin(case, plan.step_size)
        self.source = plan.source.begin(case, f"source {restart}")
        self.luck = Luck()
        self.best = BestIterate(case, start) if plan.keep_best else None
        self.recorder = TrajectoryRecorder(case.victim, case.clean, plan.watch) if plan.watch else None
        self.move: Move | None = None
        self.before: Tensor | None = None
        self.velocity: Tensor | None = None
        self.left_early: list[tuple[Tensor, Candidate]] = []

    def run(self) -> Found:
        """Climb, and hand in per image the last iterate or, when the plan keeps the best, the better of the two."""
        if self.walk():
            if self.recorder is not None:
                self._record(self.recorder, None)
            trajectory = self.recorder.finish() if self.recorder else None
            candidate = self.case.judge(self.variables, trajectory)
            if self.best is not None:
                candidate = self.case.worse(candidate, self.case.judge(self.best.variables, trajectory))
            self.left_early.append((self.rows, candidate))
        places, candidates = [rows for rows, _ in self.left_early], [candidate for _, candidate in self.left_early]
        return Found(candidates[0] if len(candidates) == 1 else joined(candidates, places), self.effort)

    def walk(self) -> bool:
        """Take all steps; says whether an image is left."""
        return all(self._step(index) for index in range(self.plan.steps))

    def _step(self, index: int) -> bool:
        """Take a step; says whether an image is left to go on with."""
        asks = self.plan.source.asks
        if self.plan.early_stop and asks:  # one answer is cheaper than those that a gradient takes
            staying = self._staying(None)
            if staying is not None and not len(staying):
                return False
        terms, gradient, iterate = self.source(self._evaluate(index), self.variables)
        self._count()
        seen = self._seen(terms, iterate)
        if self.plan.early_stop and not asks:
            staying = self._staying(seen)
            if staying is not None:
                if not len(staying):
                    return False
                copies = torch.cat([staying + copy * len(gradient) for copy in range(iterate.copies)])
                terms, iterate = terms.rows(copies), iterate.rows(copies)
                seen, gradient = terms if seen is terms else None, gradient[staying]
        if self.best is not None:
            self.best.see(self.case, self.variables, self._answers(seen))
        if self.recorder is not None:
            self._record(self.recorder, seen)
        with torch.no_grad():
            value = terms.total.detach().reshape(iterate.copies, -1).mean(0)
            gradient, lost = self.luck.revived(self.case.space.allowed(gradient), self.case, index)
            going = None if terms.left is None else terms.left[: len(lost)]
            self.effort.stuck[self.rows] += lost if going is None else lost & going
            self.effort.steps[self.rows] += 1
            last = index == self.plan.steps - 1
            point = Point(self.variables, last, lambda points: self._gradient_at(index, points))
            for part in self.gradients:
                gradient = part(gradient, point)
            situation = Situation(self.case, index, self.plan.steps, self.variables, terms, value, iterate)
            self.velocity, self.move = gradient, self.stepper(gradient, situation)
        self.before, self.variables = self.variables, self.move.variables
        return True

    def _count(self) -> None:
        """Add what the model was shown by the objective to the queries, if each of them counts."""
        times = self.counted.per_image(len(self.case))
        if self.plan.source.asks:
            self.effort.queries[self.rows] += times

    def _record(self, recorder: TrajectoryRecorder, seen: Terms | None) -> None:
        direction = None if self.move is None else self.move.direction
        images, truth = self.case.space.images(self.variables), self.case.truth_at(self.variables)
        recorder.record(images, truth, seen, direction)

    def _evaluate(self, index: int) -> Evaluation:
        return Evaluation(self, index)

    def _gradient_at(self, index: int, points: Tensor) -> Tensor:
        """The mean gradient at other points, `(copies, B, …)`, all in one batch."""
        with torch.enable_grad():
            away = Evaluation(self, index, len(points), away=True)
            _, gradient, _ = self.source(away, points.flatten(0, 1))
        self._count()
        return self.case.space.allowed(gradient.reshape(points.shape).mean(0))

    def _seen(self, terms: Terms, iterate: Iterate) -> Terms | None:
        """What the terms tell of the iterates themselves; of images that were all moved, nothing."""
        if not iterate.plain:
            return None
        return terms if iterate.copies == 1 else terms.rows(torch.arange(len(iterate), device=terms.total.device))

    @torch.no_grad()
    def _answers(self, seen: Terms | None) -> Any:
        """The model's outputs at the iterates; asked for where the objective saw other images."""
        if seen is not None:
            return seen.outputs
        outputs = self.counted.forward(self.case.space.images(self.variables))
        self._count()
        return outputs

    @torch.no_grad()
    def _staying(self, seen: Terms | None) -> Tensor | None:
        """Let the images go that reached the goal, as they would be saved; the rows that stay, None for all."""
        case = self.case
        _, success = case.measure(self._answers(seen), case.truth_at(self.variables))
        reached = rows_where(success)
        if not len(reached):
            return None
        candidate = case.rows(reached).judge(self.variables[reached])
        going, lost = rows_where(candidate.success), reached[rows_where(~candidate.success)]
        success[lost] = False
        if self.plan.source.asks:  # the answers for the others are those of what is handed in
            self.effort.queries[self.rows[lost]] += 1
        if not len(going):
            return None
        self.left_early.append((self.rows[reached[going]], rows_of(candidate, going)))
        staying = rows_where(~success)
        if len(staying):
            self._keep(staying)
        return staying

    def _keep(self, rows: Tensor) -> None:
        self.rows, self.variables = self.rows[rows], self.variables[rows]
        self.case, self.objective = self.case.rows(rows), self.objective.rows(rows)
        self.plan = self.plan.rows(rows)
        self.before, self.velocity = rows_of(self.before, rows), rows_of(self.velocity, rows)
        if self.move is not None:
            length = self.move.length[rows] if isinstance(self.move.length, Tensor) else self.move.length
            self.move = Move(self.move.variables[rows], self.move.direction[rows], length)
        states: tuple[State, ...] = (*self.inputs, *self.gradients, self.stepper, self.source, self.luck)
        for state in states:
            state.keep(rows)
        if self.best is not None:
            self.best.keep(rows)


class Evaluation:
    """The objective of a climb as a function of the variables, of the images or of several copies of them."""

    def __init__(self, climb: _Climb, index: int, copies: int = 1, *, away: bool = False) -> None:
        self._climb, self._index, self._copies, self._away = climb, index, copies, away

    def __call__(self, variables: Tensor, copies: int = 1) -> tuple[Terms, Iterate]:
        """The terms at variables `(copies · n, …)`, and what the model was shown; n rows are those of the climb."""
        climb, copies = self._climb, copies * self._copies
        case, count = climb.case, len(climb.case)
        space = case.space
        if copies > 1 and not case.threat.pixels:
            space = space.rows(torch.arange(count, device=variables.device).repeat(copies))

        def whole(value: Tensor | None) -> Tensor | None:
            return tiled(value, copies, count)

        moved = climb.move if case.threat.pixels else None
        before = climb.move if climb.looks_back and case.threat.pixels else None
        iterate = Iterate(
            index=self._index,
            steps=climb.plan.steps,
            clean=tiled(case.clean, copies, count),
            current=space.images(variables),
            truth=case.truth_at(variables, space),
            sign=case.sign,
            step_size=climb.plan.step_size if moved is None else moved.length,
            previous=None if before is None else whole(climb.before),
            direction=None if before is None else whole(before.direction),
            velocity=climb.velocity if climb.inputs and copies == 1 and not self._away else None,
            copies=copies,
        )
        for stage in climb.inputs:
            iterate = stage(iterate, case)
        if climb.plan.source.asks:  # a black box is never shown what no image can be
            iterate = replace(iterate, current=iterate.current.clamp(*case.victim.bounds))
        return climb.objective(climb.counted, iterate), iterate
