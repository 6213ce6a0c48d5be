"""Attacks on an answer at every pixel: objectives that weigh the pixels, and the attacks made of them.

Every objective is per position of `Task.log_probs`, so that it serves several classes, one logit and several labels,
in two or three dimensions, and leaves ignored positions out. The difference of two log-probabilities is that of their
logits. `Stabilized` wraps each of them; the attacks take SMIA's term by `a2`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from medrobust.attacks.objectives import Iterate, OutputObjective
from medrobust.attacks.smia import StabilizedAttack
from medrobust.attacks.steps import Situation, Walk, largest_to_one
from medrobust.checks import not_negative, positive
from medrobust.errors import InputError
from medrobust.tasks import Task, position_mean
from medrobust.tasks.task import IGNORED
from medrobust.threat import per_image


@dataclass(frozen=True)
class Pixels:
    """The answer at every position against the truth (the target), all `(B, *positions)`.

    Attributes:
        true: log-probability of the true alternative; differentiable.
        others: the highest log-probability of another one; differentiable.
        used: bool, where the truth is known.
    """

    true: Tensor
    others: Tensor
    used: Tensor

    @classmethod
    def of(cls, name: str, task: Task, outputs: Tensor, truth: Tensor) -> Pixels:
        """Read the outputs.

        Raises:
            InputError: the task has no answer at every pixel.
        """
        if not task.dense:
            raise InputError(f"{name} needs an answer at every pixel (a segmentation task), got {task.name}")
        task.check_outputs(outputs, truth)
        targets = task.targets(outputs, truth)
        used = targets != IGNORED
        at = targets.clamp_min(0).unsqueeze(1)
        log_probs = task.log_probs(outputs)
        others = log_probs.scatter(1, at, -torch.inf).amax(1)
        return cls(log_probs.gather(1, at).squeeze(1), others, used)

    @property
    def right(self) -> Tensor:
        """Bool: is the true alternative (the target) the one that is answered?"""
        return self.true.detach() > self.others.detach()

    def left(self, sign: int) -> Tensor:
        """Bool: where the goal is not reached yet: still right, or (targeted) not yet at the target."""
        return (self.right if sign > 0 else ~self.right) & self.used


class SegPGDLoss(OutputObjective):
    """Cross-entropy that turns from the right pixels to the wrong ones as the attack goes on.

    Gu, Zhao, Tresp, Torr: SegPGD, ECCV 2022, arXiv 2207.12391, eq. 4 and 5: the pixel mean of (1 − λ)·CE over the
    pixels answered right and λ·CE over those answered wrong, λ_t = (t − 1)/2T, by the current prediction. Towards a
    target the two change places: (1 − λ) is for the pixels that have not reached it.
    """

    def deviation(self, task: Task, outputs: Tensor, iterate: Iterate) -> Tensor:
        """The weighted cross-entropy, `(B,)`."""
        pixels = Pixels.of("SegPGD", task, outputs, iterate.truth)
        share = iterate.index / (2 * iterate.steps)
        weight = torch.where(pixels.left(iterate.sign), 1 - share, share)
        return position_mean(-weight * pixels.true, pixels.used)


class CosPGDLoss(OutputObjective):
    """Cross-entropy weighed, pixel by pixel, with how well the prediction agrees with the truth.

    Agnihotri, Jung, Keuper: CosPGD, ICML 2024, arXiv 2302.02213, eq. 6 and 7: the pixel mean of c·CE with
    c = cos(softmax f, one-hot y) = p_y/‖p‖, a constant in the gradient. Towards a target the weight is 1 − c.
    """

    def deviation(self, task: Task, outputs: Tensor, iterate: Iterate) -> Tensor:
        """The weighted cross-entropy, `(B,)`."""
        pixels = Pixels.of("CosPGD", task, outputs, iterate.truth)
        cosine = (pixels.true.exp() / task.probs(outputs).norm(dim=1)).detach()
        weight = cosine if iterate.sign > 0 else 1 - cosine
        return position_mean(-weight * pixels.true, pixels.used)


@dataclass(frozen=True)
class ASMALoss(OutputObjective):
    """Raise the wanted class where it is not answered yet, and stay near the image.

    Ozbulak, Van Messem, De Neve: Adaptive Segmentation Mask Attack, MICCAI 2019, arXiv 1907.13124, eq. 2 and 3:
    Σ_c Σ_pixels [Y = c]·[argmax ≠ c]·f_c − ‖x' − x‖², with f the logits; here over the number of pixels. Of a yes/no
    answer of logit z, f is z and −z.

    Args:
        distance: weight of the squared distance, in 1/(data units)²; 1 is the paper's, for images in [0, 1].
    """

    distance: float = 1.0

    def deviation(self, task: Task, outputs: Tensor, iterate: Iterate) -> Tensor:
        """What is to fall, `(B,)`: its negative."""
        pixels = Pixels.of("ASMA", task, outputs, iterate.truth)
        if iterate.sign > 0:
            raise InputError("ASMA moves towards a chosen mask: it needs targeted=True")
        wanted = _logits_of(task, outputs, iterate.truth)
        raised = position_mean(torch.where(pixels.left(iterate.sign), wanted, 0), pixels.used)
        squares = (iterate.current - iterate.clean).square().flatten(1).sum(1)
        return self.distance * squares / pixels.used.flatten(1).sum(1).clamp_min(1) - raised


def _logits_of(task: Task, outputs: Tensor, truth: Tensor) -> Tensor:
    """The logit of the wanted alternative, `(B, *positions)`."""
    targets = task.targets(outputs, truth).clamp_min(0)
    if outputs.shape == targets.shape:  # several labels
        return torch.where(targets == 1, outputs, -outputs)
    if outputs.shape[1] == 1:
        return torch.where(targets == 1, outputs.squeeze(1), -outputs.squeeze(1))
    return outputs.gather(1, targets.unsqueeze(1)).squeeze(1)


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
        seen = at.case.victim.task.image_metrics(at.terms.outputs, at.iterate.truth)["iou"]
        overlap = seen[: len(gradient)].to(gradient)
        return largest_to_one(gradient, at) * per_image(self.beta * overlap + self.tau, gradient)


@dataclass(frozen=True, kw_only=True)
class ASMA(StabilizedAttack):
    """x ← Π(x + α · (β · IoU + τ) · ∇/‖∇‖∞) on `ASMALoss`, towards a chosen mask. arXiv 1907.13124, eq. 2 to 4.

    α is eps/4 unless given: at an IoU of 0 the first steps are τ of that, so that it takes many (the paper's are far
    smaller, and thousands).

    Args:
        targeted: always: `truth` is the mask to reach. `Towards` makes one of the truth.
        beta, tau: see `AdaptiveStep`.
        distance: see `ASMALoss`.
    """

    steps: int = 100
    targeted: bool = True
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
