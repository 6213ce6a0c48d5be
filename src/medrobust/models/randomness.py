"""Random initial weights that are the same every time and leave the caller's random numbers alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def seeded(seed: int = 0) -> Iterator[None]:
    """Inside, torch's CPU generator starts from `seed`; afterwards it is where it was before."""
    # devices=[] and the generator itself: torch.manual_seed would move the accelerators' generators too
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield
