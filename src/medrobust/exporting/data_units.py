"""A victim as one module that can be written to a file: images in data units in, outputs of its task out."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from medrobust.errors import InputError
from medrobust.models.volumes import OverSlices, SlidingWindow
from medrobust.tasks import Detection
from medrobust.transforms.preprocessed import Preprocessed
from medrobust.victim import HALF, Victim


class InDataUnits(nn.Module):
    """The model of a victim with its normalisation before it: `(B, C, *spatial)` float32 in data units → outputs.

    Mean and std are buffers, so that they move with the weights from device to device.

    Args:
        victim: what is looked at; its model is taken as it is.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, victim: Victim, spatial_dims: int) -> None:
        super().__init__()
        self.model, self._task = victim.model, victim.task
        self._dtype = next((w.dtype for w in victim.model.parameters() if w.is_floating_point()), torch.float32)
        for name, values in (("mean", victim.mean), ("std", victim.std)):
            shaped = None if values is None else values.float().reshape(1, -1, *[1] * spatial_dims)
            self.register_buffer(name, shaped)

    def forward(self, images: Tensor) -> Tensor:
        """Outputs `(B, …)`, float32 of a model in half precision."""
        if self.mean is not None:
            images = images - self.mean
        if self.std is not None:
            images = images / self.std
        outputs: Tensor = self._task.run(self.model, images.to(self._dtype))
        return outputs.float() if outputs.dtype in HALF else outputs


def on_cpu(victim: Victim) -> Victim:
    """A copy of a victim to be exported, on the CPU, in its own precision, in eval mode.

    Raises:
        InputError: what the victim is, or is wrapped in, cannot be written to a file.
    """
    if isinstance(victim.task, Detection):
        raise InputError("detectors are not exported: their raw outputs, which attacks need, have no fixed shape")
    if not victim.differentiable:
        raise InputError("a model of which the answers alone are seen cannot be exported: it is no network")
    for module in victim.model.modules():
        if isinstance(module, SlidingWindow | OverSlices):
            raise InputError(
                "a model run window by window or slice by slice is exported without that: leave out model.window and "
                "model.over_slices, and give data of the size of a window or slice"
            )
        if isinstance(module, Preprocessed) and module.transform.random:
            raise InputError("a defence that draws at random cannot be exported: a file would keep one draw for ever")
    plain = Victim(copy.deepcopy(victim.model), victim.task, victim.bounds)
    plain.mean, plain.std = victim.mean, victim.std
    plain.model.cpu().eval().requires_grad_(False)
    return plain


def reading(victim: Victim, outputs: Tensor) -> str:
    """How outputs `(B, …)` become probabilities, for whoever uses the file."""
    task = victim.task
    where = " at every pixel" if task.dense else ""
    if task.log_probs(outputs).shape == outputs.shape:
        return f"logits: softmax over axis 1 gives the probabilities of the classes{where}"
    if task.multilabel:
        return f"logits: sigmoid gives the probability of each label{where}"
    if outputs.ndim == 1 or outputs.shape[1] == 1:
        return f"one logit: sigmoid gives the probability of the second class{where}"
    return "cumulative logits: sigmoid of the k-th gives the probability that the grade is above the k-th"
