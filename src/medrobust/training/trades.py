"""Methods that hold the attacked answer against the clean one: TRADES and MART."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from medrobust.attacks import PGD, Attack, OutputObjective
from medrobust.attacks.objectives import Iterate
from medrobust.attacks.per_image import rows_of
from medrobust.attacks.positions import Positions
from medrobust.checks import not_negative
from medrobust.tasks import Task, detached, kl_divergence
from medrobust.training.adversarial import STEPS
from medrobust.training.method import Method, Step
from medrobust.victim import Victim

BOUNDARY = ("classification", "ordinal", "multilabel", "segmentation")


@dataclass(frozen=True)
class Departure(OutputObjective):
    """How far the prediction goes from that on the clean image, KL( f(x) ‖ f(x') ). It knows no truth.

    At x itself its gradient is zero: start at random. Zhang et al., ICML 2019, arXiv 1901.08573, eq. 5.
    """

    looks_back = False
    clean: Any = None

    def begin(self, victim: Victim, clean: Tensor, truth: Tensor) -> Departure:
        """With the answers to the clean images."""
        with torch.no_grad():
            return replace(self, clean=detached(victim.forward(clean)))

    def rows(self, index: Tensor) -> Departure:
        """For some of the images."""
        return replace(self, clean=rows_of(self.clean, index))

    def deviation(self, task: Task, outputs: Any, iterate: Iterate) -> Tensor:
        """The mean over positions."""
        used = task.used_positions(outputs, iterate.truth)
        return task.consistency(outputs, iterate.of_copies(self.clean), "kl", used)


@dataclass(frozen=True, kw_only=True)
class TRADES(Method):
    """E L(f(x), y) + beta · E KL( f(x) ‖ f(x') ), x' as far from the clean answer as can be.

    Zhang et al.: Theoretically Principled Trade-off between Robustness and Accuracy, ICML 2019, arXiv 1901.08573, eq. 5
    (beta is the paper's 1/λ).

    Args:
        beta: the price of holding; 6 in the paper's tables.
        attack: makes x'.
    """

    tasks = BOUNDARY
    beta: float = 6.0
    attack: Attack = field(default_factory=lambda: PGD(steps=STEPS, loss=Departure()))

    def __post_init__(self) -> None:
        not_negative("beta", self.beta)

    def images(self, step: Step) -> Tensor:
        """X'."""
        return step.attacked(self.attack)

    def loss(self, step: Step, attacked: Tensor) -> Tensor:
        """Both terms; the gradient flows through both answers."""
        task = step.task
        clean, outputs = step.clean(), step.outputs(attacked)
        used = task.used_positions(clean, step.truth)
        return step.loss(clean) + self.beta * task.consistency(outputs, clean, "kl", used).mean()


@dataclass(frozen=True, kw_only=True)
class MART(Method):
    """E [ BCE(f(x'), y) + beta · KL( f(x) ‖ f(x') ) · (1 − f_y(x)) ]: more weight for what is not sure when clean.

    BCE is −log f_y(x') − log(1 − max_{k≠y} f_k(x')). Wang et al.: Improving Adversarial Robustness Requires Revisiting
    Misclassified Examples, ICLR 2020, eq. 9 to 11. Of masks it is the mean over the pixels.

    Args:
        beta: weight of the second term; 5 in the paper.
        attack: makes x'.
    """

    tasks = BOUNDARY
    beta: float = 5.0
    attack: Attack = field(default_factory=lambda: PGD(steps=STEPS))

    def __post_init__(self) -> None:
        not_negative("beta", self.beta)

    def images(self, step: Step) -> Tensor:
        """X'."""
        return step.attacked(self.attack)

    def loss(self, step: Step, attacked: Tensor) -> Tensor:
        """The mean over images of the mean over positions."""
        before = Positions.of("MART", step.task, step.clean(), step.truth)
        after = Positions.of("MART", step.task, step.outputs(attacked), step.truth)
        boosted = -after.true - torch.log(1 + _LEAST - after.others.exp())
        unsure = 1 - before.true.exp()
        departure = kl_divergence(before.log_probs, after.log_probs)
        return after.mean(step.weighted(boosted + self.beta * departure * unsure)).mean()


_LEAST = 1e-4  # what the authors add to the wrong class's 1 − p
