"""The attacks of a probe, and what else is made of its images: noise, and what a file keeps of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from medrobust.attacks import BIM, FGSM, NES, PGD, Attack, AttackResult, Square
from medrobust.attacks.applicable import keeps_to
from medrobust.attacks.at_once import AtOnce
from medrobust.data import DatasetInfo
from medrobust.errors import InputError
from medrobust.evaluation.attacking import Call, answered
from medrobust.evaluation.batches import Batch
from medrobust.evaluation.probes import RESTARTS, SEVERAL_STEPS, SINGLE_STEP
from medrobust.tasks import Detection
from medrobust.threat import Space, Threat, sample_generators
from medrobust.threat.drawing import drawn
from medrobust.threat.quantisation import rounded_to_nearest
from medrobust.victim import Victim, check_finite

FLOATS = "the files hold floats: nothing is rounded when images are saved"
STEPS = 10
RESTARTED = 5
UNLIMITED_STEPS = 30
QUERIES = 100
USUAL_QUANTUM = {"[0, 1]": 1 / 255, "HU": 1.0}
"""Unit of the data → step of the files that images are usually saved to."""


@dataclass(frozen=True)
class Setting:
    """What all probes of a run have in common.

    Attributes:
        victim, threat, seed, batch_size: of the run; `info` of its data.
        graded: whether an answer can be more or less right, so that an attack is worth going on with.
        at_once: how many images go together.
    """

    victim: Victim
    info: DatasetInfo
    threat: Threat
    seed: int
    batch_size: int
    graded: bool
    at_once: AtOnce = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "at_once", AtOnce(self.batch_size))

    def space(self, batch: Batch) -> Space:
        """What the attacker may choose from."""
        threat = self.threat.over(batch.images.ndim).for_truth(batch.truth, batch.images, self.victim.task.classes)
        return threat.space(batch.images, self.victim.bounds)

    def answered(self, batch: Batch, images: Tensor) -> Any:
        """The outputs for what was made of the images of a batch."""
        return answered(self.victim, batch, images, self.at_once)

    def attacked(self, attack: Attack, threat: Threat, batch: Batch) -> AttackResult:
        """What an attack makes of a batch."""
        (result,) = Call(attack, [threat]).on(self.victim, batch, self.seed, self.at_once)
        return result

    def seen(self, batch: Batch, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What is left, the loss, and whether the answer is wrong, `(B,)` each, for images made of a batch."""
        task, outputs = self.victim.task, self.answered(batch, images)
        check_finite(outputs, batch.ids, "probed")
        return task.worth(outputs, batch.truth), task.loss(outputs, batch.truth), task.fooled(outputs, batch.truth)

    def noisy(self, batch: Batch, space: Space, draw: int) -> tuple[Batch, Tensor]:
        """The batch in register with random images as far out as eps allows, and these.

        They are one step of that length along the steepest way of a random gradient: in L∞ ±eps everywhere.
        """
        start = space.start()
        random = drawn(torch.randn, start, sample_generators(self.seed, batch.ids, f"probe noise {draw}"))
        variables = start + self.threat.budget() * space.steepest(space.allowed(random))
        space.project_(variables)
        return batch.moved(space.truth(batch.truth, variables)), space.images(variables)

    def saved(self, batch: Batch, images: Tensor) -> tuple[float, Tensor]:
        """The step of the grid of a file, and the images on it.

        Raises:
            InputError: the files hold floats.
        """
        bounds, quantum = self.victim.bounds, batch.samples[0].quantum
        if quantum is not None:
            return quantum, rounded_to_nearest(batch.images, images, bounds, quantum, "clean")
        if self.info.unit not in USUAL_QUANTUM:
            raise InputError(FLOATS)
        quantum = USUAL_QUANTUM[self.info.unit]
        steps = ((images.double() - bounds[0]) / quantum).round()
        return quantum, (bounds[0] + steps * quantum).to(images).clamp(*bounds)


def by_gradient() -> dict[str, Attack]:
    """The attacks along the gradient, at the run's budget; one start and several differ in nothing else."""
    return {
        SEVERAL_STEPS: PGD(steps=STEPS, trace=True),
        SINGLE_STEP: FGSM(),
        RESTARTS: PGD(steps=STEPS, restarts=RESTARTED),
    }


def unlimited(setting: Setting) -> tuple[Attack, Threat]:
    """An attack that may make any image; from the clean one, so that it has a gradient to follow."""
    width = setting.victim.bounds[1] - setting.victim.bounds[0]
    return BIM(steps=UNLIMITED_STEPS, step_size=width / 10, keep="best", early_stop=True), Threat(eps=width)


def answers_alone(setting: Setting) -> Attack | str:
    """A short attack that sees answers alone, or why there is none."""
    if isinstance(setting.victim.task, Detection):
        return "no attack on answers alone is for detection"
    square = Square(queries=QUERIES)
    return square if keeps_to(square, setting.threat) else NES(steps=5, directions=10)
