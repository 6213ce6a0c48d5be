"""What attacks spent and found beside their figures: queries, smallest changes, and which member of an ensemble."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl

from medrobust.budget import format_eps
from medrobust.evaluation.records import PartInfo
from medrobust.report.budgets import budget_text
from medrobust.report.numbers import counted, format_change, plain
from medrobust.statistics.conditions import in_order


@dataclass(frozen=True)
class Spent:
    """Of one attack at one budget: queries an image, and the smallest change that fools; "" where there is none."""

    budget: str
    attack: str
    queries: str
    smallest: str


@dataclass(frozen=True)
class Members:
    """Of one ensemble at one budget: which member broke how many of the images answered right before."""

    budget: str
    attack: str
    broken: str
    by: list[tuple[str, str]]


def spent(records: pl.DataFrame, part: PartInfo) -> list[Spent]:
    """A line for each attack and budget that asked queries, or looked for the smallest change."""
    found = []
    for label, norm, eps, rows in _cells(records, part):
        queries, smallest = _queries(rows), _smallest(rows, norm, part)
        if queries or smallest:
            found.append(Spent(budget_text(norm, eps, part), plain(label, 40), queries, smallest))
    return found


def members(records: pl.DataFrame, part: PartInfo) -> list[Members]:
    """A line for each ensemble and budget; the members in the order of what they broke."""
    found = []
    for label, norm, eps, rows in _cells(records.filter(pl.col("found_by").is_not_null()), part):
        right = rows.filter("right_before")
        broken = right.filter("success")
        counts = broken.group_by("found_by").len().sort("len", "found_by", descending=[True, False])
        by = [(plain(name, 40), f"{count:,}") for name, count in counts.iter_rows()]
        total = f"{len(broken):,} of {counted(len(right), 'image')}"
        found.append(Members(budget_text(norm, eps, part), plain(label, 40), total, by))
    return found


def _cells(records: pl.DataFrame, part: PartInfo) -> Iterator[tuple[str, str, float, pl.DataFrame]]:
    """Attack and budget with their rows, in the order of the table of results."""
    budgets = records.select("norm", "eps").unique(maintain_order=True)
    norms = list(dict.fromkeys(budgets["norm"].to_list()))
    for norm, eps in sorted(budgets.iter_rows(), key=lambda budget: (norms.index(budget[0]), budget[1])):
        rows = records.filter((pl.col("norm") == norm) & (pl.col("eps") == eps))
        for label in in_order(rows["attack"].unique().to_list(), part):
            yield label, norm, eps, rows.filter(pl.col("attack") == label)


def _queries(rows: pl.DataFrame) -> str:
    asked = rows["queries"].drop_nulls()
    if not asked.len() or not asked.to_numpy().any():
        return ""
    return f"{float(np.median(asked.to_numpy())):,.0f}, at most {int(asked.to_numpy().max()):,}"


def _smallest(rows: pl.DataFrame, norm: str, part: PartInfo) -> str:
    """Median and quartiles, as sizes that images have: none found counts as the largest."""
    sizes = rows.filter("right_before")["smallest_eps"].drop_nulls().to_numpy()
    if not len(sizes):
        return ""
    low, middle, high = (
        _size(float(q), norm, part) for q in np.quantile(sizes, (0.25, 0.5, 0.75), method="inverted_cdf")
    )
    return f"{middle} [{low}, {high}]"


def _size(size: float, norm: str, part: PartInfo) -> str:
    if math.isinf(size):
        return "none found"
    unit = part.unit_of(norm)
    return format_change(size, unit) if norm == "linf" else format_eps(size, unit)
