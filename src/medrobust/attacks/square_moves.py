"""The random changes that the square attack tries: patches of the largest change (L∞), pairs of bumps (L2).

Andriushchenko et al., arXiv 1912.00049, algorithms 2 and 3. All are drawn beforehand, for each image from its own
generator. Windows lie within the box around where an image may change.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from medrobust.attacks.case import Case
from medrobust.attacks.per_image import PerImage
from medrobust.threat import TINY, per_image
from medrobust.threat.balls import LInfBall, PixelSpace

TILES = 5  # along each axis, of the first bumps


def uniforms(case: Case, purpose: str, *shape: int) -> Tensor:
    """Draws from [0, 1), `(B, *shape)`, each image's from its own generator."""
    draws = [torch.rand(shape, generator=generator) for generator in case.generators(purpose)]
    return torch.stack(draws).to(case.clean)


class Moves(PerImage, ABC):
    """What may be tried from the best images so far, a window of its own for each.

    Args:
        case: the images.
        count: how many windows will be asked for.
        restart: tells this run's draws from another's.
    """

    def __init__(self, case: Case, count: int, restart: int) -> None:
        self.case = case
        self.axes, self.channels = case.clean.ndim - 2, case.clean.shape[1]
        self.first_draws = uniforms(case, f"square start {restart}", *self.start_shape())
        self.draws = uniforms(case, f"square {restart}", count, self.numbers())
        self.corner, self.extent = _boxes(case)

    @property
    def radius(self) -> Tensor:
        """Of the balls, `(B,)`."""
        assert isinstance(self.case.space, PixelSpace)
        return self.case.space.radius

    def keep(self, rows: Tensor) -> None:
        """Forget all images but those of the rows `(n,)` int64."""
        super().keep(rows)
        self.case = self.case.rows(rows)

    @abstractmethod
    def start_shape(self) -> tuple[int, ...]:
        """Shape of an image's draws for the start."""

    @abstractmethod
    def numbers(self) -> int:
        """How many draws a window takes."""

    @abstractmethod
    def start(self) -> Tensor:
        """The first images to ask about, `(B, C, *spatial)`."""

    @abstractmethod
    def __call__(self, best: Tensor, index: int, share: float) -> Tensor:
        """Window `index` of that share of the pixels, changed in the best images."""

    def sides(self, share: float, least: int = 1, *, odd: bool = False) -> Tensor:
        """Of a square or cube of that share of the box, `(B, axes)` int64: at most as long as the box."""
        side = (share * self.extent.prod(1).double()).pow(1 / self.axes).round().long().clamp_min(least)
        side = side + (1 - side % 2) if odd else side
        return torch.minimum(side.unsqueeze(1), self.extent)

    def places(self, draws: Tensor, sides: Tensor) -> list[Tensor]:
        """Along each axis `(B, length)` int64: places counted from a window's corner that `(B, axes)` draws choose."""
        room = self.extent - sides
        corner = self.corner + torch.minimum((draws * (room + 1)).long(), room)
        return self.counted_from(corner)

    def counted_from(self, corner: Tensor) -> list[Tensor]:
        """Along each axis `(B, length)`: places counted from a corner `(B, axes)`."""
        lengths = self.case.clean.shape[2:]
        return [
            torch.arange(length, device=corner.device) - corner[:, axis, None] for axis, length in enumerate(lengths)
        ]

    def along(self, values: Tensor, axis: int) -> Tensor:
        """`(B, length)` of an axis, `(B, 1, …, length, …, 1)`: it broadcasts over images."""
        shape = [1] * self.axes
        shape[axis] = -1
        return values.reshape(len(values), 1, *shape)

    def inside(self, places: Sequence[Tensor], sides: Tensor) -> Tensor:
        """Bool `(B, 1, *spatial)`: the window."""
        window = torch.ones((), dtype=torch.bool, device=sides.device)
        for axis, place in enumerate(places):
            window = window & self.along((place >= 0) & (place < sides[:, axis, None]), axis)
        return window


class Patches(Moves):
    """L∞: in the window every channel goes to one end of what it may be; at first every column does (algorithm 2)."""

    def start_shape(self) -> tuple[int, ...]:
        """A sign for every channel and column."""
        return (self.channels, *[1] * (self.axes - 1), self.case.clean.shape[-1])

    def numbers(self) -> int:
        """A corner, a sign a channel."""
        return self.axes + self.channels

    def start(self) -> Tensor:
        """Stripes one pixel wide, across the last axis."""
        return self._ends(self.first_draws).clone()

    def __call__(self, best: Tensor, index: int, share: float) -> Tensor:
        """±eps in the window, cut to the bounds."""
        drawn, sides = self.draws[:, index], self.sides(share)
        window = self.inside(self.places(drawn[:, : self.axes], sides), sides)
        signs = drawn[:, self.axes :].reshape(len(best), self.channels, *[1] * self.axes)
        return torch.where(window, self._ends(signs), best)

    def _ends(self, draws: Tensor) -> Tensor:
        space = self.case.space
        assert isinstance(space, LInfBall)
        low, high = space.limits
        return torch.where(draws < 0.5, low, high)


