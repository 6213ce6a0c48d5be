"""The base of attacks that look for the nearest image with another answer, however far it is.

Such an attack searches once, without a budget: the eps of a threat says only which of the images found may be handed
in. So one search serves all budgets, and the curve of robust accuracy over eps is that of the sizes it has found.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor

from medrobust.attacks.attack import SearchAttack
from medrobust.attacks.case import Case, Effort, Found, rows_where
from medrobust.checks import at_least
from medrobust.threat import TINY, Threat, differ_in_eps_alone, per_image
from medrobust.threat.balls import LInfBall, PixelSpace

POWER = {"linf": torch.inf, "l2": 2.0, "l1": 1.0}
DUAL = {"linf": 1.0, "l2": 2.0, "l1": torch.inf}
# how much farther out an image goes that is not adversarial as it would be saved: by 1, 2, 4 … % up to 10 times
_BEYOND = tuple(1 + 0.01 * 2**power for power in range(11))


@dataclass(frozen=True)
class Nearest:
    """What a search found.

    Attributes:
        images: `(B, C, *spatial)`, within the bounds and the mask: the smallest change that reaches the goal; where
            none does, the last one tried.
        effort: what it cost.
    """

    images: Tensor
    effort: Effort


@dataclass(frozen=True, kw_only=True)
class NearestAttack(SearchAttack):
    """Base of the minimum-norm attacks.

    What the search hands over is put on the line from the clean image: out along it where the image, as it would be
    saved, is not adversarial (rounding to a grid goes towards the clean image and can undo an attack; a search may end
    a hair before the border), then back by bisection. `smallest` is measured on the image that is left, in the norm of
    the threat; of images that are wrong from the start it is 0. Handed in at a budget is that image where it is within
    eps, else its projection into the ball.

    The effort is the search's, the same at every budget.

    Args:
        refine: steps of the last bisection between the clean image and the one found, a forward each; 8 take off what
            is left but 0.4 % of the distance. 0 leaves the search's own result.

    Raises:
        InputError: refine is no whole number of at least 0.
    """

    refine: int = 8

    def __post_init__(self) -> None:
        at_least("refine", self.refine, 0)

    @abstractmethod
    def nearest(self, case: Case) -> Nearest:
        """Search for images none of which is at the goal already. The eps of the threat is not to be looked at."""

    @property
    def shares_budgets(self) -> bool:
        """One search serves all."""
        return True

    def search(self, case: Case) -> Found:
        """Search, and hand in at the one budget."""
        return self.search_all([case])[0]

    def search_all(self, cases: Sequence[Case]) -> list[Found]:
        """Search once for all cases that differ in eps alone."""
        searched: list[tuple[Threat, _Reached]] = []
        found = []
        for case in cases:
            known = [reached for threat, reached in searched if differ_in_eps_alone(threat, case.threat)]
            if not known:
                known = [self._reach(case)]
                searched.append((case.threat, known[0]))
            found.append(_within(case, known[0]))
        return found

    def _reach(self, case: Case) -> _Reached:
        clean = case.judge(case.clean)
        images, effort = clean.image.clone(), Effort.of(case)
        size = torch.where(clean.success, 0.0, torch.inf).double()
        rows = rows_where(~clean.success)
        if len(rows):
            part = case.rows(rows)
            found = self.nearest(part)
            images[rows], size[rows] = _on_the_line(part, found.images.detach(), self.refine)
            effort.add(found.effort, rows)
        return _Reached(images.to(case.clean.dtype), _rounded_up(size, case.clean.dtype), effort)


@dataclass(frozen=True)
class _Reached:
    """Images as they would be saved, and their sizes `(B,)`; inf where none is adversarial."""

    images: Tensor
    size: Tensor
    effort: Effort


class Closest:
    """Per image the smallest change so far that reaches the goal."""

    def __init__(self, case: Case) -> None:
        self.images = case.clean.clone()
        self.size = case.clean.new_full((len(case),), torch.inf)

    def see(self, images: Tensor, reached: Tensor, size: Tensor, rows: Tensor | None = None) -> None:
        """Take what is better; `rows` are the places of some of the images."""
        rows = torch.arange(len(self.size), device=self.size.device) if rows is None else rows
        better = reached & (size < self.size[rows])
        self.images[rows] = torch.where(per_image(better, images), images, self.images[rows])
        self.size[rows] = torch.where(better, size, self.size[rows])

    def or_else(self, last: Tensor) -> Tensor:
        """The images, with those of the last iterate where none was found."""
        return torch.where(per_image(torch.isinf(self.size), last), last, self.images)


def ball(case: Case, radius: Tensor) -> PixelSpace:
    """The threat's ball at radii of the search's own, `(B,)`."""
    return replace(cast("PixelSpace", case.space), radius=radius)


def limits(case: Case) -> tuple[Tensor, Tensor]:
    """The least and the greatest value that every pixel may have, whatever eps; the clean one where it is fixed."""
    anywhere = case.clean.new_full((len(case),), torch.inf)
    return LInfBall(case.clean, case.victim.bounds, anywhere, cast("PixelSpace", case.space).free).limits


def length(change: Tensor, power: float) -> Tensor:
    """The norm of each image's change, `(B,)`; its largest entry first, or the squares of a tiny one would be lost."""
    flat = change.flatten(1)
    largest = flat.abs().amax(1)
    if power == torch.inf:
        return largest
    relative: Tensor = (flat / largest.clamp_min(TINY).unsqueeze(1)).norm(p=power, dim=1)
    return largest * relative


