"""What robustness costs: what is left of several models on the same images, clean and in the worst case."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from medrobust.errors import InputError
from medrobust.evaluation import own_parts
from medrobust.evaluation.records import CLEAN, WORST_CASE, RunInfo
from medrobust.statistics.task_traits import TASK_TRAITS

TRADEOFF_SCHEMA: dict[str, pl.DataType | type[pl.DataType]] = {
    "part": pl.String,
    "model": pl.String,  # what the run is called
    "norm": pl.String,
    "eps": pl.Float64,  # in data units
    "metric": pl.String,
    "clean": pl.Float64,
    "clean_low": pl.Float64,  # null where no interval can be given
    "clean_high": pl.Float64,
    "attacked": pl.Float64,  # in the worst case over the attacks
    "attacked_low": pl.Float64,
    "attacked_high": pl.Float64,
    "confidence": pl.Float64,
    "n": pl.Int64,  # images
    "clusters": pl.Int64,  # patients among them, or images
}
_SAME = ("task", "data_sha256", "evaluated", "threats")


def tradeoff_rows(runs: Mapping[str, tuple[pl.DataFrame, RunInfo]]) -> pl.DataFrame:
    """The main metric of each model clean and in the worst case, a row per part, budget and model.

    Args:
        runs: name → summary, as `summarise` returns it, and info.

    Returns:
        Columns as `TRADEOFF_SCHEMA`; parts in the order of the first run, models as given.

    Raises:
        InputError: there is no run, or two differ in parts, images, budgets or attacks: their worst cases say nothing
            of each other.
    """
    if not runs:
        raise InputError("a trade-off needs at least one run")
    (first_name, (_, first)), *others = runs.items()
    for name, (_, info) in others:
        _check_alike((first_name, first), (name, info))
    frames = [
        _of_model(summary, part, name, TASK_TRAITS[first.parts[part].task].main)
        for part in own_parts(first.parts)
        for name, (summary, _) in runs.items()
    ]
    table = pl.concat(frames)
    parts, models = (pl.Enum(list(names)) for names in (own_parts(first.parts), runs))
    return table.sort(pl.col("part").cast(parts), "norm", "eps", pl.col("model").cast(models), maintain_order=True)


def _check_alike(first: tuple[str, RunInfo], other: tuple[str, RunInfo]) -> None:
    names = f"{first[0]!r} and {other[0]!r}"
    parts = [list(own_parts(info.parts)) for _, info in (first, other)]
    if sorted(parts[0]) != sorted(parts[1]):
        raise InputError(f"{names} are of other parts: {', '.join(parts[0])}; {', '.join(parts[1])}")
    for part in parts[0]:
        one, two = first[1].parts[part], other[1].parts[part]
        for field in _SAME:
            if getattr(one, field) != getattr(two, field):
                what = {"data_sha256": "images", "evaluated": "number of images", "threats": "budgets"}.get(
                    field, field
                )
                raise InputError(f"{names} differ in their {what} of {part!r}: their figures cannot stand side by side")
        if one.attacks != two.attacks:
            raise InputError(
                f"{names} were attacked by other attacks on {part!r}: their worst cases cannot be compared"
            )


def _of_model(summary: pl.DataFrame, part: str, name: str, metric: str) -> pl.DataFrame:
    rows = summary.filter(part=part, metric=metric)
    clean, attacked = (rows.filter(attack=attack) for attack in (CLEAN, WORST_CASE))
    before = {"clean": "value", "clean_low": "low", "clean_high": "high"}
    after = {"attacked": "value", "attacked_low": "low", "attacked_high": "high"}
    clean = clean.select(pl.col(old).alias(new) for new, old in before.items())
    attacked = attacked.with_columns(pl.col(old).alias(new) for new, old in after.items())
    whole = attacked.with_columns(pl.lit(name).alias("model")).join(clean, how="cross")
    return whole.select(*TRADEOFF_SCHEMA).cast(dict(TRADEOFF_SCHEMA))  # type: ignore[arg-type]
