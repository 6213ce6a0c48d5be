"""What a model returns for a batch: a tensor, or a detector's raw outputs. What both can do, in one place."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

import torch
from torch import Tensor

from medrobust.detectors import DetectorOutputs

Outputs = TypeVar("Outputs", bound=Tensor | DetectorOutputs)


def changed(outputs: Outputs, function: Callable[[Tensor], Tensor]) -> Outputs:
    """Outputs of which every tensor, `(B, …)`, went through `function`."""
    made = outputs.map(function) if isinstance(outputs, DetectorOutputs) else function(cast("Tensor", outputs))
    return cast("Outputs", made)


def detached(outputs: Outputs) -> Outputs:
    """Outputs without their graph."""
    return changed(outputs, Tensor.detach)


def halves(outputs: Outputs) -> tuple[Outputs, Outputs]:
    """Outputs of a batch of 2B as those of its first and of its second B images."""
    count = len(outputs) // 2
    return changed(outputs, lambda tensor: tensor[:count]), changed(outputs, lambda tensor: tensor[count:])


def picked(take: Tensor, first: Outputs, second: Outputs) -> Outputs:
    """Per image the second outputs where `take` `(B,)` is True, else the first."""
    if isinstance(first, DetectorOutputs) and isinstance(second, DetectorOutputs):
        others = second.tensors
        tensors = {name: _picked(take, tensor, others[name]) for name, tensor in first.tensors.items()}
        return cast("Outputs", DetectorOutputs(first.detector, tensors, first.image_size))
    return cast("Outputs", _picked(take, cast("Tensor", first), cast("Tensor", second)))


def finite_images(outputs: Tensor | DetectorOutputs) -> Tensor:
    """Bool `(B,)`: is every number of an image's outputs finite?"""
    tensors = outputs.tensors.values() if isinstance(outputs, DetectorOutputs) else [outputs]
    return torch.stack([tensor.reshape(len(tensor), -1).isfinite().all(1) for tensor in tensors]).all(0)


def _picked(take: Tensor, first: Tensor, second: Tensor) -> Tensor:
    return torch.where(take.reshape(-1, *[1] * (first.ndim - 1)), second, first)
