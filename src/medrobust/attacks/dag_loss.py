"""DAG's objective: a wrong logit over the true one, at the pixels or objects where the goal is not reached yet.

Xie, Wang, Zhang, Zhou, Xie, Yuille: Adversarial Examples for Semantic Segmentation and Object Detection, ICCV 2017,
arXiv 1703.08603.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from medrobust.attacks.objectives import Iterate, OutputObjective
from medrobust.attacks.per_image import rows_of
from medrobust.attacks.positions import Positions
from medrobust.errors import InputError
from medrobust.tasks import Detection, Task, position_mean
from medrobust.victim import Victim


@dataclass(frozen=True)
class DAGLoss(OutputObjective):
    """How far, at the pixels where the goal is not reached yet, a wrong logit is above the true one.

    Eq. 2 and 3 of the paper: Σ (f_wrong − f_true) over the targets still answered right; here their sum over the number
    of pixels, which moves no step of DAG's. The wrong class is the best of the others at the iterate; the paper draws
    one for every target in advance. Towards a target, it is the classes above it that are left, where it is not
    reached. Of a detector it is `ObjectsLeft`.
    """

    def begin(self, victim: Victim, clean: Tensor, truth: Tensor) -> OutputObjective:
        """Itself for masks; for a detector, what that sees in the clean images."""
        if not isinstance(victim.task, Detection):
            return self
        with torch.no_grad():
            return ObjectsLeft.of(victim.task, victim.forward(clean))

    def deviation(self, task: Task, outputs: Tensor, iterate: Iterate) -> Tensor:
        """The mean difference, `(B,)`."""
        pixels = Positions.dense("DAG", task, outputs, iterate.truth)
        difference = torch.where(pixels.left(iterate.sign), pixels.others - pixels.true, 0)
        return pixels.mean(difference)

    def left(self, task: Task, outputs: Tensor, iterate: Iterate) -> Tensor:
        """Bool `(B,)`: is there such a pixel?"""
        return Positions.dense("DAG", task, outputs, iterate.truth).left(iterate.sign).flatten(1).any(1)


@dataclass(frozen=True)
class ObjectsLeft(OutputObjective):
    """How far, where an object of the clean image is still seen, another answer is above the one given there.

    The targets are the anchors (queries, the clean image's proposals) at which the clean prediction takes an object for
    more likely than none; at each, `label` is the most and `other` the second most likely answer there, which may be
    "no object". The paper takes the true object's class and draws another; here nothing is drawn, and no truth needed.
    Of yes/no scores every class at an anchor is a target of its own. The value is the sum of log p_other − log p_label
    over the targets where `label` is still the most likely, over the number of targets.

    Attributes:
        places: where the clean image's scores are, see `Task.places`.
        label, other: int64 `(B, *positions)`, alternatives of `Task.log_probs`.
        seen: bool `(B, *positions)`, the targets.
    """

    places: object
    label: Tensor
    other: Tensor
    seen: Tensor

    @classmethod
    def of(cls, task: Task, outputs: object) -> ObjectsLeft:
        """The targets, from the outputs for the clean images."""
        places = task.places(outputs)
        label, other = task.log_probs_at(outputs, places).topk(2, 1).indices.unbind(1)
        return cls(places, label, other, label != 0)  # alternative 0 is "no object"

    def rows(self, index: Tensor) -> ObjectsLeft:
        """The targets of some of the images."""
        return rows_of(self, index)

    def deviation(self, task: Task, outputs: object, iterate: Iterate) -> Tensor:
        """The mean difference, `(B,)`.

        Raises:
            InputError: boxes are given as the answer to reach, or the images were moved.
        """
        if iterate.sign < 0:
            raise InputError("against a detector DAG has no target to reach: it needs targeted=False")
        if iterate.placement is not None:
            raise InputError("against a detector DAG's targets are places of the clean image: it may not be moved")
        here = iterate.of_copies(self)
        log_probs = task.log_probs_at(outputs, here.places)
        label, other = (log_probs.gather(1, at.unsqueeze(1)).squeeze(1) for at in (here.label, here.other))
        return position_mean(torch.where(here._still(log_probs), other - label, 0), here.seen)

    @torch.no_grad()
    def left(self, task: Task, outputs: object, iterate: Iterate) -> Tensor:
        """Bool `(B,)`: is an object still seen?"""
        here = iterate.of_copies(self)
        return here._still(task.log_probs_at(outputs, here.places)).flatten(1).any(1)

    def _still(self, log_probs: Tensor) -> Tensor:
        """Bool `(B, *positions)`: the targets at which the answer is what it was."""
        return self.seen & (log_probs.argmax(1) == self.label)
