"""Which images of a run are probed, and at which of its budgets."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from medrobust.threat import Threat

Rows = Sequence[Mapping[str, object]]


@dataclass(frozen=True)
class Choice:
    """Places in the data set, whether these images were answered right, and the budget."""

    images: list[int]
    right: bool
    threat: Threat


def choose(rows: Rows, threats: Sequence[Threat], count: int) -> Choice:
    """At most `count` images, evenly spread over those answered right, and the budget at which most is open.

    That is the one at which the worst case is nearest to half of the clean figure: where everything is left, or nothing
    is, a weak attack looks like a strong one. Without an image answered right, any are taken.

    Args:
        rows: the records of a part.
        threats: its budgets.
        count: at least 1.
    """
    places = sorted({_index(row) for row in rows if row["right_before"]})
    right = bool(places)
    places = places or sorted({_index(row) for row in rows})
    if len(places) > count:
        places = [places[step * len(places) // count] for step in range(count)]
    return Choice(places, right, _open_budget(rows, threats))


def _open_budget(rows: Rows, threats: Sequence[Threat]) -> Threat:
    clean = {_index(row): _left(row, "before") for row in rows}
    half = sum(clean.values()) / len(clean) / 2
    worst: dict[tuple[object, object], dict[int, float]] = defaultdict(dict)
    for row in rows:
        cell = worst[row["norm"], row["eps"]]
        cell[_index(row)] = min(cell.get(_index(row), 1.0), _left(row, "after"))

    def distance(threat: Threat) -> tuple[float, float]:
        left = worst[threat.norm, threat.budget()].values()
        mean = sum(left) / len(left)
        return abs(mean - half), -threat.budget() if mean > half else threat.budget()

    return min(threats, key=distance)


def _left(row: Mapping[str, object], when: str) -> float:
    """What is left of an answer: the Dice, the F1, or whether it is right."""
    values = (row.get(f"{name}_{when}") for name in ("dice", "f1", "right"))
    return next(float(value) for value in values if isinstance(value, bool | float))


def _index(row: Mapping[str, object]) -> int:
    index = row["index"]
    assert isinstance(index, int)
    return index
