"""Objectives for masks: cross-entropies that weigh the pixels, and the soft Dice.

All but the Dice are means over the pixels whose truth is known, see `Positions`. The masked cross-entropies serve every
task but detection. `Stabilized` wraps each of them; `losses_catalogue` names them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from medrobust.attacks.objectives import Iterate, OutputObjective
from medrobust.attacks.positions import Positions, several_labels, true_logits
from medrobust.checks import not_negative
from medrobust.errors import InputError
from medrobust.tasks import Task


@dataclass(frozen=True)
class SegPGDLoss(OutputObjective):
    """Cross-entropy that turns from the right pixels to the wrong ones as the attack goes on.

    Gu, Zhao, Tresp, Torr: SegPGD, ECCV 2022, arXiv 2207.12391, eq. 4 and 5: the pixel mean of (1 − λ)·CE over the
    pixels answered right and λ·CE over those answered wrong, λ_t = (t − 1)/2T, by the current prediction. Towards a
    target the two change places: (1 − λ) is for the pixels that have not reached it.
    """

    def deviation(self, task: Task, outputs: Tensor, iterate: Iterate) -> Tensor:
        """The weighted cross-entropy, `(B,)`."""
        pixels = Positions.dense("SegPGD", task, outputs, iterate.truth)
        share = iterate.index / (2 * iterate.steps)
        weight = torch.where(pixels.left(iterate.sign), 1 - share, share)
        return pixels.mean(-weight * pixels.true)


@dataclass(frozen=True)
class CosPGDLoss(OutputObjective):
    """Cross-entropy weighed, pixel by pixel, with how well the prediction agrees with the truth.

    Agnihotri, Jung, Keuper: CosPGD, ICML 2024, arXiv 2302.02213, eq. 6 and 7: the pixel mean of c·CE with
    c = cos(softmax f, one-hot y) = p_y/‖p‖, a constant in the gradient. Towards a target the weight is 1 − c.
    """

    def deviation(self, task: Task, outputs: Tensor, iterate: Iterate) -> Tensor:
        """The weighted cross-entropy, `(B,)`."""
        pixels = Positions.dense("CosPGD", task, outputs, iterate.truth)
        cosine = (pixels.true.exp() / pixels.log_probs.exp().norm(dim=1)).detach()
        weight = cosine if iterate.sign > 0 else 1 - cosine
        return pixels.mean(-weight * pixels.true)


@dataclass(frozen=True)
class ASMALoss(OutputObjective):
    """Raise the wanted class where it is not answered yet, and stay near the image.

    Ozbulak, Van Messem, De Neve: Adaptive Segmentation Mask Attack, MICCAI 2019, arXiv 1907.13124, eq. 2 and 3:
    Σ_c Σ_pixels [Y = c]·[argmax ≠ c]·f_c − ‖x' − x‖², with f the logits; here over the number of pixels. Of a yes/no
    answer of logit z, f is z and −z.

    Args:
        distance: weight of the squared distance, in 1/(data units)²; 1 is the paper's, for images in [0, 1].

    Raises:
        InputError: the distance is negative or not finite.
    """

    distance: float = 1.0

    def __post_init__(self) -> None:
        not_negative("distance", self.distance)

    def deviation(self, task: Task, outputs: Tensor, iterate: Iterate) -> Tensor:
        """What is to fall, `(B,)`: its negative.

        Raises:
            InputError: the attack is not targeted.
        """
        pixels = Positions.dense("ASMA", task, outputs, iterate.truth)
        if iterate.sign > 0:
            raise InputError("ASMA moves towards a chosen mask: it needs targeted=True")
        wanted = true_logits(task, outputs, iterate.truth)
        raised = pixels.mean(torch.where(pixels.left(iterate.sign), wanted, 0))
        squares = (iterate.current - iterate.clean).square().flatten(1).sum(1)
        return self.distance * squares / pixels.used.flatten(1).sum(1).clamp_min(1) - raised


class _AtWhatIsLeft(OutputObjective):
    """Base of what looks only at the positions that are still right; an image with none left stays where it is."""

    def left(self, task: Task, outputs: Tensor, iterate: Iterate) -> Tensor:
        """Bool `(B,)`: is there such a position?"""
        positions = Positions.of("the masked cross-entropy", task, outputs, iterate.truth)
        return positions.left(iterate.sign).flatten(1).any(1)


@dataclass(frozen=True)
class MaskedCrossEntropy(_AtWhatIsLeft):
    """Cross-entropy at the pixels that are still right: those already wrong have nothing to gain.

    Croce, Singh, Hein, ECCV 2024, arXiv 2306.12941, L_MCE of their SEA: the mean over all pixels of
    [argmax f = y]·CE. Towards a target, at the pixels that have not reached it.
    """

    def deviation(self, task: Task, outputs: Tensor, iterate: Iterate) -> Tensor:
        """The masked cross-entropy, `(B,)`."""
        positions = Positions.of("the masked cross-entropy", task, outputs, iterate.truth)
        return positions.mean(torch.where(positions.left(iterate.sign), -positions.true, 0))


@dataclass(frozen=True)
class BalancedMaskedCrossEntropy(_AtWhatIsLeft):
    """`MaskedCrossEntropy` with an equal share for every class of the truth, so that small ones count too.

    arXiv 2306.12941, L_MCE-Bal of SEA, against mean IoU: a pixel's weight is one over the number of pixels of its true
    class. In the paper that number is of the whole data set; here of the image, whose attack must not depend on others.
    The value is the mean, over the classes in the image's truth, of the mean over the class's pixels. Several labels
    have two classes, yes and no.
    """

    def deviation(self, task: Task, outputs: Tensor, iterate: Iterate) -> Tensor:
        """The masked and balanced cross-entropy, `(B,)`."""
        positions = Positions.of("the balanced masked cross-entropy", task, outputs, iterate.truth)
        of_class = positions.one_hot.flatten(2)  # (B, K, pixels)
        counts = of_class.sum(2)
        masked = torch.where(positions.left(iterate.sign), -positions.true, 0).flatten(1).unsqueeze(1)
        by_class = (of_class * masked).sum(2) / counts.clamp_min(1)
        return by_class.sum(1) / (counts > 0).sum(1).clamp_min(1)


@dataclass(frozen=True)
class DiceLoss(OutputObjective):
    """1 − the mean over classes of the soft Dice, 2·Σ p·y/(Σ p + Σ y). Milletari et al., V-Net, arXiv 1606.04797.

    The classes are those of the foreground (the labels) that the image's truth has; ignored pixels are left out. The
    plain sum in the denominator, not the paper's sum of squares. An image whose truth has no foreground has a Dice of 0
    for whatever is answered: there the value is the mean probability of the foreground classes instead, 0 when
    nothing is found.
    """

    def deviation(self, task: Task, outputs: Tensor, iterate: Iterate) -> Tensor:
        """The loss, `(B,)`, in [0, 1]."""
        pixels = Positions.dense("the Dice loss", task, outputs, iterate.truth)
        probs, masks, used = pixels.log_probs.exp(), pixels.one_hot, pixels.used.unsqueeze(1)
        if several_labels(task, outputs, iterate.truth):
            probs, masks, used = probs[:, 1], masks[:, 1], pixels.used  # (B, labels, *spatial)
        else:
            probs, masks = probs[:, 1:], masks[:, 1:]
        probs = torch.where(used, probs, 0)
        common, found, true = (values.flatten(2).sum(2) for values in (probs * masks, probs, masks))
        present = (true > 0).to(probs)
        dice = 2 * common / torch.where(true > 0, found + true, 1)
        false = found / used.expand_as(probs).flatten(2).sum(2).clamp_min(1)
        mean_dice = (dice * present).sum(1) / present.sum(1).clamp_min(1)
        return torch.where(present.sum(1) > 0, 1 - mean_dice, false.mean(1))
