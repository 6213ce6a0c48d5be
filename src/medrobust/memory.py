"""Memory that runs out: is an error that, and with how many images do we go on?"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch

from medrobust.errors import MedrobustWarning

_LISTENERS: ContextVar[tuple[list[int], ...]] = ContextVar("listeners", default=())


def out_of_memory(error: BaseException) -> bool:
    """Whether the error says that no memory is left, on a GPU or on the CPU."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    # the CPU's allocator raises a plain RuntimeError
    words = ("out of memory", "can't allocate memory", "not enough memory", "Cannot allocate memory")
    return isinstance(error, RuntimeError) and any(word in str(error) for word in words)


def halved(count: int) -> int:
    """Half as many images, once `count` of them were too many; whoever listens to `halvings` hears of it.

    To be called outside of the handler, whose traceback keeps the tensors of the failed try alive.

    Warns:
        MedrobustWarning: always.
    """
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    half = count // 2
    warnings.warn(
        f"out of memory with {count} images at once: going on with {half}; the results are the same",
        MedrobustWarning,
        stacklevel=3,
    )
    for heard in _LISTENERS.get():
        heard.append(half)
    return half


@contextmanager
def halvings() -> Iterator[list[int]]:
    """All that `halved` gives inside, in this thread, however deep."""
    heard: list[int] = []
    token = _LISTENERS.set((*_LISTENERS.get(), heard))
    try:
        yield heard
    finally:
        _LISTENERS.reset(token)
