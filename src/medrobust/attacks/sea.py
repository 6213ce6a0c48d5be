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
from medrobust.checks import at_least
from medrobust.threat import Threat
from medrobust.victim import Victim

RADII = ((2.0, 0.3), (1.5, 0.3), (1.0, 0.4))
"""Radius of the ball, in units of eps, and the share of the steps that is spent in it."""


@dataclass(frozen=True, kw_only=True)
class ShrinkingAPGD(APGD):
    """APGD in a ball of twice the radius, then of 1.5 times, then in the ball itself. arXiv 2306.12941, section 3.2.

    Each phase goes on from what the one before ended with, put into the smaller ball.
    """

    steps: int = 300

    def search(self, case: Case) -> Found:
        """The three phases; only what the last one finds is handed in."""
        effort, start, found = Effort.of(case), None, None
        for radius, share in RADII:
            wider = case.under(replace(case.threat, eps=radius * case.threat.eps))
            phase = replace(self, steps=max(round(share * self.steps), 1))
            if start is not None:
                wider.space.project_(start)
            found = run_plan(phase.plan(wider), wider, start)
            effort.add(found.effort, slice(None))
            start = found.candidate.image.detach().to(case.clean).clone()
        assert found is not None
        return Found(found.candidate, effort)


@dataclass(frozen=True, kw_only=True)
class SEA(Ensemble):
    """The worst, per image, of `ShrinkingAPGD` on three losses of pixels. arXiv 2306.12941, section 3.3.

    They are the cross-entropy on the pixels still right, the same with every class of equal weight, and the
    Jensen-Shannon divergence; the paper takes the worst by pixel accuracy, here it is by Dice.

    Args:
        steps: of each of the three.
    """

    steps: int = 300

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("steps", self.steps, 3)

    def members_for(self, victim: Victim, threat: Threat) -> Sequence[Member]:
        """One for each loss."""
        losses = {"masked": MaskedCrossEntropy(), "balanced": BalancedMaskedCrossEntropy(), "js": JensenShannon()}
        return [Member(f"sea {name}", ShrinkingAPGD(steps=self.steps, loss=loss)) for name, loss in losses.items()]
