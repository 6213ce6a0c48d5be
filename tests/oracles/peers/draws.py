"""Random draws of other libraries, replaced by given ones or seeded, with everybody's generators left as they were."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from unittest import mock

import numpy as np
import torch
from torch import Tensor


@contextmanager
def seeded(seed: int = 0) -> Iterator[None]:
    """Seed the global generators of Python, NumPy and PyTorch inside, and put them back afterwards."""
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)


@contextmanager
def given_in_place(method: str, values: Iterable[Tensor]) -> Iterator[None]:
    """Every call of `tensor.method(…)`, such as `uniform_`, writes the next of `values` instead of drawing."""
    remaining = iter(values)

    def write(self: Tensor, *arguments: object, **options: object) -> Tensor:
        return self.copy_(next(remaining))

    with mock.patch.object(torch.Tensor, method, write):
        yield
    _all_used(method, remaining)


@contextmanager
def given(function: str, values: Iterable[Tensor]) -> Iterator[None]:
    """Every call of `torch.function(…)`, such as `rand`, returns the next of `values` instead of drawing."""
    remaining = iter(values)

    def answer(*arguments: object, **options: object) -> Tensor:
        return next(remaining)

    with mock.patch.object(torch, function, answer):
        yield
    _all_used(function, remaining)


def _all_used(name: str, remaining: Iterator[Tensor]) -> None:
    left = sum(1 for _ in remaining)
    if left:
        raise AssertionError(f"the peer left {left} of the given draws of {name} unused")
