"""Cheap adversarial training: a single step from a random start, and free replays."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from medrobust.attacks import Attack
from medrobust.attacks.iterative import IterativeAttack
from medrobust.checks import at_least
from medrobust.threat import sample_generators
from medrobust.training.adversarial import AdversarialTraining
from medrobust.training.method import Method, Step


@dataclass(frozen=True, kw_only=True)
class RandomStep(IterativeAttack):
    """FGSM from a uniform draw in the ball, by 1.25 eps. Wong, Rice, Kolter, arXiv 2001.03994, algorithm 3."""

    steps: int = field(default=1, init=False)
    random_start: bool = True

    def default_step_size(self, eps: float) -> float:
        """A quarter more than the budget."""
        return 1.25 * eps


@dataclass(frozen=True, kw_only=True)
class FastTraining(AdversarialTraining):
    """FGSM-RS: adversarial training for the price of two plain ones. Wong, Rice, Kolter, ICLR 2020, arXiv 2001.03994.

    It can fail at once (catastrophic overfitting): the model learns to break this one step, and multi-step attacks go
    through as before. Training watches for it, stops, and hands in the weights from before.
    """

    single_step = True
    attack: Attack = field(default_factory=RandomStep)


@dataclass(frozen=True, kw_only=True)
class FreeTraining(Method):
    """One backward pass moves weights and images alike, `replays` times a batch. Shafahi et al., arXiv 1904.12843.

    The change of an image begins at random in each epoch, or with `warm_start` where that of the epoch before ended;
    the paper's goes on from the batch before, of other images.

    Args:
        replays: m; give as many epochs fewer.
    """

    single_step = True
    replays: int = 4

    def __post_init__(self) -> None:
        at_least("replays", self.replays, 2)

    @property
    def startable(self) -> bool:
        """As it needs no attack, yes."""
        return True

    def images(self, step: Step) -> Tensor:
        """From a random start, or where the step says."""
        space = step.threat.space(step.images, step.victim.bounds)
        if step.start is None:
            return space.random_start(sample_generators(step.seed, step.ids, "free")).clone().requires_grad_()
        start = step.start.clone()
        space.project_(start)
        return start.requires_grad_()

    def loss(self, step: Step, attacked: Tensor) -> Tensor:
        """E L(f(x'), y), also as a function of x'."""
        return step.loss(step.outputs(attacked))

    @torch.no_grad()
    def again(self, step: Step, attacked: Tensor) -> Tensor:
        """X' moved by eps along its gradient, and put back into the ball."""
        assert attacked.grad is not None
        space = step.threat.space(step.images, step.victim.bounds)
        moved = attacked + step.threat.eps * space.steepest(space.allowed(attacked.grad))
        space.project_(moved)
        return moved.requires_grad_()