class Bumps(Moves):
    """L2: one window's change is spent on two bumps of opposite sign in another one (algorithm 3)."""

    def start_shape(self) -> tuple[int, ...]:
        """A sign a channel, and the axis of the pair, for every tile."""
        return (TILES**self.axes, self.channels + 1)

    def numbers(self) -> int:
        """Two corners, an axis, a sign a channel."""
        return 2 * self.axes + 1 + self.channels

    def start(self) -> Tensor:
        """Bumps all over the image, in five tiles along each axis."""
        tiles = self.extent.clamp_max(TILES)
        sides = self.extent // tiles
        places = self.counted_from(self.corner + (self.extent - tiles * sides) // 2)
        window = self.inside(places, tiles * sides)
        which = torch.zeros((), dtype=torch.int64, device=sides.device)
        for axis, place in enumerate(places):
            which = which * TILES + self.along((place // sides[:, axis, None]).clamp(0, TILES - 1), axis)
        within = [place % sides[:, axis, None] for axis, place in enumerate(places)]
        drawn = self.first_draws.gather(1, which.flatten(1).unsqueeze(2).expand(-1, -1, self.channels + 1)).movedim(
            2, 1
        )
        drawn = drawn.reshape(len(which), self.channels + 1, *which.shape[2:])
        split = (drawn[:, :1] * self.axes).long()
        bumps = self._pairs(within, sides, split, window, which, TILES**self.axes)
        return self._at_radius(bumps * (2 * (drawn[:, 1:] < 0.5) - 1))

    def __call__(self, best: Tensor, index: int, share: float) -> Tensor:
        """The change of a second window moved into a first one, on top of what is there."""
        axes, count = self.axes, len(best)
        drawn, sides = self.draws[:, index], self.sides(share, 3, odd=True)
        first, second = (self.places(drawn[:, begin : begin + axes], sides) for begin in (0, axes))
        window, emptied = self.inside(first, sides), self.inside(second, sides)
        split = per_image((drawn[:, 2 * axes] * axes).long(), best)
        signs = (2 * (drawn[:, 2 * axes + 1 :] < 0.5) - 1).reshape(count, -1, *[1] * axes)
        delta, radius = best - self.case.clean, per_image(self.radius, best)
        squares = delta.square()
        unused = (radius.square() - _total(squares, 1)).clamp_min(0) / self.channels
        available = (_total(squares * (window | emptied), 2) + unused).sqrt()
        pairs = self._pairs(first, sides, split, window, torch.zeros_like(split), 1) / 2**0.5
        added = signs * pairs + torch.where(window, delta, 0) / _total(squares * window, 2).sqrt().clamp_min(TINY)
        added = self.case.space.allowed(added)
        added = added * (available / _total(added.square(), 2).sqrt().clamp_min(TINY))
        return self._at_radius(torch.where(window, added, torch.where(emptied, 0, delta)))

    def _pairs(
        self, places: Sequence[Tensor], sides: Tensor, split: Tensor, window: Tensor, which: Tensor, count: int
    ) -> Tensor:
        """Two pyramids side by side, of opposite sign and unit norm, in each of `count` tiles.

        Eq. 2 of the paper: a value of Σ 1/(k + 1)² over the rings k from its own to the outermost.

        Args:
            places: along each axis `(B, length)`, counted from the corner of the tile.
            sides: of a tile, `(B, axes)`.
            split: the axis along which a tile is cut in two, int64, broadcasts to `(B, 1, *spatial)`.
            window: bool `(B, 1, *spatial)`, where the tiles are.
            which: the number of the tile, int64, broadcasts likewise.
            count: of the tiles.
        """
        shape = window.shape
        distance = torch.zeros((), dtype=torch.int64, device=sides.device)
        rings = torch.zeros_like(distance)
        later = torch.zeros((), dtype=torch.bool, device=sides.device)
        for axis, place in enumerate(places):
            side = sides[:, axis, None]
            in_second = place >= side // 2
            half = torch.where(in_second, side - side // 2, side // 2)
            in_half = torch.where(in_second, place - side // 2, place)
            cut = split == axis
            size = torch.where(cut, self.along(half, axis), self.along(side.expand_as(place), axis))
            place = torch.where(cut, self.along(in_half, axis), self.along(place, axis))
            distance = torch.maximum(distance, (place - size // 2).abs())
            rings = torch.maximum(rings, size // 2 + 1)
            later = later | (cut & self.along(in_second, axis))
        weights = torch.arange(1, int(sides.max()) + 2, device=sides.device).to(self.case.clean).pow(-2)
        summed = torch.cat([weights.new_zeros(1), weights.cumsum(0)])
        outer = torch.minimum(rings, torch.full_like(rings, len(weights)))
        height = torch.where(window, summed[outer] - summed[torch.minimum(distance, outer)], 0)
        half_of = (2 * which + later).expand(shape).flatten(1)
        flat = height.flatten(1)
        norms = flat.new_zeros(len(flat), 2 * count).scatter_add_(1, half_of, flat.square()).sqrt().clamp_min(TINY)
        unit = (flat / norms.gather(1, half_of)).reshape(shape)
        return torch.where(later, -unit, unit)

    def _at_radius(self, delta: Tensor) -> Tensor:
        """The images changed by so much, cut to the bounds."""
        space = self.case.space
        moved = self.case.clean + space.steepest(space.allowed(delta)) * per_image(self.radius, delta)
        space.project_(moved)
        return moved


def _total(values: Tensor, first: int) -> Tensor:
    """Sums over all axes from `first`, which stay with length 1."""
    return values.sum(tuple(range(first, values.ndim)), keepdim=True)


def _boxes(case: Case) -> tuple[Tensor, Tensor]:
    """First corner and sides `(B, axes)` of the box around where each image may change."""
    free = case.space.allowed(torch.ones_like(case.clean)).amax(1) > 0
    corners, extents = [], []
    for axis, length in enumerate(case.clean.shape[2:]):
        others = [other for other in range(1, free.ndim) if other != axis + 1]
        used = free.any(others) if others else free
        used = used | ~used.any(1, keepdim=True)  # nowhere: then nothing will change anyway
        first = used.int().argmax(1)
        corners.append(first)
        extents.append(length - used.flip(1).int().argmax(1) - first)
    return torch.stack(corners, 1), torch.stack(extents, 1)
