"""Objectives for every task but detection: margins, logits, and distances of probabilities.

Each is the mean over the positions whose truth is known. Targeted, they fall instead of rising, see `OutputObjective`.
`Stabilized` wraps each of them; `losses_catalogue` names them. Those for masks alone are in `dense_losses`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from medrobust.attacks.objectives import Iterate, OutputObjective
from medrobust.attacks.positions import LEAST, Positions, true_logits
from medrobust.checks import not_negative
from medrobust.errors import InputError
from medrobust.tasks import Task

GUARD = 1e-12  # what the authors of DLR add to its denominator


@dataclass(frozen=True, kw_only=True)
class Margin(OutputObjective):
    """How far the best wrong logit is above the true one, max_{i≠y} z_i − z_y.

    Carlini, Wagner: Towards Evaluating the Robustness of Neural Networks, S&P 2017, arXiv 1608.04644, section V, f6.
    Its gradient does not fade where the model is sure, as that of the cross-entropy does.

    Args:
        confidence: κ ≥ 0: a position whose goal is reached by this margin counts as κ and pulls no more, and an image
            all whose positions are stays where it is. None: no limit.

    Raises:
        InputError: κ is negative or not finite.
    """

    looks_back = False
    confidence: float | None = None

    def __post_init__(self) -> None:
        if self.confidence is not None:
            not_negative("confidence", self.confidence)

    def deviation(self, task: Task, outputs: Tensor, iterate: Iterate) -> Tensor:
        """The mean margin, `(B,)`."""
        positions = Positions.of("the margin", task, outputs, iterate.truth)
        gained = iterate.sign * (positions.others - positions.true)
        if self.confidence is not None:
            gained = gained.clamp_max(self.confidence)
        return iterate.sign * positions.mean(gained)

    def left(self, task: Task, outputs: Tensor, iterate: Iterate) -> Tensor | None:
        """Bool `(B,)`: is a position still below κ?"""
        if self.confidence is None:
            return None
        positions = Positions.of("the margin", task, outputs, iterate.truth)
        gained = iterate.sign * (positions.others - positions.true).detach()
        return ((gained < self.confidence) & positions.used).flatten(1).any(1)


@dataclass(frozen=True)
class DLR(OutputObjective):
    """The margin over the spread of the logits: it ignores their scale, by which a model can hide its gradients.

    Croce, Hein: Reliable Evaluation of Adversarial Robustness, ICML 2020, arXiv 2003.01690. Away from y, eq. 6, with
    z_(1) ≥ z_(2) ≥ … the logits in order: −(z_y − max_{i≠y} z_i)/(z_(1) − z_(3)). Towards a target t, eq. 7:
    −(z_y − z_t)/(z_(1) − (z_(3) + z_(4))/2). There the paper knows the truth y besides the target, and so does
    `TargetedDLR`; here y is the most likely class but t.

    It needs 3 classes, targeted 4. With fewer, and so with one logit, several labels or cumulative grades, it is the
    plain `Margin`: the spread would be the margin itself.
    """

    looks_back = False

    def deviation(self, task: Task, outputs: Tensor, iterate: Iterate) -> Tensor:
        """The mean ratio, `(B,)`."""
        positions = Positions.of("DLR", task, outputs, iterate.truth)
        margin = positions.others - positions.true
        spread = _spread_to_third if iterate.sign > 0 else _spread_to_third_and_fourth
        return positions.mean(margin / spread(positions.log_probs))


@dataclass(frozen=True)
class TargetedDLR(OutputObjective):
    """From the truth y to a chosen other class t of each image, −(z_y − z_t)/(z_(1) − (z_(3) + z_(4))/2).

    arXiv 2003.01690, eq. 7, as APGD-T climbs it: untargeted, the truth of the iterate is y. With fewer than 4 classes
    it is z_t − z_y.

    Args:
        targets: int64, classes in the form of the truth: `(B,)` for a classifier. A position at which target and truth
            agree adds nothing.
    """

    looks_back = False
    targets: Tensor

    def rows(self, index: Tensor) -> TargetedDLR:
        """For some of the images."""
        return TargetedDLR(self.targets[index.to(self.targets.device)])

    def deviation(self, task: Task, outputs: Tensor, iterate: Iterate) -> Tensor:
        """The mean ratio, `(B,)`.

        Raises:
            InputError: the attack is targeted, so that there is no truth to leave.
        """
        if iterate.sign < 0:
            raise InputError("TargetedDLR takes the truth, and its targets besides: it needs targeted=False")
        targets = iterate.of_copies(self.targets).to(iterate.truth.device)
        if iterate.placement is not None:
            targets = task.placed(targets, iterate.placement, iterate.clean.shape[2:])
        true = Positions.of("DLR", task, outputs, iterate.truth)
        wanted = Positions.of("DLR", task, outputs, targets)
        return true.mean((wanted.true - true.true) / _spread_to_third_and_fourth(true.log_probs))


def _spread_to_third(log_probs: Tensor) -> Tensor | float:
    """z_(1) − z_(3) at every position `(B, *positions)`; 1 where there is no third class."""
    if log_probs.shape[1] < 3:
        return 1.0
    first, _, third = log_probs.topk(3, 1).values.unbind(1)
    return first - third + GUARD


def _spread_to_third_and_fourth(log_probs: Tensor) -> Tensor | float:
    """z_(1) − (z_(3) + z_(4))/2 at every position `(B, *positions)`; 1 where there is no fourth class."""
    if log_probs.shape[1] < 4:
        return 1.0
    first, _, third, fourth = log_probs.topk(4, 1).values.unbind(1)
    return first - (third + fourth) / 2 + GUARD


@dataclass(frozen=True)
class Logit(OutputObjective):
    """The logit of the true class is to fall; targeted, that of the target to rise, whatever the others do.

    Zhao, Liu, Larson: On Success and Simplicity, NeurIPS 2021, arXiv 2012.11207, for targets: its gradient does
    not shrink as the target is reached, which many steps towards a transferable image need. Of a yes/no answer of
    logit z, it is z for yes and −z for no.
    """

    looks_back = False

    def deviation(self, task: Task, outputs: Tensor, iterate: Iterate) -> Tensor:
        """Minus the mean logit, `(B,)`."""
        positions = Positions.of("the logit loss", task, outputs, iterate.truth)
        logits = true_logits(task, outputs, iterate.truth).clamp(LEAST, -LEAST)
        return positions.mean(-logits.reshape(positions.at.shape))


@dataclass(frozen=True)
class SquaredScore(OutputObjective):
    """Σ_k (p_k − [k = y])² over the alternatives: the Brier score (Monthly Weather Review 78, 1950), in [0, 2].

    A yes/no answer has two alternatives: 2·(1 − p_y)².
    """

    looks_back = False

    def deviation(self, task: Task, outputs: Tensor, iterate: Iterate) -> Tensor:
        """The mean squared distance, `(B,)`."""
        positions = Positions.of("the squared score", task, outputs, iterate.truth)
        return positions.mean((positions.log_probs.exp() - positions.one_hot).square().sum(1))


@dataclass(frozen=True)
class JensenShannon(OutputObjective):
    """Jensen-Shannon divergence of the prediction p from the one-hot truth e, in [0, ln 2].

    Croce, Singh, Hein: Towards Reliable Evaluation and Fast Training of Robust Semantic Segmentation Models, ECCV 2024,
    arXiv 2306.12941, L_JS of their SEA: (KL(p ‖ m) + KL(e ‖ m))/2 with m = (p + e)/2. As e is one-hot, it is
    ln 2 + (p_y ln p_y − (1 + p_y) ln(1 + p_y))/2. Unlike the cross-entropy it has a bound, and its gradient fades at
    the pixels that are wrong already.
    """

    looks_back = False

    def deviation(self, task: Task, outputs: Tensor, iterate: Iterate) -> Tensor:
        """The mean divergence, `(B,)`."""
        positions = Positions.of("the Jensen-Shannon divergence", task, outputs, iterate.truth)
        log_true = positions.true
        true = log_true.exp()
        return positions.mean(math.log(2) + (true * log_true - (1 + true) * true.log1p()) / 2)
