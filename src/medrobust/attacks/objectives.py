"""What an iterative attack climbs: a value per sample, from the model's outputs at the current iterate."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol, TypeVar

from torch import Tensor

from medrobust.attacks.per_image import rows_of, tiled
from medrobust.tasks import Placement, Task
from medrobust.transforms import GaussianSmoothing
from medrobust.victim import Victim

Value = TypeVar("Value")
PER_ROW = ("clean", "current", "truth", "previous", "direction", "velocity")


@dataclass(frozen=True)
class Iterate:
    """Where the loop stands, as an objective sees it.

    Attributes:
        index: number of steps already taken, of `steps` in all.
        clean, current: `(B, C, *spatial)` in data units; `current` requires grad.
        truth: the truth, or the target when `sign` is −1.
        sign: +1 to leave the truth, −1 to reach the target.
        previous: the iterate before, None at the start and for objectives that do not look back.
        direction, step_size: what was added to `previous`, before projection, is their product; step_size is a
            number or `(B,)`.
        placement: where in their frame all these were put, None where they were not moved.
        velocity: `(B, …)`, the gradient as its parts left it at the step before (the momentum, where there is one);
            None at the start and where a gradient is taken elsewhere than at the iterate.
        copies: how many of each image there are: copy k of image b is row k · B + b of all these.
        plain: whether the first copy is the iterate as it is.
    """

    index: int
    steps: int
    clean: Tensor
    current: Tensor
    truth: Tensor
    sign: int
    step_size: float | Tensor = 0.0
    previous: Tensor | None = None
    direction: Tensor | None = None
    placement: Placement | None = None
    velocity: Tensor | None = None
    copies: int = 1
    plain: bool = True

    def __len__(self) -> int:
        """Number of images, each counted once."""
        return len(self.current) // self.copies

    def of_copies(self, value: Value) -> Value:
        """A row for each copy, of what has a row for each image."""
        return tiled(value, self.copies, len(self))

    def rows(self, index: Tensor) -> Iterate:
        """Some of its rows, `(n,)` int64: all copies of some of the images."""
        chosen = {name: rows_of(getattr(self, name), index) for name in PER_ROW}
        return replace(self, **chosen, placement=self.placement and self.placement.rows(index.tolist()))

    def copied(self, copies: int, **made: Tensor) -> Iterate:
        """Every row `copies` times over, of all that is not made already."""
        count = len(self.current)
        rows: dict[str, Any] = {
            name: made[name] if name in made else tiled(getattr(self, name), copies, count) for name in PER_ROW
        }
        placement = self.placement and self.placement.rows([*range(count)] * copies)
        return replace(self, copies=self.copies * copies, placement=placement, **rows)


@dataclass(frozen=True)
class Terms:
    """What an objective found at an iterate.

    Attributes:
        total: `(B,)`, what the step ascends.
        outputs: the model's outputs at the iterate, a tensor or `DetectorOutputs`.
        smoothed: its outputs at the smoothed image S(x'), where the objective needed just these.
        smoothing: that S.
        left: bool, is there anything left to reach? An image with nothing left stays where it is. None: always.

    All of them have a row for each copy of an image.
    """

    total: Tensor
    outputs: Any
    smoothed: Any = None
    smoothing: GaussianSmoothing | None = None
    left: Tensor | None = None

    def rows(self, index: Tensor) -> Terms:
        """Some of its rows, `(n,)` int64."""
        return rows_of(self, index)


class Objective(Protocol):
    """Evaluates an iterate; called once a step, inside `victim.evaluating()` with gradients enabled."""

    def begin(self, victim: Victim, clean: Tensor, truth: Tensor) -> Objective:
        """The objective for one run of the loop, which may have looked at the clean images first."""
        ...

    def rows(self, index: Tensor) -> Objective:
        """The objective for some of the images that it has begun with, `(n,)` int64."""
        ...

    def __call__(self, victim: Victim, iterate: Iterate) -> Terms:
        """The value to ascend, with what was computed on the way."""
        ...


class OutputObjective(ABC):
    """An objective that needs nothing but the outputs at the iterate: one forward, one backward.

    A new one only says how far the outputs are from the truth; `Stabilized` (SMIA) wraps any of them.

    Attributes:
        looks_back: whether it may read `iterate.previous` or `iterate.direction`; where it says no, they are None.
    """

    looks_back: ClassVar[bool] = True

    @abstractmethod
    def deviation(self, task: Task, outputs: Any, iterate: Iterate) -> Tensor:
        """How far the outputs are from `iterate.truth`, `(B,)`."""

    def begin(self, victim: Victim, clean: Tensor, truth: Tensor) -> OutputObjective:
        """Itself: it needs to know nothing of the clean images."""
        return self

    def rows(self, index: Tensor) -> OutputObjective:
        """Itself: it holds nothing of any image."""
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

    looks_back = False

    def deviation(self, task: Task, outputs: Any, iterate: Iterate) -> Tensor:
        """`task.loss(outputs, truth)`."""
        return task.loss(outputs, iterate.truth)
