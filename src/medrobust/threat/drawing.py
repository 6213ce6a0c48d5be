"""Randomness that belongs to one image: from the seed and its id, on the CPU, the same on every device."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def derived(seed: int, *purpose: object) -> int:
    """A seed for one purpose, from another."""
    text = "|".join(map(str, (seed, *purpose)))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def sample_generators(seed: int, ids: Sequence[object], purpose: str) -> list[torch.Generator]:
    """A CPU generator for each sample, from seed, id and purpose alone: not its batch, place or the global RNG."""
    return [torch.Generator().manual_seed(derived(seed, purpose, sample_id)) for sample_id in ids]


def drawn(draw: Callable[..., Tensor], like: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
    """`draw(shape, generator=…)` for each row of `like` `(B, …)`, from its own generator."""
    if not generators:
        return like.new_empty(like.shape)
    return torch.stack([draw(row.shape, generator=g) for row, g in zip(like, generators, strict=True)]).to(like)


def uniform(like: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
    """Uniform draws from [−1, 1], shaped as `like`."""
    return 2 * drawn(torch.rand, like, generators) - 1


def laplace(shape: Sequence[int], *, generator: torch.Generator) -> Tensor:
    """Draws of the density exp(−|t|)/2, in float64."""
    size = torch.empty(tuple(shape), dtype=torch.float64).exponential_(generator=generator)
    return torch.where(torch.rand(tuple(shape), generator=generator) < 0.5, -size, size)
