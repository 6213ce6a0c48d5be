"""Iterative attacks on a gradient estimated from scores alone: NES and SPSA, each a few choices for the one loop."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from medrobust.attacks.estimates import DifferenceEstimate, NaturalEvolution, SimultaneousPerturbation
from medrobust.attacks.iterative import IterativeAttack
from medrobust.attacks.losses import Margin
from medrobust.attacks.objectives import Objective
from medrobust.attacks.protocols import Needs
from medrobust.attacks.sources import GradientSource
from medrobust.attacks.steps import Adam, StepRule


@dataclass(frozen=True, kw_only=True)
class EstimatedAttack(IterativeAttack):
    """Base of the two. The margin is climbed: it says how far an image is from being fooled, however sure the model is.

    An image costs at most steps · (2 · directions + 2) queries: those of the estimate, one at the iterate, and one to
    see whether it is fooled, so that it leaves before the next estimate. Without `early_stop` that last one is saved.

    Args:
        directions, width, at_once: see `DifferenceEstimate`.
        early_stop: True here: what an image would still be asked costs.
    """

    steps: int = 100
    early_stop: bool = True
    estimate: GradientSource | None = field(default=None, init=False)
    directions: int = 25
    width: float | None = None
    at_once: int = 16

    needs: ClassVar[Needs] = "scores"
    kind: ClassVar[type[DifferenceEstimate]]

    def __post_init__(self) -> None:
        super().__post_init__()
        self.source()  # checks its options

    def objective(self) -> Objective:
        """The margin, unless another loss is given."""
        return Margin() if self.loss is None else self.loss

    def source(self) -> GradientSource:
        """The estimate, as configured."""
        return self.kind(directions=self.directions, width=self.width, at_once=self.at_once)

    def default_step_size(self, eps: float) -> float:
        """A third of the budget: SPSA's paper takes .01 where eps is 8/255."""
        return eps / 3


@dataclass(frozen=True, kw_only=True)
class NES(EstimatedAttack):
    """x ← Π(x + α · sign ĝ), ĝ by natural evolution strategies. Ilyas et al., arXiv 1804.08598, section 3.

    The paper's 50 queries an estimate. The momentum averages estimates, whose signs alone are mostly noise.
    """

    momentum: float = 0.9
    kind: ClassVar[type[DifferenceEstimate]] = NaturalEvolution


@dataclass(frozen=True, kw_only=True)
class SPSA(EstimatedAttack):
    """Adam on a gradient by simultaneous perturbations. Uesato et al., arXiv 1802.05666, algorithm 1."""

    directions: int = 64
    kind: ClassVar[type[DifferenceEstimate]] = SimultaneousPerturbation

    def default_step(self) -> StepRule:
        """Adam."""
        return Adam()