def width(case: Case) -> float:
    """Of the bounds: the unit of the papers' constants, whose images are in [0, 1]."""
    return case.victim.bounds[1] - case.victim.bounds[0]


def _size(case: Case, images: Tensor) -> Tensor:
    """Of the change, in the threat's norm, float64 `(B,)`."""
    return length(images.double() - case.clean.double(), POWER[case.threat.norm])


def _rounded_up(size: Tensor, dtype: torch.dtype) -> Tensor:
    """In another dtype, so that a budget of just that size allows the image."""
    rounded = size.to(dtype)
    return torch.where(rounded.double() < size, rounded.nextafter(torch.full_like(rounded, torch.inf)), rounded)


@torch.no_grad()
def _within(case: Case, reached: _Reached) -> Found:
    """Hand in at one budget."""
    eps = torch.as_tensor(case.threat.eps, dtype=torch.float64, device=case.clean.device)
    projected = reached.images.clone()
    case.space.project_(projected)
    allowed = per_image(reached.size.double() <= eps, projected)
    candidate = case.judge(torch.where(allowed, reached.images, projected))
    # a projection that reaches the goal is a smaller change found, within eps but for its own rounding
    projected_size = _rounded_up(_size(case, candidate.image).minimum(eps), reached.size.dtype)
    size = torch.where(candidate.success, projected_size.minimum(reached.size), reached.size)
    return Found(candidate, reached.effort, size)


@torch.no_grad()
def _on_the_line(case: Case, tips: Tensor, refine: int) -> tuple[Tensor, Tensor]:
    """The nearest adversarial image, as saved, on the line from the clean image through a tip, and its size."""
    low, high = limits(case)
    candidate = case.judge(tips)
    images, reached = candidate.image.clone(), candidate.success.clone()
    inner, outer = torch.zeros(2, len(case), dtype=case.clean.dtype, device=case.clean.device)
    outer += 1

    def tried(rows: Tensor, reach: Tensor) -> tuple[Tensor, Tensor]:
        part, clean = case.rows(rows), case.clean[rows]
        there = clean + per_image(reach, clean) * (tips[rows] - clean)
        made = part.judge(there.clamp(low[rows], high[rows]))
        return made.image, made.success

    moved = (tips != case.clean).flatten(1).any(1)
    for reach in _BEYOND:
        rows = rows_where(moved & ~reached)
        if not len(rows):
            break
        images[rows], reached[rows] = tried(rows, outer.new_full((len(rows),), reach))
        inner[rows], outer[rows] = outer[rows], reach
    rows = rows_where(reached)
    for _ in range(refine if len(rows) else 0):
        middle = (inner[rows] + outer[rows]) / 2
        image, success = tried(rows, middle)
        images[rows] = torch.where(per_image(success, image), image, images[rows])
        inner[rows], outer[rows] = (
            torch.where(success, inner[rows], middle),
            torch.where(success, middle, outer[rows]),
        )
    # what was tried farther out served nothing where it failed
    images = torch.where(per_image(reached, images), images, candidate.image)
    return images, torch.where(reached, _size(case, images), torch.inf)
