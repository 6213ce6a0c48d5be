"""FAB: to the border of the model's linear picture within the bounds, drawn back to the clean image on the way.

Croce, Hein: Minimally Distorted Adversarial Examples with a Fast Adaptive Boundary Attack, ICML 2020, arXiv
1907.02044, algorithm 1; towards single classes (FAB-T) as in arXiv 2003.01690, section 4.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from medrobust.attacks.borders import Border, Borders
from medrobust.attacks.case import Case, Effort
from medrobust.attacks.hyperplane import towards_plane
from medrobust.attacks.nearest import DUAL, POWER, Closest, Nearest, NearestAttack, length, limits
from medrobust.checks import at_least, not_negative, positive
from medrobust.errors import InputError
from medrobust.threat import TINY, per_image


@dataclass(frozen=True, kw_only=True)
class FAB(NearestAttack):
    """x' ← (1 − α)·(x' + η·d₁) + α·(x + η·d₂); where that fools the model, x' ← x + β·(x' − x).

    d₁ and d₂ lead from x' and from the clean x to the nearest border, as it looks from x': the smallest changes within
    the bounds onto ⟨w, z⟩ = ⟨w, x'⟩ − f, see `towards_plane`; f is the difference of logits whose |f|/‖w‖_q is least, w
    its gradient. α = min(‖d₁‖/(‖d₁‖ + ‖d₂‖), alpha). It does not change when the logits are scaled.

    With targets (FAB-T) the border is that to one class, a run for each, and the nearest image of all runs is kept.
    The authors leave an image once it is within eps; here eps says nothing, and all runs are made. An image none of
    whose borders has a gradient stays where it is, and the step is counted.

    Args:
        steps: of each run; the paper's 100.
        targets: 0 looks at the borders to all classes at every step, a backward each. With n, one backward a step for
            each of the n likeliest wrong classes of the clean image: for many classes (the authors use 9).
        alpha: α's greatest value, the paper's 0.1.
        eta: η, how far beyond the border, the paper's 1.05.
        beta: β, the step back, the paper's 0.9.

    Raises:
        InputError: an option has no such value. When run: the task has not one answer per image.
    """

    steps: int = 100
    targets: int = 0
    alpha: float = 0.1
    eta: float = 1.05
    beta: float = 0.9
    targeted: bool = field(default=False, init=False)

    norms: ClassVar[tuple[str, ...]] = ("linf", "l2", "l1")
    answers = "image"

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("steps", self.steps, 1)
        at_least("targets", self.targets, 0)
        not_negative("alpha", self.alpha)
        positive("eta", self.eta)
        positive("beta", self.beta)
        if self.alpha > 1 or self.beta > 1:
            raise InputError(f"alpha and beta must be at most 1, got {self.alpha!r} and {self.beta!r}")

    def nearest(self, case: Case) -> Nearest:
        """All runs, from the clean image each."""
        borders = Borders.of("FAB", case, self.targets or None)
        runs = [borders.only(rank) for rank in range(len(borders))] if self.targets else [borders]
        closest, effort, images = Closest(case), Effort.of(case), case.clean
        for run in runs:
            images = self._run(case, run, closest, effort)
        return Nearest(closest.or_else(images), effort)

    def _run(self, case: Case, borders: Borders, closest: Closest, effort: Effort) -> Tensor:
        """One run; gives where it ends."""
        box = limits(case)
        power, dual = POWER[case.threat.norm], DUAL[case.threat.norm]
        images = case.clean
        for _ in range(self.steps):
            border = borders.nearest(case, images, dual)
            effort.steps += 1
            effort.stuck += border.lost
            with torch.no_grad():
                images = self._step(case, images, border, box).clamp(*box)
                _, reached = case.measure(case.victim.forward(images))
                change = images - case.clean
                closest.see(images, reached, length(change, power))
                images = torch.where(per_image(reached, images), case.clean + self.beta * change, images)
        return images

    def _step(self, case: Case, images: Tensor, border: Border, box: tuple[Tensor, Tensor]) -> Tensor:
        """Over the border, drawn to the clean image; nowhere where there is no border."""
        norm = case.threat.norm
        from_here = towards_plane(images, border.normal, border.gap, box, norm)
        away = (border.normal.double() * (images.double() - case.clean.double())).flatten(1).sum(1)
        from_clean = towards_plane(case.clean, border.normal, border.gap.double() - away, box, norm)
        here, clean = length(from_here, POWER[norm]), length(from_clean, POWER[norm])
        share = (here / (here + clean).clamp_min(TINY)).clamp_max(self.alpha)
        share = per_image(torch.where(border.lost, 0, share), images)
        return (1 - share) * (images + self.eta * from_here) + share * (case.clean + self.eta * from_clean)


@dataclass(frozen=True, kw_only=True)
class TargetedFAB(FAB):
    """FAB-T: `FAB` towards each of the likeliest wrong classes, one after the other. arXiv 2003.01690, section 6."""

    targets: int = 9
