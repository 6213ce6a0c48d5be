"""The summary of one part as lines to show: one an attack and budget, its figures by metric."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby

import polars as pl

from medrobust.report.numbers import NO_INTERVAL, format_interval, format_value
from medrobust.statistics import CLEAN, WORST_CASE


@dataclass(frozen=True)
class Cell:
    """One figure with its interval (None when there is none) and what it is computed from."""

    value: float | None
    low: float | None
    high: float | None
    n: int
    clusters: int

    @property
    def text(self) -> str:
        """The value: "0.62"."""
        return format_value(self.value)

    @property
    def interval(self) -> str:
        """Its interval: "[0.55, 0.69]"; "[–]" for a value without one."""
        return NO_INTERVAL if self.lacks_interval else format_interval(self.low, self.high)

    @property
    def lacks_interval(self) -> bool:
        """Whether there is a value, but no interval of it."""
        return self.value is not None and (self.low is None or self.high is None)

    def __str__(self) -> str:
        return f"{self.text} {self.interval}".strip()


NOTHING = Cell(None, None, None, 0, 0)


@dataclass(frozen=True)
class Line:
    """An attack at a budget; `cells` by metric."""

    attack: str
    norm: str
    eps: float
    cells: dict[str, Cell]

    def __getitem__(self, metric: str) -> Cell:
        return self.cells.get(metric, NOTHING)


@dataclass(frozen=True)
class PartTable:
    """The lines of a part: clean, then by budget the attacks and the worst case over them.

    `resampled` says what the intervals resample, `confidence` is theirs.
    """

    clean: Line
    budgets: list[list[Line]]
    resampled: str
    confidence: float

    @property
    def lines(self) -> list[Line]:
        """All of them but clean."""
        return [line for budget in self.budgets for line in budget]

    @property
    def norms(self) -> list[str]:
        """In the order of the table."""
        return list(dict.fromkeys(line.norm for line in self.lines))

    @property
    def largest(self) -> list[list[Line]]:
        """Of each norm the largest budget."""
        return [[budget for budget in self.budgets if budget[0].norm == norm][-1] for norm in self.norms]

    def hardest(self, metric: str, *, highest: bool = False) -> list[Line]:
        """Of the largest budgets that under which the metric is lowest (highest) in the worst case."""
        sign = -1 if highest else 1

        def left(budget: list[Line]) -> float:
            value = worst_of(budget)[metric].value
            return float("inf") if value is None else sign * value

        return min(self.largest, key=left)


def part_table(summary: pl.DataFrame, part: str) -> PartTable | None:
    """The lines of a part, or None when the summary holds none of it (no image was evaluated)."""
    rows = summary.filter(pl.col("part") == part)
    if rows.is_empty():
        return None
    lines = []
    for (attack, norm, eps), group in rows.group_by("attack", "norm", "eps", maintain_order=True):
        cells = {
            metric: Cell(value, low, high, n, clusters)
            for metric, value, low, high, n, clusters in group.select(
                "metric", "value", "low", "high", "n", "clusters"
            ).iter_rows()
        }
        lines.append(Line(str(attack), str(norm), float(str(eps)), cells))
    clean = next(line for line in lines if line.attack == CLEAN and not line.norm)
    attacked = [line for line in lines if line is not clean]
    budgets = [list(group) for _, group in groupby(attacked, key=lambda line: (line.norm, line.eps))]
    return PartTable(clean, budgets, rows["resampled"][0], rows["confidence"][0])


def worst_of(budget: list[Line]) -> Line:
    """The worst case over the attacks of a budget."""
    return next(line for line in budget if line.attack == WORST_CASE)


def attacks_of(budget: list[Line]) -> list[Line]:
    """The attacks of a budget."""
    return [line for line in budget if line.attack != WORST_CASE]
