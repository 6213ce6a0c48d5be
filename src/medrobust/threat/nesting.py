"""Do several threats lie in each other, so that what one allows the next one does too?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

from torch import Tensor

from medrobust.threat.pixels import Threat


def nested(threats: Sequence[Threat]) -> bool:
    """Whether they differ in nothing but one radius each: a smaller ball then lies in a larger one.

    With a grid that is counted so, too: its points do not hang on the radius.
    """
    first, *others = threats
    same = [f.name for f in fields(first) if f.name != "eps"]
    return not isinstance(first.eps, Tensor) and all(
        type(other) is type(first)
        and not isinstance(other.eps, Tensor)
        and all(_alike(getattr(first, name), getattr(other, name)) for name in same)
        for other in others
    )


def _alike(one: object, other: object) -> bool:
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return one is other or (one.shape == other.shape and bool((one == other).all()))
    return not isinstance(one, Tensor) and not isinstance(other, Tensor) and one == other
