"""A model as `torch.compile` makes it, or as it is where that fails."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn

from medrobust.errors import MedrobustWarning
from medrobust.memory import out_of_memory

Run = Callable[[nn.Module, Tensor], Any]
"""`run(model, inputs)` calls a model and gives a tensor `(B, …)`."""


class CompiledModel:
    """Compiled at its first call, which takes from seconds to minutes; a batch of any size serves the later ones.

    Compiled anew are a single image, a call without gradients and another image size, each once or a few times.

    Args:
        model: stays as it is; its weights are looked up at every call.
        run: how it is called.
    """

    def __init__(self, model: nn.Module, run: Run) -> None:
        self.model = model
        self._run = run
        self._call: nn.Module | None = None

    def __call__(self, inputs: Tensor) -> Any:
        """The outputs for inputs `(B, C, *spatial)`.

        Warns:
            MedrobustWarning: the model cannot be compiled (or there is no C++ compiler), and runs as it is from now on.
        """
        if self._call is None:
            self._call = self._tried(inputs)
        if self._call is self.model:
            return self._run(self.model, inputs)
        try:
            return self._run(self._call, _of_any_count(inputs))
        except Exception as error:
            if out_of_memory(error):
                raise
            outputs = self._run(self.model, inputs)  # what the model itself refuses is raised here, in its own words
            self._call = self._given_up(error)
            return outputs

    def __reduce__(self) -> tuple[object, ...]:
        """A copy compiles anew."""
        return type(self), (self.model, self._run)

    def _tried(self, inputs: Tensor) -> nn.Module:
        """The compiled model, or the plain one; both passes are tried, as each is compiled when it is due."""
        try:
            compiled = cast("nn.Module", torch.compile(self.model))
            with torch.inference_mode(mode=False), torch.enable_grad():
                leaf = inputs.detach().clone().requires_grad_()
                outputs = self._run(compiled, _of_any_count(leaf))
                if outputs.requires_grad:
                    torch.autograd.grad(outputs.sum(), leaf, allow_unused=True)
        except Exception as error:
            if out_of_memory(error):
                raise
            with torch.no_grad():
                self._run(self.model, inputs.clone())
            return self._given_up(error)
        return compiled

    def _given_up(self, error: Exception) -> nn.Module:
        told = (str(error).strip() or type(error).__name__).splitlines()[0]
        warnings.warn(
            f"torch.compile fails on this model, which now runs as it is: {told[:120]}", MedrobustWarning, stacklevel=2
        )
        return self.model


def _of_any_count(inputs: Tensor) -> Tensor:
    torch._dynamo.maybe_mark_dynamic(inputs, 0)
    return inputs
