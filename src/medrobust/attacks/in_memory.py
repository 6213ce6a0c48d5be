"""A batch attacked whole, or in parts where the memory does not hold it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from medrobust.attacks.result import AttackResult, joined_results
from medrobust.memory import halved, out_of_memory
from medrobust.threat import Threat

AttackAtOnce = Callable[[Tensor, Tensor, Sequence[Threat], Sequence[object] | None], list[AttackResult]]
"""Attacks images of some truth at budgets, with ids: a result for each budget."""


def in_memory(
    at_once: AttackAtOnce, images: Tensor, truth: Tensor, threats: Sequence[Threat], ids: Sequence[object] | None
) -> list[AttackResult]:
    """The results; where the whole batch does not fit into memory, of smaller and smaller parts of it."""
    count = len(images) if isinstance(images, Tensor) else 0
    known = list(range(count)) if ids is None else list(ids)
    if count < 2 or not isinstance(truth, Tensor) or len(known) != count or len(truth) != count:
        return at_once(images, truth, threats, ids)
    parts: list[list[AttackResult]] = []
    places: list[Tensor] = []
    size, begin = count, 0
    while begin < count:
        rows = torch.arange(begin, min(begin + size, count))
        some = [threat.rows(rows, count) for threat in threats] if len(rows) < count else threats
        names = known[begin : begin + size]
        try:
            parts.append(at_once(images[begin : begin + size], truth[rows], some, names))
        except (RuntimeError, MemoryError) as error:
            if len(rows) < 2 or not out_of_memory(error):
                raise
        else:
            places.append(rows)
            begin += len(rows)
            continue
        size = halved(len(rows))
    return [joined_results(of_one, places) for of_one in zip(*parts, strict=True)]
