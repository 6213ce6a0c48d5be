"""Do several threats lie in each other, so that what one allows the next one does too?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

from torch import Tensor

from medrobust.threat.pixels import Threat


def nested(threats: Sequence[Threat]) -> bool:
    """Whether they differ in nothing but one radius each: a smaller ball then lies in a larger one.

    With a grid, too: its points do not hang on the radius.
    """
    single = not any(isinstance(threat.eps, Tensor) for threat in threats)
    return single and all(differ_in_eps_alone(threats[0], other) for other in threats[1:])


def differ_in_eps_alone(one: Threat, other: Threat) -> bool:
    """Whether all but the radius, be it one or one per image, is the same."""
    names = [f.name for f in fields(one) if f.name != "eps"]
    return type(one) is type(other) and all(_alike(getattr(one, name), getattr(other, name)) for name in names)


def _alike(one: object, other: object) -> bool:
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return one is other or (one.shape == other.shape and bool((one == other.to(one)).all()))
    return not isinstance(one, Tensor) and not isinstance(other, Tensor) and one == other
