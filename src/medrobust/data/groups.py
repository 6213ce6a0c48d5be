"""Columns by which a set's images are told apart in subgroups, and the groups that their values make.

A number is never kept as it is: it becomes a band, so that records hold no patient's age.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from medrobust.errors import InputError, unknown

MOST_CODES = 6  # so many different small whole numbers may be codes (0 and 1 for sex), more are amounts
_CODES = frozenset(range(10))
_YEARS = {"Y": 1.0, "M": 1 / 12, "W": 7 / 365.25, "D": 1 / 365.25}


@dataclass(frozen=True)
class GroupColumn:
    """A column to group by; `cuts` are where its numbers are cut into bands, ascending, each the start of one.

    Without cuts, numbers are cut in thirds of the images (see `group_labels`).
    """

    name: str
    cuts: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        """Check the cuts, and make a tuple of a list."""
        cuts = tuple(self.cuts)
        object.__setattr__(self, "cuts", cuts)
        finite = all(isinstance(cut, int | float) and not isinstance(cut, bool) and math.isfinite(cut) for cut in cuts)
        if not isinstance(self.name, str) or not self.name.strip():
            raise InputError(f"groups: a column must be a name, got {self.name!r}")
        if not finite or any(low >= high for low, high in pairwise(cuts)):
            raise InputError(f"groups: {self.name!r} must be cut at rising numbers, e.g. age:40,65, got {cuts}")


def read_groups(written: object) -> tuple[GroupColumn, ...]:
    """The columns that are written: "sex,age:40,65", ["sex", {"age": [40, 65]}] or {"sex": None, "age": [40, 65]}.

    Raises:
        InputError: it is none of these, or names a column twice.
    """
    found = tuple(_read(written))
    names = [column.name for column in found]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"groups: {name!r} is there twice; name each column once")
    return found


def group_labels(column: GroupColumn, values: Sequence[str | None]) -> list[str | None]:
    """The group of each value; None where there is none.

    Texts are groups as they are. Numbers, ages as DICOM writes them ("063Y") among them, are cut at the column's cuts,
    or else where they have each third of the images below them ("under 52", "52 to under 65", "65 and over"), but for
    codes: whole numbers from 0 to 9, at most `MOST_CODES` different ones. Where there are cuts, or most values are
    numbers and no codes, what is no number has no group; where fewer are, those that are no codes have none.
    """
    texts = [None if value is None or not value.strip() else value.strip() for value in values]
    numbers = [None if text is None else _number(text) for text in texts]
    known = [number for number in numbers if number is not None]
    if not column.cuts and _are_codes(known):
        return texts
    if not column.cuts and 2 * len(known) <= sum(text is not None for text in texts):
        return [
            text if number is None or number in _CODES else None for text, number in zip(texts, numbers, strict=True)
        ]
    cuts = column.cuts or _thirds(known)
    return [None if number is None else _band(number, cuts) for number in numbers]


def check_groups(
    columns: Sequence[GroupColumn], samples: Sequence[Mapping[str, str]], fields: Collection[str], source: str
) -> None:
    """Raise `InputError` unless each column is one of some sample, or of the `fields` that image files tell.

    Nor may a value that is to be cut be no number. Nothing of a sample is told but that value.
    """
    there = {name for sample in samples for name in sample} | set(fields)
    for column in columns:
        if column.name not in there:
            if not there:
                raise InputError(f"{source}: these data have no columns to group by; leave groups out, or use a CSV")
            raise InputError(f"{source}: {unknown('column to group by', column.name, there)}")
        for sample in samples if column.cuts else ():
            value = sample.get(column.name, "").strip()
            if value and _number(value) is None:
                raise InputError(f"{source}, column {column.name!r}: {value!r} is no number to cut; mend or empty it")


def _read(written: object) -> list[GroupColumn]:
    if isinstance(written, GroupColumn):
        return [written]
    if isinstance(written, str):
        return _split(written)
    if isinstance(written, Mapping):
        return [_of_pair(name, cuts) for name, cuts in written.items()]
    if isinstance(written, list | tuple):
        return [column for one in written for column in _read(one)]
    raise InputError(f"groups must be names of columns, e.g. [sex, {{age: [40, 65]}}], got {written!r}")


def _of_pair(name: object, cuts: object) -> GroupColumn:
    listed: Any = cuts if isinstance(cuts, list | tuple) else () if cuts is None else (cuts,)
    return GroupColumn(str(name), tuple(listed))


def _split(text: str) -> list[GroupColumn]:
    """Of "sex,age:40,65,site" the numbers belong to the column before them."""
    found: list[tuple[str, list[float]]] = []
    for part in text.split(","):
        name, colon, first = part.partition(":")
        number = _number(part)
        if number is not None and found and found[-1][1]:
            found[-1][1].append(number)
            continue
        cut = _number(first)
        if colon and cut is None:
            raise InputError(f"groups: {text!r}: write numbers behind the colon, e.g. age:40,65")
        found.append((name.strip(), [] if cut is None else [cut]))
    return [GroupColumn(name, tuple(cuts)) for name, cuts in found]


def _number(text: str) -> float | None:
    is_age = len(text) == 4 or text.endswith("Y")  # "3D" and "2W" are rarely ages
    try:
        number = float((is_age and in_years(text)) or text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def in_years(age: str) -> str:
    """An age string of DICOM (PS3.5, 6.2) in years: "045Y", "018M", "003W", "010D"; "" of what is none."""
    if not age[:-1].isdigit() or age[-1:] not in _YEARS:
        return ""
    return f"{int(age[:-1]) * _YEARS[age[-1]]:.4g}"


def _are_codes(numbers: Sequence[float]) -> bool:
    different = set(numbers)
    return len(different) <= MOST_CODES and different <= _CODES


def _thirds(numbers: Sequence[float]) -> tuple[float, ...]:
    """To three digits, so that no cut is anybody's exact value; a band below the least number would be empty."""
    cuts = {float(f"{cut:.3g}") for cut in np.quantile(numbers, [1 / 3, 2 / 3])}
    return tuple(sorted(cut for cut in cuts if cut > min(numbers))) or (float(f"{min(numbers):.3g}"),)


def _band(number: float, cuts: Sequence[float]) -> str:
    place = int(np.searchsorted(cuts, number, "right"))
    if place == 0:
        return f"under {cuts[0]:g}"
    if place == len(cuts):
        return f"{cuts[-1]:g} and over"
    return f"{cuts[place - 1]:g} to under {cuts[place]:g}"
