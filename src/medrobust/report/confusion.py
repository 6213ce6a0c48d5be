"""What the report tells of which class turns into which: a matrix a budget, in the worst case, and its main flows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl
from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from medrobust.evaluation.records import PartInfo
from medrobust.report.budgets import budget_text
from medrobust.report.drawing import INK, SERIES, page_svg, style
from medrobust.report.numbers import counted, listed, plain
from medrobust.statistics import WORST_CASE
from medrobust.statistics.confusion import BEFORE

MOST_CLASSES = 12  # more leave no room for numbers
_NAMED = 3  # flows told in words


@dataclass(frozen=True)
class Turned:
    """What the answers of one budget turned into, in the worst case.

    Attributes:
        budget: as text.
        sentence: the largest flows.
        classes: their names.
        counts: `counts[before][after]`, images with their share of the row, as text.
        svg: the matrix as a figure; None for too many classes.
        description: of the figure, for those who do not see it.
    """

    budget: str
    sentence: str
    classes: list[str]
    counts: list[list[str]]
    svg: Markup | None
    description: str


@dataclass(frozen=True)
class LabelFlow:
    """Of one label at one budget: how many answers turned, as "3 of 20"."""

    budget: str
    label: str
    lost: str  # yes before, no after
    found: str  # no before, yes after


def turned(table: pl.DataFrame, part: PartInfo) -> list[Turned]:
    """From what `medrobust.statistics.confusion` returned for one part; none for labels."""
    return [_turned(budget, rows, part) for budget, rows in _budgets(table.filter(pl.col("label").is_null()), part)]


def label_flows(table: pl.DataFrame, part: PartInfo) -> list[LabelFlow]:
    """Likewise, of multi-label answers."""
    flows = []
    for budget, rows in _budgets(table.filter(pl.col("label").is_not_null()), part):
        for label in rows["label"].unique(maintain_order=True):
            _, counts = _matrix(rows.filter(pl.col("label") == label))
            lost, found = (f"{counts[k, 1 - k]} of {counts[k].sum()}" for k in (1, 0))
            flows.append(LabelFlow(budget, plain(str(label), 40), lost, found))
    return flows


def _budgets(table: pl.DataFrame, part: PartInfo) -> Iterator[tuple[str, pl.DataFrame]]:
    worst = table.filter((pl.col("attack") == WORST_CASE) & (pl.col("counted_by") == BEFORE))
    for (norm, eps), rows in worst.group_by("norm", "eps", maintain_order=True):
        yield budget_text(str(norm), float(str(eps)), part), rows


def _matrix(rows: pl.DataFrame) -> tuple[list[str], NDArray[np.int64]]:
    names = [str(name) for name in rows["from_class"].unique(maintain_order=True)]
    return names, rows["count"].to_numpy().reshape(len(names), len(names))


def _turned(budget: str, rows: pl.DataFrame, part: PartInfo) -> Turned:
    names, counts = _matrix(rows)
    names = [plain(name, 24) for name in names]
    texts = [[_share(int(count), int(row.sum())) for count in row] for row in counts]
    sentence = _flows(names, counts)
    svg = None
    if len(names) <= MOST_CLASSES:
        with style(f"{part.dataset.name} {part.model} confusion {budget}"):
            svg = Markup(page_svg(_drawn(names, counts)))  # noqa: S704 – matplotlib escapes its text
    return Turned(
        budget, sentence, names, texts, svg, f"Matrix of clean answers (rows) by attacked answers. {sentence}"
    )


def _share(count: int, total: int) -> str:
    return f"{count} ({count / total:.0%})" if total else "0"


def _flows(names: list[str], counts: NDArray[np.int64]) -> str:
    off = np.where(np.eye(len(names), dtype=bool), 0, counts)
    moved, total = int(off.sum()), int(counts.sum())
    if not moved:
        return f"None of {counted(total, 'answer')} turns into another."
    largest = [divmod(int(place), len(names)) for place in np.argsort(-off, axis=None, kind="stable")[:_NAMED]]
    told = [
        f"{names[before]} → {names[after]} {off[before, after]} of {counts[before].sum()}"
        for before, after in largest
        if off[before, after]
    ]
    return f"{moved} of {counted(total, 'answer')} {'turns' if moved == 1 else 'turn'}, most often {listed(told)}."


def _drawn(names: list[str], counts: NDArray[np.int64]) -> Figure:
    size = len(names)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    side = 1.6 + 0.62 * size
    figure = Figure(figsize=(side + 0.8, side), layout="constrained")
    axes = figure.add_subplot()
    axes.set_aspect("equal")
    for row in range(size):
        for column in range(size):
            color = SERIES[0] if row == column else SERIES[1]
            corner = (column - 0.47, row - 0.47)
            axes.add_patch(Rectangle(corner, 0.94, 0.94, facecolor=color, alpha=0.75 * float(shares[row, column])))
            if counts[row, column]:
                told = f"{counts[row, column]}\n{shares[row, column]:.0%}"
                axes.text(column, row, told, ha="center", va="center", fontsize=8, color=INK)
    axes.set_xlim(-0.5, size - 0.5)
    axes.set_ylim(size - 0.5, -0.5)
    axes.set_xticks(range(size), names, rotation=35, ha="right")
    axes.set_yticks(range(size), names)
    axes.set_xlabel("answer to the attacked image")
    axes.set_ylabel("answer to the clean image")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return figure
