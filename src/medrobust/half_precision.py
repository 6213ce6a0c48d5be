"""A model run in half precision, without losing the gradient that an attack follows.

In float16 what is below 6e-8 is zero, and the gradient of a sure answer, or of one pixel among many, soon is. Training
multiplies the loss by a constant against that (Micikevicius et al., Mixed Precision Training, arXiv 1710.03740, section
3.2). Here every image has a factor of its own at every backward pass: its largest output gradient goes into the
network at `LARGEST`, and the factor is taken out again at the image, where the gradient is float32. In bfloat16, whose
range is that of float32, nothing of the kind is needed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor

from medrobust.tasks import changed

HalfPrecision = Literal["bfloat16", "float16"]
LARGEST = 2.0**8  # as far from float16's largest number, 65504, as from 1
LEAST = 2.0**-100  # of an image that has no gradient


def in_half_precision(run: Callable[[Tensor], Any], inputs: Tensor, precision: HalfPrecision) -> Any:
    """The outputs of `run(inputs)` under autocast, in float32.

    Args:
        run: a model from `(B, C, *spatial)` to outputs; in float16 to a tensor `(B, …)`.
        inputs: float32.
        precision: of convolutions and matrix products; what autocast deems delicate stays in float32.
    """
    factors = _Factors()
    scaled = precision == "float16" and inputs.requires_grad
    with torch.autocast(inputs.device.type, dtype=getattr(torch, precision)):
        outputs = run(_taken_out(inputs, factors) if scaled else inputs)

    def whole(tensor: Tensor) -> Tensor:
        tensor = tensor.float() if tensor.is_floating_point() else tensor
        return _put_in(tensor, factors) if scaled else tensor

    return changed(outputs, whole)


class _Factors:
    """What the gradients of this backward pass were divided by, `(B,)`."""

    values: Tensor


def _put_in(outputs: Tensor, factors: _Factors) -> Tensor:
    made: Tensor = _PutIn.apply(outputs, factors)
    return made


def _taken_out(inputs: Tensor, factors: _Factors) -> Tensor:
    made: Tensor = _TakenOut.apply(inputs, factors)
    return made


class _PutIn(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, outputs: Tensor, factors: _Factors) -> Tensor:
        ctx.factors = factors
        return outputs.view_as(outputs)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        largest = gradient.reshape(len(gradient), -1).abs().amax(1)
        # a power of two: nothing is rounded by it
        ctx.factors.values = torch.exp2(torch.log2(largest / LARGEST).ceil()).clamp_min(LEAST)
        return gradient / _rows(ctx.factors.values, gradient), None


class _TakenOut(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, inputs: Tensor, factors: _Factors) -> Tensor:
        ctx.factors = factors
        return inputs.view_as(inputs)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient * _rows(ctx.factors.values, gradient), None


def _rows(values: Tensor, like: Tensor) -> Tensor:
    return values.to(like.dtype).reshape(-1, *[1] * (like.ndim - 1))
