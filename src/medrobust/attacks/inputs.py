"""What is done to the iterate before the model sees it, so that a step serves more than this very image.

A part is configuration; `begin` gives its state for one run of the loop, which turns an iterate into another one with
all that belongs to it in register, and possibly into several copies of it. The step then follows the mean over the
copies, taken through whatever was done to the image. The parts that make copies are in `copies.py`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from medrobust.attacks.case import Case
from medrobust.attacks.objectives import Iterate
from medrobust.attacks.per_image import PerImage, State
from medrobust.checks import not_negative
from medrobust.errors import InputError
from medrobust.tasks import Placement
from medrobust.threat import per_image


class InputStage(State, Protocol):
    """A part at work in one run of the loop."""

    def __call__(self, iterate: Iterate, case: Case) -> Iterate:
        """The iterate as the model is to see it."""
        ...


class InputPart(Protocol):
    """One treatment of the images."""

    def begin(self, case: Case, purpose: str) -> InputStage:
        """A fresh treatment for one run of the loop; all its randomness is of `case.generators(purpose)`."""
        ...


@dataclass(frozen=True)
class Diversity:
    """Input diversity, DI (Xie et al., arXiv 1803.06978, section 3.2).

    With a probability each image is made smaller by a random factor from 1/rate to 1 and put at a random place into its
    own frame, filled up with the lowest value; masks and boxes go along. The paper enlarges image and frame instead
    (299 to 330 pixels, a rate of 1.1) and shows the model the larger frame; here the frame keeps its size, which models
    of fixed input size need.

    Args:
        probability: that an image is treated at a step.
        rate: the largest factor, at least 1.
    """

    probability: float = 0.5
    rate: float = 1.1

    def __post_init__(self) -> None:
        if not 0 <= self.probability <= 1:
            raise InputError(f"probability must be in [0, 1], got {self.probability!r}")
        if not (math.isfinite(self.rate) and self.rate >= 1):
            raise InputError(f"rate must be a finite number of at least 1, got {self.rate!r}")

    def begin(self, case: Case, purpose: str) -> InputStage:
        """A draw for every image and step."""
        return _Diverse(self, case.generators(purpose))

    def draw(self, frame: tuple[int, ...], generator: torch.Generator) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The new size and the place of the first pixel, along each axis."""
        chance, share, *places = torch.rand(2 + len(frame), generator=generator, dtype=torch.float64).tolist()
        if chance >= self.probability:
            return frame, (0,) * len(frame)
        scale = 1 / self.rate + share * (1 - 1 / self.rate)
        size = tuple(max(1, round(scale * side)) for side in frame)
        free = (side - length + 1 for side, length in zip(frame, size, strict=True))
        return size, tuple(int(place * room) for place, room in zip(places, free, strict=True))


class _Diverse(PerImage):
    def __init__(self, part: Diversity, generators: Sequence[torch.Generator]) -> None:
        self.part, self.generators = part, list(generators)

    def __call__(self, iterate: Iterate, case: Case) -> Iterate:
        frame = tuple(iterate.current.shape[2:])
        drawn = [self.part.draw(frame, generator) for _ in range(iterate.copies) for generator in self.generators]
        placement = Placement([size for size, _ in drawn], [corner for _, corner in drawn])
        return _placed(iterate, placement, case)


def _placed(iterate: Iterate, placement: Placement, case: Case) -> Iterate:
    if iterate.placement is not None:
        raise InputError("images are made smaller and moved once a step: give input diversity (di) once")
    low = case.victim.bounds[0]
    return replace(
        iterate,
        current=placement.images(iterate.current, low),
        clean=placement.images(iterate.clean, low),
        truth=case.victim.task.placed(iterate.truth, placement, iterate.clean.shape[2:]),
        previous=None if iterate.previous is None else placement.images(iterate.previous, low),
        direction=None if iterate.direction is None else placement.images(iterate.direction, 0),
        placement=placement,
        plain=False,
    )


class Stateless:
    """A stage that holds nothing of any image."""

    def begin(self, case: Case, purpose: str) -> InputStage:
        """Itself."""
        return self

    def keep(self, rows: Tensor) -> None:
        """Nothing to forget."""

    def __call__(self, iterate: Iterate, case: Case) -> Iterate:
        """The iterate as the model is to see it."""
        raise NotImplementedError


@dataclass(frozen=True)
class LookAhead(Stateless):
    """Nesterov's look-ahead, NI (Lin et al., arXiv 1908.06281, eq. 6): the gradient at x + decay · length · velocity.

    The length is that of a step; the velocity is the accumulated gradient, without momentum the last gradient alone.

    Args:
        decay: the μ of the momentum.
    """

    decay: float = 1.0

    def __post_init__(self) -> None:
        not_negative("decay", self.decay)

    def __call__(self, iterate: Iterate, case: Case) -> Iterate:
        """Moved on, from the second step.

        Raises:
            InputError: the threat does not change pixels one by one.
        """
        _needs_pixels("look-ahead", case)
        if iterate.velocity is None or self.decay == 0:
            return iterate
        length = iterate.step_size
        step = per_image(iterate.of_copies(length), iterate.current) if isinstance(length, Tensor) else length
        return replace(iterate, current=iterate.current + self.decay * step * iterate.velocity, plain=False)


def _needs_pixels(what: str, case: Case) -> None:
    if not case.threat.pixels:
        raise InputError(f"{what} is for changes of single pixels, the threat is {case.threat.norm}")
