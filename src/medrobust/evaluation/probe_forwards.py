"""What the model itself is asked: is its answer of this image alone, are its outputs logits, its gradients slopes?"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from medrobust.attacks.at_once import AtOnce
from medrobust.errors import InputError
from medrobust.evaluation.attacking import model_errors_told, on_images
from medrobust.evaluation.batches import Batch
from medrobust.evaluation.probes import NO_PATH, Outputs
from medrobust.tasks import Task, halves
from medrobust.threat import TINY, Space
from medrobust.victim import Victim

LEAST_LOG = -30.0  # a log-probability below counts as this: what is next to nothing must not drown the rest
CHANGED = 0.01
_RESOLVED = 1e-4  # of the loss: a rise that float32 tells from rounding
_SHORT = 0.01  # of eps: a step over which a slope holds


def output_range(task: Task, outputs: Any, before: Outputs | None) -> Outputs | None:
    """The range of outputs `(B, …)` and of those seen before; None for a detector's."""
    if not isinstance(outputs, Tensor):
        return None
    several = outputs.ndim > 1 and outputs.shape[1] > 1 and not task.multilabel
    off_one = float((outputs.double().sum(1) - 1).abs().max()) if several else None
    found = Outputs(float(outputs.min()), float(outputs.max()), off_one)
    if before is None:
        return found
    off_one = None if off_one is None or before.off_one is None else max(off_one, before.off_one)
    return Outputs(min(found.least, before.least), max(found.most, before.most), off_one)


def in_company(victim: Victim, batch: Batch, at_once: AtOnce) -> Any:
    """The outputs for the images of a batch, each piece of it beside its negatives."""
    low, high = victim.bounds

    @torch.no_grad()
    def forward(images: Tensor) -> Any:
        with model_errors_told(on_images(batch)):
            return halves(victim(torch.cat([images, low + high - images])))[0]

    return at_once.over(forward, batch.images)


def apart(task: Task, outputs: Any, other: Any) -> list[float]:
    """How far two outputs for the same images are apart, as a share of the mean size of the first; one number each."""
    places = None if isinstance(outputs, Tensor) else task.places(outputs)
    first, second = (_numbers(task, one, places) for one in (outputs, other))
    size = first.norm(dim=1).mean().clamp_min(TINY)
    return [float(share) for share in (first - second).norm(dim=1) / size]


def changed(left: Tensor, *others: Tensor) -> list[bool]:
    """Whether more than a hundredth of what is left of each answer, `(B,)`, was lost or won in any of the others."""
    return torch.stack([(other - left).abs() > CHANGED for other in others]).any(0).tolist()


def _numbers(task: Task, outputs: Any, places: object) -> Tensor:
    if isinstance(outputs, Tensor):
        return outputs.reshape(len(outputs), -1).double()
    log_probs: Tensor = task.log_probs_at(outputs, places)
    return log_probs.clamp_min(LEAST_LOG).flatten(1).double()


class Slopes:
    """The loss of a batch as a function of the threat's variables."""

    def __init__(self, victim: Victim, batch: Batch, space: Space) -> None:
        self._victim, self._batch, self._space = victim, batch, space

    def gradient(self, variables: Tensor) -> Tensor:
        """∂loss/∂variables, `(B, …)`.

        Raises:
            InputError: the outputs do not depend on the image by a differentiable path.
        """
        with torch.inference_mode(mode=False), torch.enable_grad():
            leaf = variables.detach().clone().requires_grad_()
            total = self.loss(leaf).sum()
            if not total.requires_grad:
                raise InputError(f"the model's outputs {NO_PATH}")
            (found,) = torch.autograd.grad(total, leaf, allow_unused=True)
        return torch.zeros_like(leaf) if found is None else found

    def loss(self, variables: Tensor) -> Tensor:
        """The task's loss, `(B,)`, its truth in register."""
        with model_errors_told(on_images(self._batch)):
            outputs = self._victim.forward(self._space.images(variables))
        truth = self._space.truth(self._batch.truth, variables)
        return self._victim.task.loss(outputs, truth)

    def kept(self, variables: Tensor, eps: float) -> list[float | None]:
        """How much the loss changes along the gradient, as a share of what the gradient tells; 1 where it is right.

        A central difference over a hundredth of eps to each side. None where the change is too small to be told from
        rounding, or not finite.
        """
        gradient = self._space.allowed(self.gradient(variables))
        direction, half = self._space.steepest(gradient), _SHORT * eps
        told = 2 * half * (direction.double() * gradient.double()).flatten(1).sum(1)
        with torch.no_grad():
            step = half * direction
            above, below = self.loss(variables + step).double(), self.loss(variables - step).double()
        share = (above - below) / told
        resolved = told > _RESOLVED * torch.maximum(above.abs(), below.abs()).clamp_min(1e-2)
        return [
            float(one) if known else None
            for one, known in zip(share, (resolved & share.isfinite()).tolist(), strict=True)
        ]


def largest_entries(gradient: Tensor) -> list[float | None]:
    """Of each image's gradient: 0 where all entries are, None where one is not finite."""
    largest = gradient.flatten(1).abs().amax(1)
    return [float(one) if bool(one.isfinite()) else None for one in largest]
