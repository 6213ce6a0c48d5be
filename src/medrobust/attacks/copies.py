"""Input parts that show the model several copies of an image, of which the step follows the mean: SI, Admix, EOT."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from medrobust.attacks.case import Case
from medrobust.attacks.inputs import InputStage, Stateless
from medrobust.attacks.objectives import PER_ROW, Iterate
from medrobust.attacks.per_image import PerImage
from medrobust.checks import at_least, not_negative
from medrobust.errors import InputError
from medrobust.threat import per_image
from medrobust.transforms import Transform, make_transform


@dataclass(frozen=True)
class Scales(Stateless):
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


@dataclass(frozen=True, eq=False)
class Mixing(Stateless):
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
        placement = iterate.placement and iterate.placement.rows([*range(len(iterate.current))] * (part.samples + 1))
        copies = made.copies + iterate.copies
        return replace(made, copies=copies, plain=iterate.plain, placement=placement, **both)


def _after(first: Tensor | None, second: Tensor | None) -> Tensor | None:
    return None if first is None or second is None else torch.cat([first, second])
