"""The gradient-sign family: one loop, and a few choices each."""

from __future__ import annotations

from dataclasses import dataclass, field

from medrobust.attacks.copies import Scales
from medrobust.attacks.gradients import GradientPart, TranslationInvariance, VarianceTuning
from medrobust.attacks.inputs import Diversity, InputPart, LookAhead
from medrobust.attacks.iterative import IterativeAttack, Keep
from medrobust.attacks.patches import PatchWise


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
    """BIM from a random start in the ball. Madry et al., arXiv 1706.06083, section 2.1.

    In L1 the step is sparse: the signs of the largest hundredth of the gradient (SLIDE, arXiv 1904.13000, section 3.1);
    `APGD` adapts that share, and is far stronger there.
    """

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
class TIFGSM(BIM):
    """BIM along a smoothed gradient, sign(W ∗ ∇L). Dong et al., arXiv 1904.02884, eq. 8.

    The kernel of 15 is the paper's, for images of 299 pixels; one of 5 or 7 suits those of 100. `translation_kernel`
    and `translation_sigma`: see `TranslationInvariance`.
    """

    pixels_only = True
    translation_kernel: int = 15
    translation_sigma: float | None = None

    def gradient_parts(self) -> tuple[GradientPart, ...]:
        """Smoothed, then the momentum, if any."""
        return (TranslationInvariance(self.translation_kernel, self.translation_sigma), *super().gradient_parts())


@dataclass(frozen=True, kw_only=True)
class MIFGSM(IterativeAttack):
    """BIM along the momentum of normalised gradients. Dong et al., arXiv 1710.06081, algorithm 1.

    α = eps/steps unless given, as in the paper.
    """

    momentum: float = 1.0

    def default_step_size(self, eps: float) -> float:
        """The budget, shared out over the steps."""
        return eps / self.steps


@dataclass(frozen=True, kw_only=True)
class NIFGSM(MIFGSM):
    """MI-FGSM with the gradient taken where the momentum leads. Lin et al., arXiv 1908.06281, algorithm 1."""

    pixels_only = True

    def input_parts(self) -> tuple[InputPart, ...]:
        """Nesterov's look-ahead first."""
        return (LookAhead(self.momentum), *self.inputs)


@dataclass(frozen=True, kw_only=True)
class SINIFGSM(NIFGSM):
    """NI-FGSM on the mean over darker and darker copies. Lin et al., arXiv 1908.06281, algorithm 2.

    Args:
        copies: see `Scales`; all of them go through the model in one batch.
    """

    copies: int = 5

    def input_parts(self) -> tuple[InputPart, ...]:
        """The look-ahead, then its copies."""
        return (*super().input_parts(), Scales(self.copies))


@dataclass(frozen=True, kw_only=True)
class VMIFGSM(MIFGSM):
    """MI-FGSM with the gradient tuned by its change to neighbours. Wang & He, arXiv 2103.15571, algorithm 1.

    Args:
        neighbours, radius: see `VarianceTuning`. The paper takes 20 neighbours; 5, a usual choice, cost a quarter.
    """

    neighbours: int = 5
    radius: float = 1.5

    def gradient_parts(self) -> tuple[GradientPart, ...]:
        """The variance, then the momentum."""
        return (VarianceTuning(self.neighbours, self.radius), *super().gradient_parts())


@dataclass(frozen=True, kw_only=True)
class VNIFGSM(VMIFGSM):
    """VMI-FGSM with Nesterov's look-ahead; the neighbours are those of the iterate. arXiv 2103.15571, section 3.3."""

    pixels_only = True

    def input_parts(self) -> tuple[InputPart, ...]:
        """Nesterov's look-ahead first."""
        return (LookAhead(self.momentum), *self.inputs)


@dataclass(frozen=True, kw_only=True)
class PIFGSM(MIFGSM):
    """BIM by steps too long, whose excess is passed on to the neighbours. Gao et al., arXiv 2007.06891, algorithm 1.

    α = eps/steps unless given, times the amplification; see `PatchWise`.

    Args:
        amplification: β of the paper.
        project_factor: γ over α·β; 1 in the paper's released setting.
        patch: side of the uniform kernel.
    """

    norms = ("linf",)
    momentum: float = 0.0
    amplification: float = 10.0
    project_factor: float = 1.0
    patch: int = 3

    def default_step(self) -> PatchWise:
        """The patch-wise rule."""
        return PatchWise(self.amplification, self.project_factor, self.patch)
