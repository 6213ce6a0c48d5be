"""What the records tell of masks beside Dice: borders, missed volume, lesions found by their size."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

FOUND = 0.5  # a lesion counts as found when at least this share of it is covered
HD95, SURFACE_DICE, MISSED, LESIONS = "hd95", "surface dice", "missed volume", "lesions found: "
SIZES = ("small", "medium", "large")

Values = NDArray[np.float64]


class Figure(NamedTuple):
    """A figure that is the sum of `values` (n,) over that of `weights`, or their mean; NaN is left out."""

    name: str
    values: Values
    weights: Values | None = None


def mask_figures(rows: pl.DataFrame, when: str) -> Iterator[Figure]:
    """The figures of one condition that its rows can tell.

    "hd95" (mm) and "surface dice" where the spacing is known; "missed volume (<unit>)", over the images of each unit;
    and the share of lesions found, "lesions found: small", "medium" and "large": thirds by size of all lesions of
    these images, in one unit.
    """
    for name in (HD95, SURFACE_DICE):
        values = _floats(rows[f"{name.replace(' ', '_')}_{when}"])
        if np.isfinite(values).any():
            yield Figure(name, values)
    missed = _floats(rows[f"missed_volume_{when}"])
    units = rows["volume_unit"]
    for unit in sorted(units.drop_nulls().unique().to_list()):
        of_unit = (units == unit).fill_null(value=False).to_numpy()
        yield Figure(f"{MISSED} ({unit})", np.where(of_unit, missed, np.nan))
    yield from _lesions(rows, when)


def size_cuts(rows: pl.DataFrame) -> tuple[float, float, str] | None:
    """The sizes up to which a lesion is small, and medium, with their unit; None without lesions of one unit.

    Args:
        rows: one an image.
    """
    with_lesions = rows.filter(pl.col("lesion_volumes_before").list.len() > 0)
    volumes = with_lesions["lesion_volumes_before"].explode().to_numpy()
    units = with_lesions["volume_unit"].unique().to_list()
    if not len(volumes) or len(units) != 1:
        return None
    small, medium = np.quantile(volumes, [1 / 3, 2 / 3])
    return float(small), float(medium), str(units[0])


def _lesions(rows: pl.DataFrame, when: str) -> Iterator[Figure]:
    cuts = size_cuts(rows)
    if cuts is None:
        return
    total, found = np.zeros((2, len(SIZES), len(rows)))
    columns = (f"lesion_volumes_{when}", f"lesion_covered_{when}")
    for place, (volumes, covered) in enumerate(rows.select(columns).iter_rows()):
        # a lesion as large as a cut is of the smaller kind
        size = np.searchsorted(cuts[:2], volumes or [])
        np.add.at(total[:, place], size, 1)
        np.add.at(found[:, place], size, np.asarray(covered or []) >= FOUND)
    for name, of_size, of_them in zip(SIZES, total, found, strict=True):
        if of_size.any():
            yield Figure(LESIONS + name, np.where(of_size > 0, of_them, np.nan), of_size)


def _floats(column: pl.Series) -> Values:
    return column.cast(pl.Float64).to_numpy()
