"""How a gradient becomes the next iterate: the norm's way by constant lengths, or an attack's own rule.

A rule is configuration; `begin` gives its state for one run of the loop.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, Protocol, get_args

import torch
from torch import Tensor

from medrobust.attacks.case import Case
from medrobust.attacks.objectives import Iterate, Terms
from medrobust.attacks.per_image import PerImage, State
from medrobust.checks import one_of
from medrobust.errors import InputError
from medrobust.threat import TINY, per_image

Length = float | Tensor
"""A step's length in the threat's unit: one for all, or `(B,)`."""


@dataclass(frozen=True)
class Situation:
    """What a rule may look at.

    Attributes:
        case: the images that are still attacked.
        index, steps: of this step.
        variables: `(B, …)` where the gradient was taken.
        terms: the objective there; of several copies of an image all of them.
        value: `(B,)` the objective there, the mean over the copies.
        iterate: what the model was shown.
    """

    case: Case
    index: int
    steps: int
    variables: Tensor
    terms: Terms
    value: Tensor
    iterate: Iterate


@dataclass(frozen=True)
class Move:
    """A step: `variables` `(B, …)`, allowed; before projection it was `length` times `direction` from the last ones."""

    variables: Tensor
    direction: Tensor
    length: Length


class Stepper(State, Protocol):
    """A rule at work in one run of the loop."""

    def __call__(self, gradient: Tensor, at: Situation) -> Move:
        """The next iterate."""
        ...


class StepRule(Protocol):
    """A way to step."""

    def begin(self, case: Case, length: Length) -> Stepper:
        """A fresh one for one run of the loop, with the attack's `step_size`."""
        ...


Direction = Callable[[Tensor, Situation], Tensor]
"""From the gradient `(B, …)` to what, times the length, is added before projection."""


def steepest(gradient: Tensor, at: Situation) -> Tensor:
    """The way of the norm: the sign of the gradient (L∞), at unit length (L2), its largest values alone (L1)."""
    return at.case.space.steepest(gradient, at.variables)


def largest_to_one(gradient: Tensor, at: Situation) -> Tensor:
    """The gradient itself, at a largest change of 1 (DAG, arXiv 1703.08603, eq. 5); but in L∞ at the norm's length."""
    if at.case.threat.norm != "linf":
        return at.case.space.steepest(gradient, at.variables)
    return gradient / per_image(gradient.flatten(1).abs().amax(1).clamp_min(TINY), gradient)


Schedule = Literal["constant", "cosine"]


def decayed(schedule: Schedule, index: int, steps: int) -> float:
    """The share of the length that step `index` of `steps` takes: all, or half a cosine from 1 down to nearly 0."""
    return 1.0 if schedule == "constant" else (1 + math.cos(math.pi * index / steps)) / 2


@dataclass(frozen=True)
class Walk:
    """x ← Π(x + length · direction).

    Args:
        direction: the norm's steepest, unless an attack has its own.
        schedule: of the length: "constant", or "cosine" decay (arXiv 1608.03983, eq. 5, without restarts).
    """

    direction: Direction = steepest
    schedule: Schedule = "constant"

    def __post_init__(self) -> None:
        one_of("schedule", self.schedule, get_args(Schedule))

    def begin(self, case: Case, length: Length) -> Stepper:
        """Without a past."""
        return _Walking(self, case, length)


class _Walking(PerImage):
    def __init__(self, rule: Walk, case: Case, length: Length) -> None:
        self.rule, self.length = rule, length
        # written over and over: on a CPU, memory that comes and goes costs more than the arithmetic in it
        self.buffers = tuple(torch.empty_like(case.space.start()) for _ in range(2))

    def __call__(self, gradient: Tensor, at: Situation) -> Move:
        direction = self.rule.direction(gradient, at)
        length = _times(self.length, decayed(self.rule.schedule, at.index, at.steps))
        if at.terms.left is not None:
            direction = torch.where(per_image(at.terms.left[: len(direction)], direction), direction, 0)
        # the iterate before last is nobody's any more
        moved = stepped(at.variables, direction, length, out=self.buffers[at.index % 2])
        at.case.space.project_(moved)
        return Move(moved, direction, length)

    def keep(self, rows: Tensor) -> None:
        super().keep(rows)
        self.buffers = tuple(torch.empty_like(buffer[: len(rows)]) for buffer in self.buffers)


