"""A model in use: in eval mode, with frozen weights, and afterwards as it was."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

# one for all models: they may share weights, and who uses one may come to use another
_LOCK = threading.RLock()
_USED: list[nn.Module] = []


@contextmanager
def in_use(model: nn.Module, channels_last: bool) -> Iterator[None]:
    """Run the model in eval mode with frozen weights, then put everything back, also when something raises.

    Put back are every module's mode, `requires_grad`, the layout of the weights, and buffers that were changed or
    replaced. Frozen, a layer need not keep its input for a gradient of its weights that nobody asks for. Inside itself
    it does nothing. Models are used by one thread of a process at a time: another one waits until no model is in use.
    """
    with _LOCK:
        if any(used is model for used in _USED):
            yield
            return
        saved = _State(model)
        _USED.append(model)
        try:
            saved.prepare(channels_last)
            yield
        finally:
            _USED.remove(model)
            saved.restore()


@contextmanager
def as_it_is(model: nn.Module) -> Iterator[None]:
    """Inside, `in_use` of the model does nothing: its weights learn, in the mode that it is in."""
    with _LOCK:
        _USED.append(model)
        try:
            yield
        finally:
            _USED.remove(model)


def lay_out(model: nn.Module, layout: torch.memory_format) -> None:
    """Put the weights of 2-D convolutions into a layout, in place; their values stay."""
    for weight in _of_images(model):
        weight.data = weight.data.contiguous(memory_format=layout)


def _of_images(model: nn.Module) -> list[nn.Parameter]:
    return [weight for weight in model.parameters() if weight.ndim == 4]


class _State:
    """What a use of the model changes."""

    def __init__(self, model: nn.Module) -> None:
        self._modes = [(module, module.training) for module in model.modules()]
        self._learning = [weight for weight in model.parameters() if weight.requires_grad and weight.is_leaf]
        self._weights = [(weight, weight.data) for weight in _of_images(model)]
        self._buffers = [
            (module, name, buffer, None if buffer is None else (buffer.detach().clone(), buffer._version))
            for module in model.modules()
            for name, buffer in module._buffers.items()
        ]

    def prepare(self, channels_last: bool) -> None:
        """Eval mode, no gradients of weights, and their layout."""
        for module, _ in self._modes:
            module.training = False
        for weight in self._learning:
            weight.requires_grad_(False)
        if channels_last:
            for weight, original in self._weights:
                weight.data = original.contiguous(memory_format=torch.channels_last)

    def restore(self) -> None:
        """As it was."""
        for module, training in self._modes:
            module.training = training
        for weight in self._learning:
            weight.requires_grad_()
        for weight, original in self._weights:
            weight.data = original
        for module, name, buffer, saved in self._buffers:
            if module._buffers.get(name) is not buffer:
                module._buffers[name] = buffer
            if buffer is not None and saved is not None:
                _write_back(buffer, *saved)


@torch.no_grad()
def _write_back(buffer: Tensor, values: Tensor, version: int) -> None:
    # an untouched buffer is left alone: its version counter guards the caller's own graph
    if buffer._version != version:
        buffer.copy_(values)
