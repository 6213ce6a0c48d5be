"""Training on attacked images: PGD-AT, SMIA-AT, on images made on other models; and the controls without attacks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from medrobust.attacks import PGD, SMIA, Attack
from medrobust.checks import not_negative, positive
from medrobust.errors import InputError
from medrobust.models import weights_fingerprint
from medrobust.tasks import halves
from medrobust.threat import sample_generators
from medrobust.threat.drawing import drawn
from medrobust.training.method import Method, Step
from medrobust.transforms import GaussianSmoothing
from medrobust.victim import Victim

STEPS = 5  # of the attacks inside


@dataclass(frozen=True, kw_only=True)
class Control(Method):
    """Plain fine-tuning: the task's loss on clean images. What hardening is to be compared with."""

    attacked = False

    def loss(self, step: Step, attacked: Tensor) -> Tensor:
        """E L(f(x), y)."""
        return step.loss(step.outputs(step.images))


@dataclass(frozen=True, kw_only=True)
class Smoothing(Method):
    """Consistency alone: E L(f(x), y) + beta · E D(f(x) ; f(S(x))), no attack. What SMIA's second term does by itself.

    Args:
        beta: weight of the consistency.
        smoothing: the S, a Gaussian.
    """

    attacked = False
    beta: float = 1.0
    smoothing: GaussianSmoothing = field(default_factory=GaussianSmoothing)

    def __post_init__(self) -> None:
        not_negative("beta", self.beta)

    def loss(self, step: Step, attacked: Tensor) -> Tensor:
        """Both terms, from one batch of 2B."""
        return _held(step, step.images, self.beta, self.smoothing)


@dataclass(frozen=True, kw_only=True)
class GaussianTraining(Method):
    """The loss on images under Gaussian noise, E L(f(x + N(0, σ²I)), y): a model that is to be smoothed and certified.

    Lécuyer et al., S&P 2019, arXiv 1802.03471, section III-B; Cohen, Rosenfeld, Kolter, ICML 2019, arXiv 1902.02918,
    section 3.3. The noise is not cut to the bounds, as `certify` does not cut it.

    Args:
        sigma: standard deviation in data units; that of the certificate.
    """

    attacked = False
    sigma: float

    def __post_init__(self) -> None:
        positive("sigma", self.sigma)

    def images(self, step: Step) -> Tensor:
        """The images under noise, each image's from the step's seed and its id."""
        generators = sample_generators(step.seed, step.ids, "noise")
        return step.images + self.sigma * drawn(torch.randn, step.images, generators)

    def loss(self, step: Step, attacked: Tensor) -> Tensor:
        """That of plain training, on the noisy images."""
        return step.loss(step.outputs(attacked))


@dataclass(frozen=True, kw_only=True)
class AdversarialTraining(Method):
    """The loss on attacked images, E L(f(x'), y). Madry et al., ICLR 2018, arXiv 1706.06083, eq. 2.1.

    Args:
        attack: makes x'.
        clean: weight of the loss on clean images beside it, in [0, 1): (1 − clean) · L(x') + clean · L(x)
            (Kurakin et al., arXiv 1611.01236, eq. 5).
    """

    attack: Attack = field(default_factory=lambda: PGD(steps=STEPS))
    clean: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.clean < 1:
            raise InputError(f"clean must be in [0, 1), got {self.clean:g}")

    def images(self, step: Step) -> Tensor:
        """X'."""
        return step.attacked(self.attack)

    def loss(self, step: Step, attacked: Tensor) -> Tensor:
        """The weighted mean."""
        loss = step.loss(step.outputs(attacked))
        if not self.clean:
            return loss
        return (1 - self.clean) * loss + self.clean * step.loss(step.clean())


@dataclass(frozen=True, kw_only=True)
class SMIATraining(Method):
    """SMIA inside, and its stabilization term trained in: E L(f(x'), y) + beta · E D(f(x') ; f(S(x'))).

    The attack keeps the prediction at x' equal to that at the smoothed x', on the way to the wrong answer (Qi et al.,
    ICLR 2021, arXiv 2103.05232); the weights keep them equal at the right one.

    Args:
        attack: makes x'.
        beta: weight of the stabilization; 0 is adversarial training with SMIA.
        smoothing: the S, a Gaussian.
    """

    attack: Attack = field(default_factory=lambda: SMIA(steps=STEPS, random_start=True))
    beta: float = 1.0
    smoothing: GaussianSmoothing = field(default_factory=GaussianSmoothing)

    def __post_init__(self) -> None:
        not_negative("beta", self.beta)

    def images(self, step: Step) -> Tensor:
        """X'."""
        return step.attacked(self.attack)

    def loss(self, step: Step, attacked: Tensor) -> Tensor:
        """Both terms, from one batch of 2B."""
        return _held(step, attacked, self.beta, self.smoothing)


@dataclass(frozen=True, kw_only=True)
class EnsembleTraining(Method):
    """Images attacked on fixed other models, or on the model itself, in turn. Tramèr et al., arXiv 1705.07204.

    Args:
        others: the other models.
        attack: makes x', on one of them.
    """

    others: Sequence[Victim]
    attack: Attack = field(default_factory=lambda: PGD(steps=STEPS))

    def __post_init__(self) -> None:
        if not self.others:
            raise InputError("ensemble training needs other models to attack: give surrogates")

    def describe(self) -> dict[str, object]:
        """Name and options, with the fingerprints of the other models' weights."""
        return {**super().describe(), "others": [weights_fingerprint(one.model)[:16] for one in self.others]}

    def images(self, step: Step) -> Tensor:
        """x', made on the model that the seed of the step picks, each of them as likely."""
        pick = int(torch.randint(len(self.others) + 1, (), generator=torch.Generator().manual_seed(step.seed)))
        return step.attacked(self.attack, None if pick == len(self.others) else self.others[pick])

    def loss(self, step: Step, attacked: Tensor) -> Tensor:
        """The mean of both losses, as the paper has it: on x' and on x."""
        return (step.loss(step.outputs(attacked)) + step.loss(step.clean())) / 2


def _held(step: Step, images: Tensor, beta: float, smoothing: GaussianSmoothing) -> Tensor:
    """The loss, and the distance of the prediction from that on the smoothed image."""
    task = step.task
    if not beta:
        return step.loss(step.outputs(images))
    outputs, smoothed = halves(step.outputs(torch.cat([images, smoothing(images)])))
    distance = task.consistency(outputs, smoothed, "kl", task.used_positions(outputs, step.truth))
    return step.loss(outputs) + beta * distance.mean()
