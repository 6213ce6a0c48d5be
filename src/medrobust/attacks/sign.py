"""The gradient-sign family: one loop, and a few choices each."""

from __future__ import annotations

from dataclasses import dataclass, field

from medrobust.attacks.inputs import Diversity, InputPart
from medrobust.attacks.iterative import IterativeAttack, Keep


@dataclass(frozen=True, kw_only=True)
class FGSM(IterativeAttack):
    """One step of length eps: x' = Π(x + eps · sign ∇L). Goodfellow et al., arXiv 1412.6572, section 4.

    In the L2 norm the step is eps along the unit gradient (the "fast gradient method").
    """

    steps: int = field(default=1, init=False)
    step_size: float | None = field(default=None, init=False)
    keep: Keep = field(default="last", init=False)
    momentum: float = field(default=0.0, init=False)

    def default_step_size(self, eps: float) -> float:
        """The whole budget."""
        return eps


@dataclass(frozen=True, kw_only=True)
class BIM(IterativeAttack):
    """x ← Π(x + α · sign ∇L) from the clean image. Kurakin et al., arXiv 1607.02533, section 2.2.

    α = eps/4 unless given (2/255 at eps 8/255, the usual setting), whatever the number of steps.
    """

    def default_step_size(self, eps: float) -> float:
        """A quarter of the budget."""
        return eps / 4


@dataclass(frozen=True, kw_only=True)
class PGD(IterativeAttack):
    """BIM from a random start in the ball. Madry et al., arXiv 1706.06083, section 2.1."""

    random_start: bool = True


@dataclass(frozen=True, kw_only=True)
class DIFGSM(BIM):
    """BIM on images that are randomly made smaller and moved at every step. Xie et al., arXiv 1803.06978, eq. 4.

    With `momentum=1` it is the paper's M-DI²-FGSM. `diversity_probability` and `diversity_rate`: see `Diversity`.
    """

    diversity_probability: float = 0.5
    diversity_rate: float = 1.1

    def input_parts(self) -> tuple[InputPart, ...]:
        """Input diversity, as configured."""
        return (*self.inputs, Diversity(self.diversity_probability, self.diversity_rate))


@dataclass(frozen=True, kw_only=True)
class MIFGSM(IterativeAttack):
    """BIM along the momentum of normalised gradients. Dong et al., arXiv 1710.06081, algorithm 1.

    α = eps/steps unless given, as in the paper.
    """

    momentum: float = 1.0

    def default_step_size(self, eps: float) -> float:
        """The budget, shared out over the steps."""
        return eps / self.steps
