"""A model and the screen before it as one victim: it is fooled by a wrong answer that raises no alarm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

from torch import Tensor

from medrobust.guards.screens import Screen
from medrobust.tasks import Task
from medrobust.victim import Victim


@dataclass(frozen=True)
class Alarm:
    """A screen with the suspicion above which it raises the alarm.

    Attributes:
        screen: tells the suspicion.
        threshold: the most that is let through.
        scale: how much the suspicion of clean images varies, above 0: the unit in which attacks weigh it.
    """

    screen: Screen
    threshold: float
    scale: float


@dataclass(frozen=True)
class Watched:
    """A model's outputs with the suspicion of the images that they are for, `(B,)`."""

    outputs: Any
    suspicion: Tensor


class WatchedTask:
    """The task of a model behind a screen, on `Watched` outputs; what it does not say itself is the model's."""

    def __init__(self, task: Task, threshold: float) -> None:
        self.task, self.threshold = task, threshold

    def __getattr__(self, name: str) -> Any:
        return getattr(self.task, name)

    def fooled(self, watched: Watched, truth: Tensor) -> Tensor:
        """Bool `(B,)`: is the answer wrong, and no alarm raised?"""
        return self.task.fooled(watched.outputs, truth) & (watched.suspicion <= self.threshold)

    def loss(self, watched: Watched, truth: Tensor) -> Tensor:
        """The model's, `(B,)`."""
        return self.task.loss(watched.outputs, truth)


class WatchedVictim(Victim):
    """The same victim, whose outputs are `Watched`."""

    def __init__(self, victim: Victim, alarm: Alarm) -> None:
        vars(self).update(vars(victim))
        self.inner, self.alarm = victim, alarm
        self.task = cast("Task", WatchedTask(victim.task, alarm.threshold))

    def forward(self, images: Tensor) -> Any:
        """As the victim's own, with the suspicion."""
        outputs = self.inner.forward(images)
        return Watched(outputs, self.alarm.screen(self.inner, images, outputs))
