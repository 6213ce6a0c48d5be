"""Images whose channels come last, as NumPy and many files have them: told where a model fails on them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor

from medrobust.errors import InputError, MedrobustError
from medrobust.memory import out_of_memory

CHANNELS = (1, 3)  # of grey and colour images


def channels_last_hint(images: Tensor) -> str:
    """What to do about images `(B, …)` with 1 or 3 values along the last axis and not along the second; else ""."""
    if images.ndim not in (4, 5) or images.shape[1] in CHANNELS or images.shape[-1] not in CHANNELS:
        return ""
    spatial = "H, W" if images.ndim == 4 else "D, H, W"
    return f"images look like (B, {spatial}, C): give (B, C, {spatial})"


@contextmanager
def channel_order_told(images: Tensor) -> Iterator[None]:
    """What a model raises on images `(B, …)` that seem to have their channels last is an `InputError` that says so."""
    try:
        yield
    except MedrobustError:
        raise
    except Exception as error:
        hint = channels_last_hint(images)
        if not hint or out_of_memory(error):
            raise
        raise InputError(f"the model fails on images of shape {tuple(images.shape)}: {hint}") from error