@dataclass(frozen=True)
class Adam:
    """x ← Π(x + length · m̂/(√v̂ + tiny)), Adam (Kingma & Ba, arXiv 1412.6980, algorithm 1) on the gradient.

    Args:
        beta1, beta2: decays of the first and the second moment.
        schedule: of the length, as `Walk`.
    """

    beta1: float = 0.9
    beta2: float = 0.999
    schedule: Schedule = "constant"

    def __post_init__(self) -> None:
        for name in ("beta1", "beta2"):
            value = getattr(self, name)
            if not (isinstance(value, int | float) and 0 <= value < 1):
                raise InputError(f"{name} must be in [0, 1), got {value!r}")
        one_of("schedule", self.schedule, get_args(Schedule))

    def begin(self, case: Case, length: Length) -> Stepper:
        """Moments of zero."""
        return _Adam(self, length)


class _Adam(PerImage):
    def __init__(self, rule: Adam, length: Length) -> None:
        self.rule, self.length = rule, length
        self.first: Tensor | None = None
        self.second: Tensor | None = None

    def __call__(self, gradient: Tensor, at: Situation) -> Move:
        rule, count = self.rule, at.index + 1
        # a scale of its own for every image: Adam's guard against division by zero must not eat a faint gradient
        gradient = gradient / per_image(gradient.flatten(1).abs().amax(1).clamp_min(TINY), gradient)
        self.first = _mixed(self.first, gradient, rule.beta1)
        self.second = _mixed(self.second, gradient.square(), rule.beta2)
        mean, square = self.first / (1 - rule.beta1**count), self.second / (1 - rule.beta2**count)
        direction = mean / (square.sqrt() + 1e-8)
        length = _times(self.length, decayed(rule.schedule, at.index, at.steps))
        moved = stepped(at.variables, direction, length)
        at.case.space.project_(moved)
        return Move(held(moved, at), direction, length)


def over_ripples(walk: Walk, length: Length, case: Case, period: float) -> tuple[Walk, Length]:
    """A walk and its length for a loss that rises and falls along the variables: long steps first, fine ones last.

    Equal steps go to and fro between the same points, the clean image among them; a cosine from twice the length goes
    as far in all. Where masks move along, the loss is highest half a period from where they are in register, by far:
    steps of more than a quarter of the period, whatever the budget, would leap over that.
    """
    length = length * 2
    if case.victim.task.dense and not case.targeted:
        length = length.clamp_max(period / 4) if isinstance(length, Tensor) else min(length, period / 4)
    return replace(walk, schedule="cosine"), length


def held(moved: Tensor, at: Situation) -> Tensor:
    """The next variables, but where an image has nothing left to reach, the ones it has."""
    left = at.terms.left
    return moved if left is None else torch.where(per_image(left[: len(moved)], moved), moved, at.variables)


def stepped(variables: Tensor, direction: Tensor, length: Length, out: Tensor | None = None) -> Tensor:
    """Variables + length · direction, before projection."""
    if isinstance(length, Tensor):
        return torch.add(variables, direction * per_image(length, direction), out=out)
    return torch.add(variables, direction, alpha=length, out=out)


def _times(length: Length, factor: float) -> Length:
    return length if factor == 1 else length * factor


def _mixed(kept: Tensor | None, new: Tensor, decay: float) -> Tensor:
    return (1 - decay) * new if kept is None else decay * kept + (1 - decay) * new
