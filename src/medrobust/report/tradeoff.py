"""What robustness costs, as a person sees it: a table for the terminal and for Markdown, and a figure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from medrobust.evaluation.records import PartInfo
from medrobust.report.budgets import budget_text
from medrobust.report.drawing import MARKERS, SERIES, file_png, file_svg, on_white, style
from medrobust.report.figures import draw_curves
from medrobust.report.markdown_text import markdown_text
from medrobust.report.numbers import as_float, metric_heading, metric_name, plain
from medrobust.report.table import Cell, Line

_NOTE = (
    "Worst case: for each image the attack that does it most harm. Intervals: {0:.4g} %, of each figure by itself; "
    "whether two models differ is for medrobust compare to say, which pairs them by image."
)


def terminal_tradeoff(table: pl.DataFrame, parts: Mapping[str, PartInfo], distrusted: Sequence[str]) -> Group:
    """For the terminal: what is not to be trusted, then a table a part, a line a model, a column a budget."""
    shown: list[RenderableType] = [Text(told, style="bold red") for told in distrusted]
    for title, headings, lines in _tables(table, parts):
        shown.append(Text(title, style="bold"))
        cells = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold")
        for heading in headings:
            cells.add_column(Text(heading), overflow="fold")
        for line in lines:
            cells.add_row(*map(Text, line))
        shown += [cells, Text()]
    return Group(*shown, Text(_note(table), style="dim"))


def markdown_tradeoff(table: pl.DataFrame, parts: Mapping[str, PartInfo], distrusted: Sequence[str]) -> str:
    """The same as a page in Markdown."""
    written = ["# What robustness costs", *(f"**{markdown_text(told)}**" for told in distrusted)]
    for title, headings, lines in _tables(table, parts):
        rows = [headings, ["---"] * len(headings), *lines]
        written.append(f"## {markdown_text(title)}")
        written.append("\n".join("| " + " | ".join(map(markdown_text, row)) + " |" for row in rows))
    return "\n\n".join([*written, _note(table)]) + "\n"


def tradeoff_figure(table: pl.DataFrame, part: str, info: PartInfo, norm: str, kind: Literal["svg", "png"]) -> bytes:
    """Left what is left of each model against eps, right clean against worst case at the largest eps; on white."""
    rows = table.filter(part=part, norm=norm)
    metric = str(rows["metric"][0])
    with style(f"{part} {norm} trade-off"):
        figure = Figure(figsize=(10.5, 3.8), layout="constrained")
        left, right = figure.subplots(1, 2)
        _curves(left, rows, info, norm, metric)
        _cost(right, rows.filter(eps=rows["eps"].max()), info, metric)
        return file_png(figure) if kind == "png" else on_white(file_svg(figure))


def _tables(table: pl.DataFrame, parts: Mapping[str, PartInfo]) -> Iterator[tuple[str, list[str], list[list[str]]]]:
    """Of each part its title, the headings, and the cells of each model."""
    for (part,), rows in table.group_by("part", maintain_order=True):
        info = parts[str(part)]
        budgets = rows.select("norm", "eps").unique(maintain_order=True).rows()
        headings = ["model", "clean", *(f"worst case, {budget_text(norm, eps, info)}" for norm, eps in budgets)]
        lines = []
        for (model,), of_model in rows.group_by("model", maintain_order=True):
            cells = [_cell(row, "attacked") for row in of_model.rows(named=True)]
            lines.append([plain(str(model)), *map(str, [_cell(of_model.row(0, named=True), "clean"), *cells])])
        yield f"{plain(str(part))}: {metric_heading(str(rows['metric'][0]))}", headings, lines


def _note(table: pl.DataFrame) -> str:
    return _NOTE.format(100 * float(table["confidence"][0]))


def _cell(row: dict[str, object], when: Literal["clean", "attacked"]) -> Cell:
    value, low, high = (as_float(row[name]) for name in (when, f"{when}_low", f"{when}_high"))
    return Cell(value, low, high, int(str(row["n"])), int(str(row["clusters"])))


def _curves(axes: Axes, rows: pl.DataFrame, info: PartInfo, norm: str, metric: str) -> None:
    series: list[list[Line]] = []
    for (model,), of_model in rows.group_by("model", maintain_order=True):
        lines = of_model.sort("eps").rows(named=True)
        clean = Line(str(model), "", 0.0, {metric: _cell(lines[0], "clean")})
        attacked = (Line(str(model), norm, float(row["eps"]), {metric: _cell(row, "attacked")}) for row in lines)
        series.append([clean, *attacked])
    draw_curves(axes, series, info, metric, norm)
    axes.set_ylabel(f"{metric_name(metric)}, worst case")


def _cost(axes: Axes, rows: pl.DataFrame, info: PartInfo, metric: str) -> None:
    for place, row in enumerate(rows.rows(named=True)):
        clean, attacked = (_cell(row, when) for when in ("clean", "attacked"))
        if clean.value is None or attacked.value is None:
            continue
        color = SERIES[place % len(SERIES)]
        for cell, other in ((clean, attacked.value), (attacked, clean.value)):
            if cell.low is None or cell.high is None:
                continue
            ends = [cell.low, cell.high], [other, other]
            axes.plot(*(ends if cell is clean else ends[::-1]), color=color, linewidth=1, alpha=0.6)
        mark = MARKERS[place % len(MARKERS)]
        name = plain(str(row["model"]), 22)
        axes.plot(clean.value, attacked.value, color=color, marker=mark, markersize=7, linestyle="none", label=name)
    axes.legend(loc="upper left", fontsize=9, frameon=False)
    axes.set_xlim(-0.03, 1.03)
    axes.set_ylim(-0.03, 1.03)
    axes.set_xlabel(f"{metric_name(metric)}, clean")
    axes.set_ylabel(f"worst case, {budget_text(str(rows['norm'][0]), float(rows['eps'][0]), info)}")
    axes.grid()
