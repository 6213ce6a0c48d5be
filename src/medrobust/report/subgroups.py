"""What the report tells of groups of patients: the main metric of each in the worst case, and the gap between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from medrobust.evaluation.records import PartInfo
from medrobust.report.budgets import budget_text
from medrobust.report.numbers import (
    as_float,
    counted,
    format_interval,
    format_p_value,
    format_value,
    listed,
    metric_name,
    plain,
)
from medrobust.report.table import NOTHING, Cell
from medrobust.statistics import CLEAN, LEAST_CLUSTERS, SIGNIFICANCE, TASK_TRAITS, WORST_CASE
from medrobust.statistics.subgroups import GAP, GROUP, LESION_SIZE, TOO_SMALL, UNKNOWN


@dataclass(frozen=True)
class GroupLine:
    """A group: its size in words, and its figure clean and in the worst case of each budget."""

    name: str
    size: str
    cells: list[Cell]


@dataclass(frozen=True)
class GroupTable:
    """The groups of one column.

    `headings` are clean and the budgets; for each of them `gaps` has the gap, and its interval and p-value, as texts;
    none where there is one group alone.
    """

    column: str
    headings: list[str]
    lines: list[GroupLine]
    gaps: list[tuple[str, str]]
    sentences: list[str]


def group_tables(table: pl.DataFrame, part: PartInfo) -> list[GroupTable]:
    """A table for each column of what `medrobust.statistics.subgroups` returned for one part."""
    columns = table["column"].unique(maintain_order=True).to_list()
    return [_group_table(table.filter(pl.col("column") == column), str(column), part) for column in columns]


def _group_table(table: pl.DataFrame, column: str, part: PartInfo) -> GroupTable:
    metric = TASK_TRAITS[part.task].image_metric
    judged = table.filter((pl.col("metric") == metric) & pl.col("attack").is_in([CLEAN, WORST_CASE]))
    budgets = [
        (str(norm), float(eps)) for norm, eps in judged.select("norm", "eps").unique(maintain_order=True).iter_rows()
    ]
    headings = [CLEAN if not norm else budget_text(norm, eps, part) for norm, eps in budgets]
    groups = judged.filter(pl.col("kind") == GROUP)
    gaps = {(row["norm"], row["eps"]): row for row in judged.filter(pl.col("kind") == GAP).iter_rows(named=True)}
    lines = [
        _line(str(name), groups.filter(pl.col("group") == name), budgets)
        for name in groups["group"].unique(maintain_order=True)
    ]
    told = [_shown(row, part) for budget, row in gaps.items() if budget[0]]
    return GroupTable(
        plain(column, 40),
        headings,
        lines,
        [_gap_text(gaps.get(budget)) for budget in budgets] if gaps else [],
        [*_verdicts(told, column, part), *_left_out(table, column)],
    )


def _line(name: str, rows: pl.DataFrame, budgets: Sequence[tuple[str, float]]) -> GroupLine:
    cells = {
        (row["norm"], row["eps"]): Cell(row["value"], row["low"], row["high"], row["n"], row["clusters"])
        for row in rows.iter_rows(named=True)
    }
    first = rows.row(0, named=True)
    return GroupLine(plain(name, 40), _size(first), [cells.get(budget, NOTHING) for budget in budgets])


def _size(row: dict[str, object]) -> str:
    images = counted(int(str(row["n"])), "image")
    return f"{images}, {counted(int(str(row['clusters'])), 'patient')}" if row["resampled"] == "patients" else images


def _gap_text(row: dict[str, object] | None) -> tuple[str, str]:
    if row is None or row["value"] is None:
        return "", ""
    value, low, high, p_value = (as_float(row[name]) for name in ("value", "low", "high", "p_value"))
    how_sure = [format_interval(low, high), "" if p_value is None else format_p_value(p_value)]
    return format_value(value), ", ".join(filter(None, how_sure))


def _shown(row: dict[str, object], part: PartInfo) -> tuple[str, str, bool]:
    """Budget, the gap as text, and whether it is shown: both the test and the interval say so."""
    low, p_value = as_float(row["low"]), as_float(row["p_value"])
    shown = low is not None and low > 0 and p_value is not None and p_value < SIGNIFICANCE
    return budget_text(str(row["norm"]), float(str(row["eps"])), part), " ".join(_gap_text(row)), shown


def _verdicts(gaps: Sequence[tuple[str, str, bool]], column: str, part: PartInfo) -> list[str]:
    if not gaps:
        return []
    metric, name = metric_name(TASK_TRAITS[part.task].image_metric), plain(column, 40)
    found = [f"{gap} at {budget}" for budget, gap, shown in gaps if shown]
    if not found:
        return [f"By {name}, no difference of {metric} in the worst case is shown."]
    return [f"By {name}, {metric} in the worst case differs: best less worst group {listed(found)}."]


def _left_out(table: pl.DataFrame, column: str) -> list[str]:
    told = []
    for row in table.filter(pl.col("kind").is_in([TOO_SMALL, UNKNOWN])).iter_rows(named=True):
        whom = "patients" if row["resampled"] == "patients" else "images"
        if row["kind"] == TOO_SMALL:
            groups = counted(int(row["value"]), "group")
            told.append(f"{groups} of fewer than {LEAST_CLUSTERS} {whom} ({_size(row)}), too few for a figure")
        else:
            told.append(f"{_size(row)} without a {'lesion' if column == LESION_SIZE else 'value'}")
    return [f"Left out by {plain(column, 40)}: {'; '.join(told)}."] if told else []
