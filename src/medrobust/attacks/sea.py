"""SEA: an ensemble of attacks on masks. Croce, Singh, Hein, ECCV 2024, arXiv 2306.12941, section 3."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from medrobust.attacks.apgd import APGD
from medrobust.attacks.case import Case, Effort, Found
from medrobust.attacks.dense_losses import BalancedMaskedCrossEntropy, MaskedCrossEntropy
from medrobust.attacks.ensembles import Ensemble, Member
from medrobust.attacks.loop import run_plan
from medrobust.attacks.losses import JensenShannon
from medrobust.checks import at_least, positive
from medrobust.errors import InputError
from medrobust.threat import Threat
from medrobust.victim import Victim

SHARES = (0.3, 0.3, 0.4)
"""The share of the steps that each phase gets; the last takes what rounding leaves."""


@dataclass(frozen=True, kw_only=True)
class ShrinkingAPGD(APGD):
    """APGD in a ball of twice the radius, then of 1.5 times, then in the ball itself. arXiv 2306.12941, section 3.2.

    Each phase goes on from what the one before ended with, put into the smaller ball.

    Args:
        radii: of the three balls, in units of eps, the last 1; (3, 2, 1) is what the authors of APGD take in L1
            (arXiv 2103.01208).
    """

    norms = ("linf", "l2", "l1")
    steps: int = 300
    radii: Sequence[float] = (2.0, 1.5, 1.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("steps", self.steps, len(SHARES))
        if len(self.radii) != len(SHARES) or self.radii[-1] != 1:
            raise InputError(f"radii must be three, in units of eps, and the last of them 1, got {self.radii!r}")
        for radius in self.radii:
            positive("radii", radius)
        object.__setattr__(self, "radii", tuple(self.radii))

    def search(self, case: Case) -> Found:
        """The three phases; only what the last one finds is handed in."""
        effort, start, found = Effort.of(case), None, None
        for radius, steps in zip(self.radii, phases(self.steps), strict=True):
            wider = case.under(replace(case.threat, eps=radius * case.threat.eps))
            if start is not None:
                wider.space.project_(start)
            found = run_plan(replace(self.plan(wider), steps=steps), wider, start)
            effort.add(found.effort, slice(None))
            start = found.candidate.image.detach().to(case.clean).clone()
        assert found is not None
        return Found(found.candidate, effort)


def phases(steps: int) -> tuple[int, ...]:
    """How many of at least three steps each phase gets."""
    first = [max(round(share * steps), 1) for share in SHARES[:-1]]
    return (*first, steps - sum(first))


@dataclass(frozen=True, kw_only=True)
class SEA(Ensemble):
    """The worst, per image, of `ShrinkingAPGD` on three losses of pixels. arXiv 2306.12941, section 3.3.

    They are the cross-entropy on the pixels still right, the same with every class of equal weight, and the
    Jensen-Shannon divergence; the paper takes the worst by pixel accuracy, here it is by Dice.

    Args:
        steps: of each of the three.

    Raises:
        InputError: fewer than 3 steps. When run: the task is no segmentation, or the threat of an imaging family.
    """

    norms = ShrinkingAPGD.norms
    answers = "pixel"
    steps: int = 300

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("steps", self.steps, 3)

    def members_for(self, victim: Victim, threat: Threat) -> Sequence[Member]:
        """One for each loss."""
        losses = {"masked": MaskedCrossEntropy(), "balanced": BalancedMaskedCrossEntropy(), "js": JensenShannon()}
        return [Member(f"sea {name}", ShrinkingAPGD(steps=self.steps, loss=loss)) for name, loss in losses.items()]
