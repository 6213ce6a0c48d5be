"""What a model returns for a batch: a tensor, or a detector's raw outputs. What both can do, in one place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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


def merged(parts: Sequence[Outputs], function: Callable[[Sequence[Tensor]], Tensor]) -> Outputs:
    """One of several outputs: `function` makes each tensor from theirs."""
    first = parts[0]
    if isinstance(first, DetectorOutputs):
        others = [cast("DetectorOutputs", part).tensors for part in parts]
        tensors = {name: function([tensors[name] for tensors in others]) for name in first.tensors}
        return cast("Outputs", DetectorOutputs(first.detector, tensors, first.image_size))
    return cast("Outputs", function(cast("Sequence[Tensor]", parts)))


def picked(take: Tensor, first: Outputs, second: Outputs) -> Outputs:
    """Per image the second outputs where `take` `(B,)` is True, else the first."""

    def pick(pair: Sequence[Tensor]) -> Tensor:
        return torch.where(take.reshape(-1, *[1] * (pair[0].ndim - 1)), pair[1], pair[0])

    return merged([first, second], pick)


def finite_images(outputs: Tensor | DetectorOutputs) -> Tensor:
    """Bool `(B,)`: is every number of an image's outputs finite?"""
    tensors = outputs.tensors.values() if isinstance(outputs, DetectorOutputs) else [outputs]
    return torch.stack([tensor.reshape(len(tensor), -1).isfinite().all(1) for tensor in tensors]).all(0)
