"""Checks of options, in one wording."""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence

from medrobust.errors import InputError


def one_of(name: str, value: object, allowed: Sequence[str]) -> None:
    """Raise `InputError` unless `value` is one of the words allowed."""
    if value not in allowed:
        raise InputError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")


def at_least(name: str, value: object, least: int) -> None:
    """Raise `InputError` unless `value` is a whole number ≥ `least`."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or int(value) < least:
        raise InputError(f"{name} must be a whole number of at least {least}, got {value!r}")


def boolean(name: str, value: object) -> None:
    """Raise `InputError` unless `value` is True or False: a "no" would count as True."""
    if not isinstance(value, bool):
        raise InputError(f"{name} must be true or false, got {value!r}")


def positive(name: str, value: float) -> None:
    """Raise `InputError` unless `value` is finite and above 0."""
    if not _is_number(value) or not math.isfinite(value) or value <= 0:
        raise InputError(f"{name} must be a finite number above 0, got {value!r}")


def not_negative(name: str, value: float) -> None:
    """Raise `InputError` unless `value` is finite and at least 0."""
    if not _is_number(value) or not math.isfinite(value) or value < 0:
        raise InputError(f"{name} must be a finite number, at least 0, got {value!r}")


def _is_number(value: object) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)
