"""What the one loop is told: its steps, its objective and its parts."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from medrobust.attacks.gradients import GradientPart
from medrobust.attacks.inputs import InputPart
from medrobust.attacks.objectives import Objective
from medrobust.attacks.sources import GradientSource
from medrobust.attacks.steps import Length, StepRule
from medrobust.transforms import GaussianSmoothing


@dataclass(frozen=True)
class Plan:
    """The choices that make the loop an attack; see `IterativeAttack` for the words."""

    steps: int
    step_size: Length
    objective: Objective
    source: GradientSource
    step: StepRule
    inputs: tuple[InputPart, ...] = ()
    gradients: tuple[GradientPart, ...] = ()
    random_start: bool = False
    restarts: int = 1
    keep_best: bool = False
    early_stop: bool = False
    watch: GaussianSmoothing | None = None

    def rows(self, index: Tensor) -> Plan:
        """The plan for some of the images, `(n,)` int64: each may have a target and a step length of its own."""
        length = self.step_size
        length = length[index.to(length.device)] if isinstance(length, Tensor) else length
        return replace(self, objective=self.objective.rows(index), step_size=length)
