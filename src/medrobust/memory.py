"""Is an error that of memory that ran out? PyTorch tells it in several ways."""

from __future__ import annotations

import torch


def out_of_memory(error: BaseException) -> bool:
    """Whether the error says that no memory is left, on a GPU or on the CPU."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    # the CPU's allocator raises a plain RuntimeError
    words = ("out of memory", "can't allocate memory", "not enough memory", "Cannot allocate memory")
    return isinstance(error, RuntimeError) and any(word in str(error) for word in words)
