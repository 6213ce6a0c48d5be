"""Attacks on an answer at every pixel, made of the objectives in `dense_losses`; they take SMIA's term by `a2`."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from medrobust.attacks.dense_losses import ASMALoss, CosPGDLoss, SegPGDLoss
from medrobust.attacks.iterative import Keep
from medrobust.attacks.objectives import OutputObjective
from medrobust.attacks.smia import StabilizedAttack
from medrobust.attacks.steps import Situation, Walk, largest_to_one
from medrobust.checks import not_negative, positive
from medrobust.errors import InputError
from medrobust.threat import per_image


@dataclass(frozen=True, kw_only=True)
class SegPGD(StabilizedAttack):
    """PGD on `SegPGDLoss`: the right pixels first, the wrong ones more and more. arXiv 2207.12391, algorithm 1."""

    random_start: bool = True

    def inner(self) -> OutputObjective:
        """SegPGD's loss."""
        return SegPGDLoss()


@dataclass(frozen=True, kw_only=True)
class CosPGD(StabilizedAttack):
    """PGD on `CosPGDLoss`, from a random start. arXiv 2302.02213, algorithm 1."""

    random_start: bool = True

    def inner(self) -> OutputObjective:
        """CosPGD's loss."""
        return CosPGDLoss()


@dataclass(frozen=True)
class AdaptiveStep:
    """ASMA's step: the gradient, longer the more of the target is reached.

    The paper's length is (β · IoU + τ)·∇ with the gradient as it is, whose size depends on the number of pixels, the
    unit and the model. Here the gradient is brought to a largest change of 1 (unit length in L2) first, so that β and
    τ are shares of `step_size`; the ratio of 10 to 1 is the paper's.
    """

    beta: float
    tau: float

    def __call__(self, gradient: Tensor, at: Situation) -> Tensor:
        """β · IoU + τ along the gradient."""
        overlap = at.case.victim.task.image_metrics(at.terms.outputs, at.iterate.truth)["iou"]
        overlap = overlap[: len(gradient)].to(gradient)  # of the first copy, where there are several
        return largest_to_one(gradient, at) * per_image(self.beta * overlap + self.tau, gradient)


@dataclass(frozen=True, kw_only=True)
class ASMA(StabilizedAttack):
    """x ← Π(x + α · (β · IoU + τ) · ∇/‖∇‖∞) on `ASMALoss`, towards a chosen mask. arXiv 1907.13124, eq. 2 to 4.

    α is eps/4 unless given: at an IoU of 0 the first steps are τ of that, so that it takes many (the paper's are far
    smaller, and thousands). The better the mask is reached the longer are the steps, which then go past it: the best
    iterate is handed in. The authors' code saves every twentieth, for a person to choose from.

    Args:
        targeted: always: `truth` is the mask to reach. `Towards` makes one of the truth.
        beta, tau: see `AdaptiveStep`.
        distance: see `ASMALoss`.
    """

    steps: int = 100
    targeted: bool = True
    keep: Keep = "best"
    beta: float = 1.0
    tau: float = 0.1
    distance: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        not_negative("beta", self.beta)
        positive("tau", self.tau)
        not_negative("distance", self.distance)
        if not self.targeted:
            raise InputError("ASMA moves towards a chosen mask: it needs targeted=True")

    def default_step_size(self, eps: float) -> float:
        """A quarter of the budget."""
        return eps / 4

    def inner(self) -> OutputObjective:
        """ASMA's logits and distance."""
        return ASMALoss(self.distance)

    def default_step(self) -> Walk:
        """The adaptive step."""
        return Walk(AdaptiveStep(self.beta, self.tau))
