"""What is done to the iterate before the model sees it, so that a step serves more than this very image.

A part is configuration; `begin` gives its state for one run of the loop, which turns an iterate into another one with
all that belongs to it in register, and possibly into several copies of it. The step then follows the mean over the
copies, taken through whatever was done to the image.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from medrobust.attacks.case import Case
from medrobust.attacks.objectives import PER_ROW, Iterate
from medrobust.attacks.per_image import PerImage, State
from medrobust.checks import at_least, not_negative
from medrobust.errors import InputError
from medrobust.tasks import Placement
from medrobust.threat import per_image
from medrobust.transforms import Transform, make_transform


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


class _Stateless:
    """A stage that holds nothing of any image."""

    def begin(self, case: Case, purpose: str) -> InputStage:
        """Itself."""
        return self

    def keep(self, rows: Tensor) -> None:
        """Nothing to forget."""

    def __call__(self, iterate: Iterate, case: Case) -> Iterate:
        raise NotImplementedError


@dataclass(frozen=True)
class Scales(_Stateless):
    """Scale copies, SI (Lin et al., arXiv 1908.06281, section 3.3): the images at 1, 1/2, 1/4, … of their values.

    Copy i is lo + (x − lo)/2^i, so that in Hounsfield units, too, it is darkened towards the lowest value.

    Args:
        copies: how many, m.
    """

    copies: int = 5

    def __post_init__(self) -> None:
        at_least("copies", self.copies, 1)

    def __call__(self, iterate: Iterate, case: Case) -> Iterate:
        """All copies in one batch."""
        low = case.victim.bounds[0]
        scale = 0.5 ** torch.arange(self.copies, device=iterate.current.device, dtype=iterate.current.dtype)

        def darkened(images: Tensor) -> Tensor:
            by = per_image(scale, images.unsqueeze(0))
            made = images * by
            return (made if low == 0 else made.add_(low * (1 - by))).flatten(0, 1)

        return iterate.copied(self.copies, current=darkened(iterate.current), clean=darkened(iterate.clean))


@dataclass(frozen=True)
class LookAhead(_Stateless):
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


@dataclass(frozen=True, eq=False)
class Mixing(_Stateless):
    """Copies mixed with other images, Admix (Wang et al., arXiv 2102.00436, eq. 8): x + share · (x_other − lo).

    The paper takes the others from the batch; here they come from a pool, drawn by each image's own generator, so that
    an image's attack does not depend on its neighbours. The paper shows each of them at `Scales` besides: put that
    after.

    Args:
        pool: `(N, C, *spatial)` of the images' size, of other classes, in data units; where there is none, each image's
            others are itself turned over along its axes.
        share: η, the weight of the other image.
        others: how many copies.
    """

    pool: Tensor | None = None
    share: float = 0.2
    others: int = 3

    def __post_init__(self) -> None:
        at_least("others", self.others, 1)
        not_negative("share", self.share)

    def begin(self, case: Case, purpose: str) -> InputStage:
        """A draw for every image and step.

        Raises:
            InputError: the pool's images are of another shape.
        """
        if self.pool is not None and self.pool.shape[1:] != case.clean.shape[1:]:
            shapes = f"{tuple(self.pool.shape[1:])}, the attacked ones {tuple(case.clean.shape[1:])}"
            raise InputError(f"the images to mix in are {shapes}: they must be of one shape")
        return _Mixed(self, case.generators(purpose))


class _Mixed(PerImage):
    def __init__(self, part: Mixing, generators: Sequence[torch.Generator]) -> None:
        self.part, self.generators = part, list(generators)

    def __call__(self, iterate: Iterate, case: Case) -> Iterate:
        part, low = self.part, case.victim.bounds[0]
        made, rows = iterate.copied(part.others), len(iterate.current)
        drawn = [
            self._other(generator, iterate.clean[row], part.pool)
            for _ in range(part.others)
            for row, generator in enumerate(self.generators * iterate.copies)
        ]
        assert len(drawn) == rows * part.others
        mixed = part.share * (torch.stack(drawn) - low)
        return replace(made, current=made.current + mixed, clean=made.clean + mixed, plain=False)

    @staticmethod
    def _other(generator: torch.Generator, clean: Tensor, pool: Tensor | None) -> Tensor:
        if pool is not None:
            return pool[int(torch.randint(len(pool), (), generator=generator))].to(clean)
        chosen = torch.randint(0, 2, (clean.ndim - 1,), generator=generator).tolist()
        return clean.flip([axis + 1 for axis, turned in enumerate(chosen) if turned])


@dataclass(frozen=True)
class Expectation:
    """Expectation over transforms, EOT (Athalye et al., arXiv 1707.07397, eq. 2): the mean over samples of a transform.

    Against a model that draws at random, or behind preprocessing that the victim does not hold. What has no gradient
    (JPEG, rounding) is passed straight through in the backward pass (BPDA, arXiv 1802.00420, section 4.1).

    Args:
        transform: of `medrobust.transforms`, or as a configuration writes it; None shows the images as they are, which
            averages over the model's own randomness.
        samples: how many copies of each image.
        plain: show the image itself besides.
    """

    transform: Transform | None = None
    samples: int = 8
    plain: bool = False

    def __post_init__(self) -> None:
        at_least("samples", self.samples, 1)
        written: object = self.transform
        if not isinstance(written, Transform | None):
            object.__setattr__(self, "transform", make_transform(written))

    def begin(self, case: Case, purpose: str) -> InputStage:
        """Draws for every image, copy and step."""
        return _Expected(self, case.generators(purpose))


class _Expected(PerImage):
    def __init__(self, part: Expectation, generators: Sequence[torch.Generator]) -> None:
        self.part, self.generators = part, list(generators)

    def __call__(self, iterate: Iterate, case: Case) -> Iterate:
        part, made = self.part, iterate.copied(self.part.samples)
        if part.transform is not None:
            generators = self.generators * made.copies
            current = part.transform(made.current, case.victim.bounds, generators)
            made = replace(made, current=current, plain=False)
        if not part.plain:
            return made
        both: dict[str, Any] = {name: _after(getattr(iterate, name), getattr(made, name)) for name in PER_ROW}
        return replace(made, copies=made.copies + iterate.copies, plain=iterate.plain, **both)


def _after(first: Tensor | None, second: Tensor | None) -> Tensor | None:
    return None if first is None or second is None else torch.cat([first, second])


def _needs_pixels(what: str, case: Case) -> None:
    if not case.threat.pixels:
        raise InputError(f"{what} is for changes of single pixels, the threat is {case.threat.norm}")
