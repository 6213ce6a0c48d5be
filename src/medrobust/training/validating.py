"""What is left of a model, clean and attacked, while it learns."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from medrobust.attacks import PGD, Attack
from medrobust.data import Dataset, stack
from medrobust.data.options import evenly
from medrobust.threat import Threat
from medrobust.victim import Victim


class Left(NamedTuple):
    """Means over the validation images.

    Attributes:
        clean: of `Task.worth` (the share right, the mean Dice or F1) at clean images.
        attacked: at attacked ones.
        loss: the task's loss at attacked images.
    """

    clean: float
    attacked: float
    loss: float


@dataclass(frozen=True, kw_only=True)
class Validation:
    """How a model is looked at between epochs.

    Args:
        attack: another one than it learns from, or the same with more steps.
        images: at most so many, spread evenly over the validation set; None: all.
        batch_size: images attacked together.
    """

    attack: Attack = field(default_factory=lambda: PGD(steps=10))
    images: int | None = 64
    batch_size: int = 16

    def places(self, data: Dataset) -> list[int]:
        """Of the images that are looked at."""
        return list(evenly(range(len(data)), self.images))

    def __call__(self, victim: Victim, data: Dataset, threat: Threat, seed: int) -> Left:
        """What is left of the model, on average over the images."""
        places = self.places(data)
        clean: list[Tensor] = []
        attacked: list[Tensor] = []
        losses: list[Tensor] = []
        for start in range(0, len(places), self.batch_size):
            images, truth, ids = stack([data[place] for place in places[start : start + self.batch_size]])
            images, truth = images.to(victim.device), truth.to(victim.device)
            made = self.attack(victim, images, truth, threat, seed=seed, ids=ids).adversarial
            with torch.no_grad():
                clean.append(victim.task.worth(victim(images), truth))
                outputs = victim(made)
                attacked.append(victim.task.worth(outputs, truth))
                losses.append(victim.task.loss(outputs, truth))
        return Left(*(float(torch.cat(values).mean()) for values in (clean, attacked, losses)))
