"""A task's answer against the truth, position by position: what most objectives are written on.

It is `Task.log_probs` with the true alternative named, so that one formula serves several classes, one logit, several
labels, ordered grades and masks in two or three dimensions. The difference of two log-probabilities is that of their
logits.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from medrobust.errors import InputError
from medrobust.tasks import Detection, Task, position_mean
from medrobust.tasks.task import IGNORED

LEAST = -1e30  # a log-probability of −∞, from a logit that a model has shut off: −∞ − (−∞) and 0 · −∞ would be NaN


@dataclass(frozen=True)
class Positions:
    """The answer at every position against the truth (the target). An answer without positions is at one.

    Attributes:
        log_probs: `(B, K, *positions)` of the K alternatives, at least −1e30; differentiable.
        at: int64 `(B, *positions)`, the true alternative, 0 where the truth is not known.
        used: bool `(B, *positions)`, where it is known.
    """

    log_probs: Tensor
    at: Tensor
    used: Tensor

    @classmethod
    def of(cls, name: str, task: Task, outputs: Tensor, truth: Tensor) -> Positions:
        """Read the outputs, for the objective of that name.

        Raises:
            InputError: the task is detection, or outputs and truth have not the shapes of the task.
        """
        if isinstance(task, Detection):
            raise InputError(f"{name} needs the true answer at every position, which a detector's boxes are not")
        task.check_outputs(outputs, truth)
        log_probs, targets = task.log_probs(outputs), task.targets(outputs, truth)
        if log_probs.ndim == 2:
            log_probs, targets = log_probs.unsqueeze(2), targets.unsqueeze(1)
        return cls(log_probs.clamp_min(LEAST), targets.clamp_min(0), targets != IGNORED)

    @classmethod
    def dense(cls, name: str, task: Task, outputs: Tensor, truth: Tensor) -> Positions:
        """Read the outputs of a task whose positions are pixels.

        Raises:
            InputError: the task has no answer at every pixel.
        """
        check_dense(name, task)
        return cls.of(name, task, outputs, truth)

    @cached_property
    def true(self) -> Tensor:
        """Log-probability of the true alternative, `(B, *positions)`."""
        return self.log_probs.gather(1, self.at.unsqueeze(1)).squeeze(1)

    @cached_property
    def others(self) -> Tensor:
        """The highest log-probability of another one, `(B, *positions)`."""
        return self.log_probs.scatter(1, self.at.unsqueeze(1), -torch.inf).amax(1)

    @property
    def one_hot(self) -> Tensor:
        """0 or 1 `(B, K, *positions)`: the true alternative; 0 throughout where it is not known."""
        true = torch.zeros_like(self.log_probs).scatter(1, self.at.unsqueeze(1), 1)
        return torch.where(self.used.unsqueeze(1), true, 0)

    @property
    def right(self) -> Tensor:
        """Bool: is the true alternative (the target) the one that is answered?"""
        return self.true.detach() > self.others.detach()

    def left(self, sign: int) -> Tensor:
        """Bool: where the goal is not reached yet: still right, or (targeted) not yet at the target."""
        return (self.right if sign > 0 else ~self.right) & self.used

    def mean(self, values: Tensor) -> Tensor:
        """`(B, *positions)` → `(B,)`: the mean where the truth is known; 0 for an image with no such position."""
        return position_mean(values, self.used)


def several_labels(task: Task, outputs: Tensor, truth: Tensor) -> bool:
    """Is every output the logit of a yes/no question of its own?"""
    return outputs.shape == task.targets(outputs, truth).shape


def true_logits(task: Task, outputs: Tensor, truth: Tensor) -> Tensor:
    """The logit of the true alternative (the target), `(B, *positions)`; of a yes/no logit z, z for yes, −z for no."""
    targets = task.targets(outputs, truth).clamp_min(0)
    if several_labels(task, outputs, truth):
        return torch.where(targets == 1, outputs, -outputs)
    if outputs.shape[1] == 1:
        return torch.where(targets == 1, outputs.squeeze(1), -outputs.squeeze(1))
    return outputs.gather(1, targets.unsqueeze(1)).squeeze(1)


def check_dense(name: str, task: Task) -> None:
    """Raise `InputError` for a task without an answer at every pixel."""
    if not task.dense:
        raise InputError(f"{name} needs an answer at every pixel (a segmentation task), got {task.name}")
