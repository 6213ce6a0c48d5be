"""Where the loop's gradient comes from: the model's own by backpropagation, or an estimate from its answers alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from medrobust.attacks.case import Case
from medrobust.attacks.objectives import Iterate, Terms
from medrobust.attacks.per_image import State
from medrobust.errors import InputError

Evaluate = Callable[..., tuple[Terms, Iterate]]
"""`evaluate(variables, copies=1)`: the objective at variables `(copies · B, …)`, and what the model was shown."""


class SourceState(State, Protocol):
    """A source at work in one run of the loop."""

    def __call__(self, evaluate: Evaluate, variables: Tensor) -> tuple[Terms, Tensor, Iterate]:
        """The terms at the variables `(B, …)`, the gradient of their value there, and what the model was shown."""
        ...


class GradientSource(Protocol):
    """A way to a gradient."""

    @property
    def asks(self) -> bool:
        """Whether it works from answers alone, so that each of them is counted as a query."""
        ...

    def begin(self, case: Case, purpose: str) -> SourceState:
        """A fresh one for one run of the loop; all its randomness is of `case.generators(purpose)`."""
        ...


@dataclass(frozen=True)
class Backpropagation:
    """The gradient itself, with respect to the variables alone: no weight's `.grad` is filled."""

    asks: ClassVar[bool] = False

    def begin(self, case: Case, purpose: str) -> SourceState:
        """Itself: it has no state."""
        return self

    def keep(self, rows: Tensor) -> None:
        """Nothing to forget."""

    def __call__(self, evaluate: Evaluate, variables: Tensor) -> tuple[Terms, Tensor, Iterate]:
        """One forward, one backward.

        Raises:
            InputError: the model's outputs do not depend on its input by a differentiable path.
        """
        leaf = variables.detach().requires_grad_()
        terms, iterate = evaluate(leaf)
        if not terms.total.requires_grad:
            raise InputError(
                "the model's outputs do not depend on its input by a differentiable path: no gradient attack"
            )
        share = len(leaf) / len(terms.total)  # the mean over an image's copies
        found: tuple[Tensor | None, ...] = torch.autograd.grad(terms.total.sum(), leaf, allow_unused=True)
        gradient = torch.zeros_like(leaf) if found[0] is None else found[0]
        return terms, gradient if share == 1 else gradient * share, iterate
