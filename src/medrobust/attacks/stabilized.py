"""SMIA's objective: leave the truth, and keep the prediction equal to that on the smoothed image.

Qi, Gong, Song, Ma, Zheng: Stabilized Medical Image Attacks, ICLR 2021, arXiv 2103.05232.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from medrobust.attacks.objectives import Iterate, OutputObjective, TaskLoss, Terms
from medrobust.checks import boolean, not_negative, one_of
from medrobust.errors import InputError, MedrobustWarning
from medrobust.tasks import Divergence, detached, halves
from medrobust.threat import per_image
from medrobust.transforms import GaussianSmoothing
from medrobust.victim import Victim

Smooth = Literal["input", "perturbation"]
Stabilize = Literal["always", "once_fooled"]
Variant = Literal["paper", "released"]


@dataclass(frozen=True, kw_only=True)
class Stabilized:
    """J(x') = a1 · inner(x') − a2 · D( f(x') ; f(S(x')) ), per sample, around any objective of the outputs.

    Args:
        inner: the deviation term; may be given by position, `Stabilized(CosPGDLoss(), a2=0.5)`.
        a1, a2: weights of deviation and stabilization. With `a2=0` no second branch is computed.
        smoothing: the S, a Gaussian.
        smooth: S acts on the image x' ("input"), or on its change x' − x alone ("perturbation").
        divergence: D is KL( f(S(x')) ‖ f(x') ) ("kl"), the cross-entropy with f(S(x')) as soft label ("ce") or
            with its argmax ("hard"), or the squared difference of probabilities ("mse").
        through_target: whether the gradient flows through f(S(x')) too; both branches then share one batch of 2B.
            If not, the smoothed branch is a constant: one forward more, no backward. "hard" has no gradient there
            either way.
        stabilize: the term for every sample, or only "once_fooled": where the smoothed prediction is already what
            the attack wants.
        variant: "paper", or "released": as the authors' published script computes it. Step 0 ascends the deviation
            alone; from step 1 on the target is the hard label argmax f(x'_{t−1} + S(step_{t−1})): the *previous*
            iterate moved by its *smoothed step*. `smooth`, `divergence` and `through_target` do not apply.

    Raises:
        InputError: an option has no such value, or `inner` is no objective of the outputs alone.

    Warns:
        MedrobustWarning: the target is constant and a2 ≥ a1: while the model is right and sure, the terms cancel.
    """

    inner: OutputObjective = field(default_factory=TaskLoss, kw_only=False)
    a1: float = 1.0
    a2: float = 1.0
    smoothing: GaussianSmoothing = field(default_factory=GaussianSmoothing)
    smooth: Smooth = "input"
    divergence: Divergence = "kl"
    through_target: bool = True
    variant: Variant = "paper"
    stabilize: Stabilize = "always"

    def __post_init__(self) -> None:
        if not isinstance(self.inner, OutputObjective):
            raise InputError(f"inner must be an OutputObjective, got {self.inner!r}")
        not_negative("a1", self.a1)
        not_negative("a2", self.a2)
        one_of("smooth", self.smooth, get_args(Smooth))
        one_of("divergence", self.divergence, get_args(Divergence))
        one_of("variant", self.variant, get_args(Variant))
        one_of("stabilize", self.stabilize, get_args(Stabilize))
        boolean("through_target", self.through_target)
        hard = self.variant == "released" or self.divergence == "hard"
        constant = hard or (not self.through_target and self.divergence != "mse")
        if constant and self.a2 >= self.a1 > 0:
            warnings.warn(
                f"SMIA with a constant target and a2={self.a2:g} ≥ a1={self.a1:g}: while the model is right and "
                "sure the two terms cancel and the attack stands still or moves towards the truth; use a2 < a1",
                MedrobustWarning,
                stacklevel=3,
            )

    def begin(self, victim: Victim, clean: Tensor, truth: Tensor) -> Stabilized:
        """The same around an inner objective that has begun."""
        return self._around(self.inner.begin(victim, clean, truth))

    def rows(self, index: Tensor) -> Stabilized:
        """The same around some rows of the inner objective."""
        inner = self.inner.rows(index)
        return self if inner is self.inner else self._around(inner)

    def __call__(self, victim: Victim, iterate: Iterate) -> Terms:
        """J at an iterate, with the outputs at x' and at the smoothed image."""
        if self.a2 == 0 or (self.variant == "released" and iterate.previous is None):
            alone = self.inner(victim, iterate)
            return replace(alone, total=self.a1 * alone.total)
        outputs, target = self._branches(victim, iterate)
        task = victim.task
        deviation = iterate.sign * self.inner.deviation(task, outputs, iterate)
        divergence = "hard" if self.variant == "released" else self.divergence
        used = task.used_positions(outputs, iterate.truth) if task.can_ignore else None
        distance = task.consistency(outputs, target, divergence, used)
        if self.stabilize == "once_fooled":
            fooled = task.fooled(target, iterate.truth)
            distance = torch.where(fooled if iterate.sign > 0 else ~fooled, distance, 0)
        same = self.variant == "paper" and self.smooth == "input"
        return Terms(
            self.a1 * deviation - self.a2 * distance,
            outputs,
            smoothed=detached(target) if same else None,
            smoothing=self.smoothing if same else None,
            left=self.inner.left(task, outputs, iterate),
        )

    def _around(self, inner: OutputObjective) -> Stabilized:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", MedrobustWarning)  # told when it was configured
            return replace(self, inner=inner)

    def _branches(self, victim: Victim, iterate: Iterate) -> tuple[Any, Any]:
        """f(x') and the prediction it is to agree with."""
        if self.variant == "paper" and self.through_target and self.divergence != "hard":
            return halves(victim.forward(torch.cat([iterate.current, self._smoothed(iterate)])))
        with torch.no_grad():
            moved = self._moved_back(iterate) if self.variant == "released" else self._smoothed(iterate)
            target = victim.forward(moved)
        return victim.forward(iterate.current), target

    def _smoothed(self, iterate: Iterate) -> Tensor:
        if self.smooth == "input":
            return self.smoothing(iterate.current)
        return iterate.clean + self.smoothing(iterate.current - iterate.clean)

    def _moved_back(self, iterate: Iterate) -> Tensor:
        assert iterate.previous is not None
        assert iterate.direction is not None
        length = iterate.step_size
        if isinstance(length, Tensor):
            length = per_image(iterate.of_copies(length), iterate.direction)
        return iterate.previous + self.smoothing(length * iterate.direction)
