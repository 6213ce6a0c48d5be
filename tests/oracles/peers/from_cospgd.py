"""cospgd 0.1.3, by the authors of CosPGD: its losses and steps for dense tasks. It has no loop: the one here is ours.

Neither knows an `ignore_index`: a pixel so labelled counts as wrong (SegPGD) or as of the last class (CosPGD).
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

peer = pytest.importorskip("cospgd", reason="the oracle cospgd is not installed").functions


def seg_pgd(
    model: nn.Module, images: Tensor, truth: Tensor, *, start: Tensor, eps: float, step_size: float, steps: int
):
    """λ = t/2T with t from 0, as the paper's (t − 1)/2T with t from 1."""

    def loss(outputs: Tensor, pixels: Tensor, step: int) -> Tensor:
        return peer.segpgd_scale(outputs, truth, pixels, step, steps)

    return _loop(model, images, truth, loss, peer.step_inf, start, eps, step_size, steps)


def cos_pgd(
    model: nn.Module, images: Tensor, truth: Tensor, *, start: Tensor, eps: float, step_size: float, steps: int
):
    """Softmax against the one-hot truth."""
    return _loop(model, images, truth, _cosine(truth), peer.step_inf, start, eps, step_size, steps)


def cos_pgd_l2(
    model: nn.Module, images: Tensor, truth: Tensor, *, start: Tensor, eps: float, step_size: float, steps: int
):
    return _loop(model, images, truth, _cosine(truth), peer.step_l2, start, eps, step_size, steps)


def _cosine(truth: Tensor) -> Callable[[Tensor, Tensor, int], Tensor]:
    def loss(outputs: Tensor, pixels: Tensor, step: int) -> Tensor:
        return peer.cospgd_scale(outputs, truth, pixels, num_classes=outputs.shape[1]).sum()

    return loss


def _loop(
    model: nn.Module,
    images: Tensor,
    truth: Tensor,
    loss: Callable[[Tensor, Tensor, int], Tensor],
    move: Callable[..., Tensor],
    start: Tensor,
    eps: float,
    step_size: float,
    steps: int,
) -> Tensor:
    points = start
    for step in range(steps):
        points = points.detach().requires_grad_()
        outputs = model(points)
        pixels = nn.functional.cross_entropy(outputs, truth, reduction="none")
        (gradient,) = torch.autograd.grad(loss(outputs, pixels, step), points)
        points = move(points, eps, gradient, images, step_size, targeted=False)
    return points
