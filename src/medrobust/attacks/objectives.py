"""What an iterative attack climbs: a value per sample, from the model's outputs at the current iterate."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from medrobust.tasks import Placement, Task
from medrobust.victim import Victim


@dataclass(frozen=True)
class Iterate:
    """Where the loop stands, as an objective sees it.

    Attributes:
        index: number of steps already taken, of `steps` in all.
        clean, current: `(B, C, *spatial)` in data units; `current` requires grad.
        truth: the truth, or the target when `sign` is −1.
        sign: +1 to leave the truth, −1 to reach the target.
        previous: the iterate before, None at the start.
        direction, step_size: what was added to `previous`, before projection, is their product.
        placement: where in their frame all these were put, None where they were not moved.
    """

    index: int
    steps: int
    clean: Tensor
    current: Tensor
    truth: Tensor
    sign: int
    step_size: float = 0.0
    previous: Tensor | None = None
    direction: Tensor | None = None
    placement: Placement | None = None


@dataclass(frozen=True)
class Terms:
    """What an objective found at an iterate.

    Attributes:
        total: `(B,)`, what the step ascends.
        outputs: the model's outputs at the iterate, a tensor or `DetectorOutputs`.
        smoothed: its outputs at the smoothed image S(x'), where the objective needed just these.
        left: bool `(B,)`, is there anything left to reach? An image with nothing left stays where it is. None: always.
    """

    total: Tensor
    outputs: Any
    smoothed: Any = None
    left: Tensor | None = None


class Objective(Protocol):
    """Evaluates an iterate; called once a step, inside `victim.evaluating()` with gradients enabled."""

    def begin(self, victim: Victim, clean: Tensor, truth: Tensor) -> Objective:
        """The objective for one run of the loop, which may have looked at the clean images first."""
        ...

    def __call__(self, victim: Victim, iterate: Iterate) -> Terms:
        """The value to ascend, with what was computed on the way."""
        ...


class OutputObjective(ABC):
    """An objective that needs nothing but the outputs at the iterate: one forward, one backward.

    A new one only says how far the outputs are from the truth; `Stabilized` (SMIA) wraps any of them.
    """

    @abstractmethod
    def deviation(self, task: Task, outputs: Any, iterate: Iterate) -> Tensor:
        """How far the outputs are from `iterate.truth`, `(B,)`."""

    def begin(self, victim: Victim, clean: Tensor, truth: Tensor) -> OutputObjective:
        """Itself: it needs to know nothing of the clean images."""
        return self

    def left(self, task: Task, outputs: Any, iterate: Iterate) -> Tensor | None:
        """Bool `(B,)`: is there anything left to reach? None where there always is."""
        return None

    def __call__(self, victim: Victim, iterate: Iterate) -> Terms:
        """Ascend the deviation from the truth, or descend the one from the target."""
        outputs = victim.forward(iterate.current)
        total = iterate.sign * self.deviation(victim.task, outputs, iterate)
        return Terms(total, outputs, left=self.left(victim.task, outputs, iterate))


class TaskLoss(OutputObjective):
    """The task's own loss: cross-entropy, over pixels for segmentation."""

    def deviation(self, task: Task, outputs: Any, iterate: Iterate) -> Tensor:
        """`task.loss(outputs, truth)`."""
        return task.loss(outputs, iterate.truth)
