"""Curves of a metric against eps: as SVG that goes into the page and takes its colours from it, and as files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from medrobust.budget import format_eps
from medrobust.evaluation.records import PartInfo
from medrobust.report.drawing import DASHES, INK, MARKERS, SERIES, file_png, file_svg, on_white, page_svg, style
from medrobust.report.numbers import format_norm, metric_name, plain
from medrobust.report.table import Line, PartTable
from medrobust.report.units import range_name, share_of_range
from medrobust.statistics import CLEAN, WORST_CASE

_BANDS = 4  # with more lines their bands only hide each other: the worst case keeps its own


def curve_svg(table: PartTable, part: PartInfo, metric: str, norm: str) -> str:
    """The metric against eps for every attack and the worst case, bands of their intervals, as SVG for the page."""
    with style(_name(part, metric, norm)):
        return page_svg(_curve(table, part, metric, norm))


def curve_file(table: PartTable, part: PartInfo, metric: str, norm: str, kind: Literal["svg", "png"]) -> bytes:
    """The same figure as a file of its own, on white."""
    with style(_name(part, metric, norm)):
        figure = _curve(table, part, metric, norm)
        return file_png(figure) if kind == "png" else on_white(file_svg(figure))


def _name(part: PartInfo, metric: str, norm: str) -> str:
    return f"{part.dataset.name} {part.model} {metric} {norm}"


def _curve(table: PartTable, part: PartInfo, metric: str, norm: str) -> Figure:
    return curves([[table.clean, *lines] for lines in _series(table, norm)], part, metric, norm)


def curves(series: Sequence[list[Line]], part: PartInfo, metric: str, norm: str) -> Figure:
    """The metric against eps, a curve for each series: its clean line, then those of its attack by rising eps."""
    figure = Figure(figsize=(5.6, 3.5), layout="constrained")
    axes = figure.add_subplot()
    draw_curves(axes, series, part, metric, norm)
    second_axis(axes, norm, part)
    return figure


def draw_curves(axes: Axes, series: Sequence[list[Line]], part: PartInfo, metric: str, norm: str) -> None:
    """The same into axes, but for the second scale."""
    bands = len(series) - 1 <= _BANDS
    for place, lines in enumerate(series):
        _draw(axes, lines, metric, place, bands)
    _ticks(axes, [line.eps for line in series[-1][1:]], part.unit_of(norm))
    drawn = [cell for lines in series for line in lines if (cell := line[metric])]
    lowest = min((value for cell in drawn for value in (cell.value, cell.low) if value is not None), default=0)
    axes.set_ylim(min(0.0, lowest) - 0.03, 1.03)
    _label_ends(axes, series, metric)
    axes.set_ylabel(metric_name(metric))
    axes.set_xlabel(f"eps ({format_norm(norm)})")
    axes.grid(axis="y")


def second_axis(axes: Axes, norm: str, part: PartInfo) -> None:
    """Above the figure, eps in percent of the range from black to white, where that can be told."""
    whole = share_of_range(1.0, norm, part)
    if whole is None:
        return
    percent = 100 * whole

    def forward(eps: ArrayLike) -> ArrayLike:
        return np.asarray(eps) * percent

    def back(share: ArrayLike) -> ArrayLike:
        return np.asarray(share) / percent

    above = axes.secondary_xaxis("top", functions=(forward, back))
    above.set_xlabel(f"% of {range_name(part.dataset)}", fontsize=9)
    above.tick_params(labelsize=9)


def curve_description(table: PartTable, part: PartInfo, metric: str, norm: str) -> str:
    """The figure in words, for those who do not see it."""
    series = _series(table, norm)
    ends = "; ".join(f"{plain(lines[-1].attack)} {lines[-1][metric]}" for lines in series)
    eps = format_eps(series[-1][-1].eps, part.unit_of(norm))
    return (
        f"Line chart of {metric_name(metric)} against eps in {format_norm(norm)}. "
        f"Clean {table.clean[metric]}; at eps {eps}: {ends}."
    )


def _series(table: PartTable, norm: str) -> list[list[Line]]:
    """The lines of each attack by rising eps; the worst case last, unless it is that of one attack alone."""
    by_attack: dict[str, list[Line]] = {}
    for line in table.lines:
        if line.norm == norm:
            by_attack.setdefault(line.attack, []).append(line)
    worst = by_attack.pop(WORST_CASE, [])
    return [*by_attack.values(), *([worst] if len(by_attack) > 1 and worst else [])]


def _draw(axes: Axes, lines: list[Line], metric: str, place: int, bands: bool) -> None:
    worst = lines[-1].attack == WORST_CASE
    color = INK if worst else SERIES[place % len(SERIES)]
    points = [line for line in lines if line[metric].value is not None]
    axes.plot(
        [line.eps for line in points],
        [value for line in points if (value := line[metric].value) is not None],
        color=color,
        marker="s" if worst else MARKERS[place % len(MARKERS)],
        markersize=4 if worst else 5,
        markerfacecolor="none" if worst else color,
        linestyle=DASHES[0] if worst else DASHES[place // len(SERIES) % len(DASHES)],
        linewidth=2.2 if worst else 1.6,
        clip_on=False,
        zorder=3 if worst else 4,
    )
    if worst or bands:
        known = [
            (line.eps, cell.low, cell.high)
            for line in points
            if (cell := line[metric]).low is not None and cell.high is not None
        ]
        if known:
            eps, low, high = (np.array(values, float) for values in zip(*known, strict=True))
            axes.fill_between(eps, low, high, color=color, alpha=0.12, linewidth=0)


def _label_ends(axes: Axes, series: Sequence[list[Line]], metric: str) -> None:
    """Names at the ends of the lines, moved apart where they would overlap."""
    low, high = axes.get_ylim()
    ends = sorted(
        (
            ((value - low) / (high - low), place, lines[-1])
            for place, lines in enumerate(series)
            if (value := lines[-1][metric].value) is not None
        ),
        key=lambda end: end[:2],
        reverse=True,
    )
    gap = min(0.07, 1 / max(len(ends), 1))
    heights: list[float] = []
    for place, (end, _, _) in enumerate(ends):
        room = gap * (len(ends) - 1 - place)  # for the names below
        heights.append(max(min(end, heights[-1] - gap) if heights else end, room))
    for (end, place, line), height in zip(ends, heights, strict=True):
        worst = line.attack == WORST_CASE
        color = INK if worst else SERIES[place % len(SERIES)]
        axes.annotate(
            plain(line.attack, 22),
            (1.0, end),
            xycoords="axes fraction",
            xytext=(1.07, height),
            textcoords="axes fraction",
            va="center",
            fontsize=9,
            fontweight="bold" if worst else "normal",
            arrowprops={
                "arrowstyle": "-",
                "color": color,
                "linewidth": 0.8,
                "relpos": (0, 0.5),
                "shrinkA": 1,
                "shrinkB": 5,
            },
        )


def _ticks(axes: Axes, eps: list[float], unit: str) -> None:
    """A tick at every eps; a label where it does not run into the next one."""
    axes.set_xlim(0, eps[-1])
    shown: list[float] = []
    for value in reversed(eps):
        if value > 0.12 * eps[-1] and (not shown or shown[-1] - value > 0.12 * eps[-1]):
            shown.append(value)
    labels = {0.0: CLEAN} | {value: format_eps(value, unit) for value in shown}
    axes.set_xticks([0.0, *eps], [labels.get(value, "") for value in [0.0, *eps]])
