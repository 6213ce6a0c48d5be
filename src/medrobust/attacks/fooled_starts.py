"""Where a walk along the decision boundary begins: at an image that is fooled, however far away."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from medrobust.attacks.asking import Decisions
from medrobust.errors import InputError
from medrobust.threat.drawing import drawn

TRIES = 100  # of noise
GRIDS = (None, 1, 2, 4, 8)  # values along each axis; None: as many as pixels


def first_fooled(
    ask: Decisions, rows: Tensor, given: Tensor | None, generators: Sequence[torch.Generator], *, noise: bool
) -> tuple[Tensor, Tensor]:
    """The images of `rows` `(n,)` for which a fooled one was found, in rising order, and that one.

    Tried in turn are the given ones, then uniform noise from bound to bound: every pixel by itself, as in arXiv
    1904.02144, then in 1, 2, 4 and 8 patches along each axis, for many a network answers all fine noise alike; and so
    on. Where nothing may change, the images stay clean.

    Args:
        ask: tells, and counts.
        rows: int64, places in the case.
        given: `(N, C, *spatial)` or None.
        generators: one for each image of the case.
        noise: whether to try noise at all.

    Raises:
        InputError: the given images are of another shape.
    """
    clean = ask.case.clean
    tries: list[Callable[[Tensor], Tensor]] = []
    if given is not None:
        if given.shape[1:] != clean.shape[1:]:
            shapes = f"{tuple(given.shape[1:])}, the attacked ones {tuple(clean.shape[1:])}"
            raise InputError(f"the images to start at are {shapes}: they must be of one shape")
        tries += [partial(_given, image) for image in given.to(clean)]
    if noise:
        tries += [partial(_noise, ask, generators, GRIDS[index % len(GRIDS)]) for index in range(TRIES)]
    found = [(rows[:0], clean[:0])]
    for attempt in tries:
        rows = rows[ask.left(rows) > 0]
        if not len(rows):
            break
        points = ask.limited(rows, attempt(rows))
        fooled = ask(rows, points)
        found.append((rows[fooled], points[fooled]))
        rows = rows[~fooled]
    chosen, points = (torch.cat(parts) for parts in zip(*found, strict=True))
    order = chosen.argsort()
    return chosen[order], points[order]


def _given(image: Tensor, rows: Tensor) -> Tensor:
    return image.expand(len(rows), *image.shape)


def _noise(ask: Decisions, generators: Sequence[torch.Generator], grid: int | None, rows: Tensor) -> Tensor:
    low, high = ask.case.victim.bounds
    clean = ask.case.clean
    frame = [length if grid is None else min(grid, length) for length in clean.shape[2:]]
    like = clean.new_empty(len(rows), clean.shape[1], *frame)
    values = low + (high - low) * drawn(torch.rand, like, [generators[row] for row in rows.tolist()])
    return values if grid is None else F.interpolate(values, clean.shape[2:], mode="nearest")
