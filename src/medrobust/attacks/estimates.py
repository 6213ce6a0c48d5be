"""Gradients estimated from a model's scores: differences of the objective along random directions.

They take the place of backpropagation in the loop, and so go with each of its parts.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from medrobust.attacks.case import Case
from medrobust.attacks.objectives import Iterate, Terms
from medrobust.attacks.per_image import PerImage
from medrobust.attacks.sources import Evaluate, SourceState
from medrobust.checks import at_least, positive
from medrobust.threat import TINY, per_image


@dataclass(frozen=True, kw_only=True)
class DifferenceEstimate(ABC):
    """The mean over directions u of u · (J(x + width·u) − J(x − width·u))/(2 · width).

    A step takes 2 · `directions` queries of each image, and one at the iterate itself. Images out of the bounds are
    not asked about: the directions begin at the iterate with the pixels at a bound moved in by `inset` widths, and what
    still reaches out is cut.

    Args:
        directions: how many of them a step takes.
        width: how far to look, in the unit of the variables (for L∞, L2 and L1 that of the data); None is a share of
            the width of the bounds, see the class, and for a threat that changes no single pixels that share of eps.
        at_once: the most copies of each image that are shown in one batch, at least 2; the result is the same.

    Raises:
        InputError: an option has no such value.
    """

    directions: int = 25
    width: float | None = None
    at_once: int = 16

    asks: ClassVar[bool] = True
    share: ClassVar[float]
    inset: ClassVar[float]

    def __post_init__(self) -> None:
        at_least("directions", self.directions, 1)
        at_least("at_once", self.at_once, 2)
        if self.width is not None:
            positive("width", self.width)

    def begin(self, case: Case, purpose: str) -> SourceState:
        """A generator for each image."""
        return _Estimating(self, case, purpose)

    @abstractmethod
    def draw(self, shape: Sequence[int], generator: torch.Generator) -> Tensor:
        """A direction."""

    def reach(self, case: Case) -> Tensor:
        """The width for each image, `(B,)`, above 0."""
        if self.width is not None:
            return case.clean.new_full((len(case),), self.width)
        if case.threat.pixels:
            low, high = case.victim.bounds
            return case.clean.new_full((len(case),), self.share * (high - low))
        eps = torch.as_tensor(case.threat.eps).to(case.clean).expand(len(case))
        return (self.share * eps).clamp_min(TINY)


@dataclass(frozen=True, kw_only=True)
class NaturalEvolution(DifferenceEstimate):
    """NES: antithetic pairs of normal directions. Ilyas et al., arXiv 1804.08598, algorithm 1.

    The width is .001 of that of the bounds unless given, the paper's σ; it takes 50 queries a step.
    """

    share: ClassVar[float] = 0.001
    inset: ClassVar[float] = 3.0

    def draw(self, shape: Sequence[int], generator: torch.Generator) -> Tensor:
        """Standard normal values."""
        return torch.randn(tuple(shape), generator=generator)


@dataclass(frozen=True, kw_only=True)
class SimultaneousPerturbation(DifferenceEstimate):
    """SPSA: directions of signs. Spall (1992); Uesato et al., arXiv 1802.05666, algorithm 1.

    The width is .01 of that of the bounds unless given, the paper's δ.
    """

    share: ClassVar[float] = 0.01
    inset: ClassVar[float] = 1.0

    def draw(self, shape: Sequence[int], generator: torch.Generator) -> Tensor:
        """±1, each as likely."""
        return 2 * torch.randint(0, 2, tuple(shape), generator=generator, dtype=torch.int8) - 1


class _Estimating(PerImage):
    def __init__(self, estimate: DifferenceEstimate, case: Case, purpose: str) -> None:
        self.estimate, self.case = estimate, case
        self.generators = case.generators(purpose)
        self.reach = estimate.reach(case)

    def keep(self, rows: Tensor) -> None:
        super().keep(rows)
        self.case = self.case.rows(rows)

    @torch.no_grad()
    def __call__(self, evaluate: Evaluate, variables: Tensor) -> tuple[Terms, Tensor, Iterate]:
        """Ask at the variables, then along the directions, a part of them at a time."""
        variables = variables.detach()
        terms, iterate = evaluate(variables)
        times = len(variables) // len(self.case)  # the loop may ask at several points around an image
        width = per_image(self.reach.repeat(times), variables)
        gradient, middle = torch.zeros_like(variables), self._inside(variables, width)
        left = self.estimate.directions
        while left:
            taken = min(left, self.estimate.at_once // 2)
            left -= taken
            directions = torch.stack([self._direction(variables) for _ in range(taken)])
            ahead, behind = self._within(middle + width * directions), self._within(middle - width * directions)
            asked = torch.stack([ahead, behind]).flatten(0, 2)
            seen, shown = evaluate(asked, 2 * taken)
            # an input part may have shown several copies of each
            totals = seen.total.reshape(shown.copies // (2 * taken * times), 2, taken, len(variables)).mean(0)
            rise = (totals[0] - totals[1]).reshape(taken, *width.shape) / (2 * width)
            for each, direction in zip(rise, directions, strict=True):
                gradient.addcmul_(each, direction)
        return terms, gradient / self.estimate.directions, iterate

    def _direction(self, variables: Tensor) -> Tensor:
        """One for each row, zero where nothing may change."""
        count = len(self.case)
        drawn = [
            self.estimate.draw(variables[row].shape, self.generators[row % count]) for row in range(len(variables))
        ]
        return self._allowed(torch.stack(drawn).to(variables))

    def _allowed(self, change: Tensor) -> Tensor:
        return torch.cat([self.case.space.allowed(part) for part in torch.split(change, len(self.case))])

    def _inside(self, variables: Tensor, width: Tensor) -> Tensor:
        """Where directions of that width begin: off the bounds."""
        if not self.case.threat.pixels:
            return variables
        low, high = self.case.victim.bounds
        inset = (self.estimate.inset * width).clamp_max((high - low) / 2)
        return variables + self._allowed(variables.clamp(low + inset, high - inset) - variables)

    def _within(self, variables: Tensor) -> Tensor:
        return variables.clamp(*self.case.victim.bounds) if self.case.threat.pixels else variables
