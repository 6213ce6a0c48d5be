"""TOG: objectness gradients against detectors, with four goals. Chow et al., arXiv 2004.04320."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from medrobust.attacks.objectives import Iterate, OutputObjective
from medrobust.attacks.per_image import rows_of
from medrobust.attacks.smia import StabilizedAttack
from medrobust.checks import one_of
from medrobust.data.dataset import NO_BOX
from medrobust.errors import InputError
from medrobust.tasks import Detection, Task
from medrobust.victim import Victim

Goal = Literal["untargeted", "vanishing", "fabrication", "mislabelling"]
Reference = Literal["detections", "truth"]
Wrong = Literal["most_likely", "least_likely"]


@dataclass(frozen=True, kw_only=True)
class DetectionGoal(OutputObjective):
    """The detector's loss L against a made-up truth, to be climbed or descended (section III of the paper).

    "untargeted" climbs L(x', O), away from the objects O; "vanishing" descends L(x', ∅), towards an empty image;
    "fabrication" climbs L(x', ∅), away from one; "mislabelling" descends L(x', O*), O with wrong classes.

    Args:
        goal: one of the four.
        reference: O are the detector's own "detections" on the clean image, as in the paper, or the "truth".
        wrong: the class of each object in O*: the "most_likely" wrong one, or the "least_likely", by the loss on the
            clean image with that object's class changed.
        wanted: the made-up truth `(B, N, 5)`, once `begin` has seen the clean images.
    """

    goal: Goal = "untargeted"
    reference: Reference = "detections"
    wrong: Wrong = "most_likely"
    wanted: Tensor | None = None

    def __post_init__(self) -> None:
        one_of("goal", self.goal, get_args(Goal))
        one_of("reference", self.reference, get_args(Reference))
        one_of("wrong", self.wrong, get_args(Wrong))

    @torch.no_grad()
    def begin(self, victim: Victim, clean: Tensor, truth: Tensor) -> DetectionGoal:
        """Make up the truth."""
        task = victim.task
        if not isinstance(task, Detection):
            raise InputError(f"TOG is for detection, the task is {task.name}")
        if self.goal in ("vanishing", "fabrication"):
            return replace(self, wanted=truth[:, :0])
        outputs = victim.forward(clean)
        objects = truth if self.reference == "truth" else task.predict(outputs).to(truth)
        if self.goal == "mislabelling":
            objects = self._mislabelled(task, outputs, objects)
        return replace(self, wanted=objects)

    def rows(self, index: Tensor) -> DetectionGoal:
        """The goal of some of the images."""
        return replace(self, wanted=rows_of(self.wanted, index))

    def deviation(self, task: Task[Any], outputs: Any, iterate: Iterate) -> Tensor:
        """L against the made-up truth, negative where it is to fall."""
        assert self.wanted is not None
        wanted = iterate.of_copies(self.wanted)
        if iterate.placement is not None:
            wanted = task.placed(wanted, iterate.placement, iterate.clean.shape[2:])
        loss = task.loss(outputs, wanted)
        return loss if self.goal in ("untargeted", "fabrication") else -loss

    def _mislabelled(self, task: Detection, outputs: Any, objects: Tensor) -> Tensor:
        """Every object with the wrong class that the detector finds most (least) likely there."""
        if task.classes < 2:
            raise InputError("mislabelling needs at least 2 classes")
        sign = 1 if self.wrong == "most_likely" else -1
        wrong = objects.clone()
        for place in range(objects.shape[1]):
            own = objects[:, place, 4]
            losses = []
            for label in range(task.classes):
                changed = objects.clone()
                changed[:, place, 4] = torch.where(own == NO_BOX, own, float(label))
                losses.append(torch.where(own == label, torch.inf, sign * task.loss(outputs, changed)))
            chosen = torch.stack(losses).argmin(0).to(own)
            wrong[:, place, 4] = torch.where(own == NO_BOX, own, chosen)
        return wrong


@dataclass(frozen=True, kw_only=True)
class TOG(StabilizedAttack):
    """PGD on one of four goals against a detector; α = eps/4 unless given (2/255 at eps 8/255, as in the paper).

    The paper descends the objectness terms of the loss for "vanishing" and climbs them for "fabrication"; here it is
    the whole loss, of which an empty truth leaves these terms (and, for two stages, the background class). SMIA's
    term is added by `a2`, see `StabilizedAttack`.

    Args:
        goal, reference, wrong: see `DetectionGoal`. Success is an answer that is wrong by the truth, for every goal.
    """

    targeted: bool = field(default=False, init=False)
    random_start: bool = True
    goal: Goal = "untargeted"
    reference: Reference = "detections"
    wrong: Wrong = "most_likely"

    def default_step_size(self, eps: float) -> float:
        """A quarter of the budget."""
        return eps / 4

    def inner(self) -> DetectionGoal:
        """The loss against a made-up truth."""
        return DetectionGoal(goal=self.goal, reference=self.reference, wrong=self.wrong)
