"""What a training is to be, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from medrobust.data import Dataset
from medrobust.threat import Threat
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
