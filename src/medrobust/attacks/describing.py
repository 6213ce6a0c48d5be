"""How records and reports hold an attack's options."""

from __future__ import annotations

from dataclasses import fields, is_dataclass

from torch import Tensor


def described(value: object) -> object:
    """An option as records and reports hold it: of a part its name with its own options, of a tensor its shape."""
    if isinstance(value, Tensor):
        return f"tensor {tuple(value.shape)}"
    if isinstance(value, list | tuple):
        return [described(one) for one in value]
    if isinstance(value, dict):
        return {str(name): described(one) for name, one in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        return {"part": type(value).__name__, **{f.name: described(getattr(value, f.name)) for f in fields(value)}}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return getattr(value, "__name__", type(value).__name__)
