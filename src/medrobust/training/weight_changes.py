"""The worst small change of the weights, at which the gradient is taken: AWP."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def at_worst_weights(model: nn.Module, size: float) -> Iterator[None]:
    """Inside, the weights are moved along their gradients, layer by layer by `size` of their norm; afterwards back.

    Wu, Xia, Wang: Adversarial Weight Perturbation Helps Robust Generalization, NeurIPS 2020, arXiv 2004.05884, eq. 8
    and 10; as there, only weights of more than one axis are moved, by the gradients that the model holds, which are
    cleared.
    """
    moved: list[tuple[nn.Parameter, torch.Tensor]] = []
    with torch.no_grad():
        for weight in model.parameters():
            if weight.grad is not None and weight.ndim > 1:
                change = weight.grad * (size * weight.norm() / (weight.grad.norm() + 1e-20))
                moved.append((weight, weight.detach().clone()))
                weight.add_(change)
            weight.grad = None
    try:
        yield
    finally:
        with torch.no_grad():
            for weight, before in moved:
                weight.copy_(before)
