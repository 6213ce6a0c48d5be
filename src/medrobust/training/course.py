"""What a training is to be, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from medrobust.data import Dataset
from medrobust.errors import InputError
from medrobust.threat import Threat
from medrobust.training.balance import check_balance
from medrobust.training.method import Method
from medrobust.training.options import Training
from medrobust.training.validating import Validation
from medrobust.victim import Victim


@dataclass(frozen=True)
class Course:
    """All that decides what a training comes to."""

    victim: Victim
    training: Dataset
    validation: Dataset
    method: Method
    threat: Threat
    how: Training
    look: Validation
    seed: int


@dataclass(frozen=True)
class Seen:
    """A validation.

    Attributes:
        step: after so many.
        clean, attacked, attacked_loss: what is left of the validation images, see `Left`.
        loss: the mean that was descended since the last validation.
        seconds: that it took.
    """

    step: int
    clean: float
    attacked: float
    attacked_loss: float
    loss: float | None = None
    seconds: float = 0.0

    @property
    def merit(self) -> tuple[float, float, float]:
        """The higher the better. Of few images many weights leave the same share; then the loss tells them apart."""
        return self.attacked, self.clean, -self.attacked_loss


@dataclass
class Outcome:
    """What a training came to.

    Attributes:
        history: the validations; the first is of the model as it came.
        best: the step of the weights that were kept.
        stopped: why it ended before its last step, in a sentence; None when it did not.
        steps: how many there were to be.
    """

    history: list[Seen] = field(default_factory=list)
    best: int = 0
    stopped: str | None = None
    steps: int = 0

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> Outcome:
        """The reverse of `dataclasses.asdict`."""
        return cls(**{**told, "history": [Seen(**seen) for seen in told["history"]]})


def check_fit(victim: Victim, method: Method, threat: Threat, how: Training) -> None:
    """Raise `InputError` when a model cannot be trained like this, whatever the data."""
    name, task = type(method).__name__, victim.task
    if method.tasks is not None and task.name not in method.tasks:
        raise InputError(f"method {name} is for {' or '.join(method.tasks)}, not {task.name}")
    if not victim.differentiable:
        raise InputError("a model that gives no gradients cannot be trained")
    if threat.moves_truth and task.name in ("segmentation", "detection"):
        raise InputError(f"a {threat.norm} moves true masks and boxes along, which no method of training follows")
    if how.warm_start and not (method.startable and threat.pixels):
        raise InputError(
            f"warm_start is for attacks that walk through changes of pixels: {name} within {threat.norm} has none such"
        )
    if method.replays > 1 and how.accumulate > 1:
        raise InputError(
            f"{name} moves the weights several times on a batch, which must be seen whole: set accumulate to 1"
        )
    check_balance(how.balance, task)
