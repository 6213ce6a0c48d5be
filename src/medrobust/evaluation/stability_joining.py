"""Two stability analyses in one: of other data or models, but of the same attacks, at the same budget."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace

from medrobust.errors import InputError
from medrobust.evaluation.records import PartInfo
from medrobust.evaluation.stability_files import StabilityInfo


def joined_info(mine: StabilityInfo, theirs: StabilityInfo) -> StabilityInfo:
    """What both tell, their time added up.

    Between data in different units neither the size of the budget nor that of a step can be held to be the same.

    Raises:
        InputError: both have a part of the same name, or attacks, their options, budgets or seeds differ.
    """
    for name in mine.parts.keys() & theirs.parts.keys():
        raise InputError(f"both analyses have a part {name!r}: give one of them another name")
    attacks = [{label for part in info.parts.values() for label in part.attacks} for info in (mine, theirs)]
    if attacks[0] != attacks[1] or mine.reference != theirs.reference:
        raise InputError(f"the analyses are of different attacks: {sorted(attacks[0])} and {sorted(attacks[1])}")
    if mine.seeds != theirs.seeds:
        raise InputError(f"the analyses have different seeds, {mine.seeds} and {theirs.seeds}")
    for one in mine.parts.values():
        for other in theirs.parts.values():
            _check_budgets(one, other)
            _check_options(one, other)
    return replace(
        mine,
        parts=mine.parts | theirs.parts,
        step_lengths=mine.step_lengths | theirs.step_lengths,
        seconds=mine.seconds + theirs.seconds,
    )


def _check_budgets(one: PartInfo, other: PartInfo) -> None:
    threats = (one.threats[0], other.threats[0])
    names = set(threats[0]) | set(threats[1])
    if threats[0].get("unit") != threats[1].get("unit"):
        names = {"norm"}
    elif one.dataset.classes != other.dataset.classes:
        names -= {"region"}  # of classes by their numbers
    unlike = _unlike(*threats, names)
    if unlike:
        raise InputError(f"the analyses are of different budgets: {_told(*threats, unlike)}; trace both at one")


def _check_options(one: PartInfo, other: PartInfo) -> None:
    alike_units = one.threats[0].get("unit") == other.threats[0].get("unit")
    for label, options in one.attacks.items():
        others = other.attacks[label]
        names = (set(options) | set(others)) - (set() if alike_units else {"step_size"})
        unlike = _unlike(options, others, names)
        if unlike:
            raise InputError(
                f"attack {label!r} was not run alike in the two analyses: {_told(options, others, unlike)}; trace "
                "both alike, or apart"
            )


def _unlike(one: Mapping[str, object], other: Mapping[str, object], names: set[str]) -> list[str]:
    return sorted(name for name in names if _as_read(one.get(name)) != _as_read(other.get(name)))


def _told(one: Mapping[str, object], other: Mapping[str, object], names: list[str]) -> str:
    return ", ".join(f"{name} {_as_read(one.get(name))} and {_as_read(other.get(name))}" for name in names)


def _as_read(value: object) -> str:
    """As it is in a file, where a tuple is a list."""
    return json.dumps(value, sort_keys=True, default=str)
