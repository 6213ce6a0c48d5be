"""The figures of a stability analysis: the ways step by step, maps of the divergences, the loss around an image.

The first is that of SMIA's paper (Qi et al., arXiv 2103.05232, section 3.2) for any attack and model.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from medrobust.data.options import evenly
from medrobust.evaluation.landscapes import RANDOM, LossSurface, StepMaps
from medrobust.report.drawing import GRID, INK, MARKERS, SERIES, style
from medrobust.report.numbers import plain
from medrobust.statistics.stability import image_steps, step_summary

DIVERGENCES = {
    "kl_final": "KL(p_t ‖ p_T): to the last step",
    "kl_initial": "KL(p_0 ‖ p_t): from the start",
    "kl_smoothed": "KL(p_t ‖ smoothed)",
    "kl_previous": "KL(p_t ‖ p_{t−1}): in one step",
}
MOVEMENTS = {
    "deviation": "loss against the truth",
    "moved": "‖δ_t − δ_{t−1}‖₂",
    "cosine": "cos(δ_t, δ_{t−1})",
    "sign_flips": "share of steps turned round",
}
_LINES = 24  # thin ones of each attack: more only make a band
_DECADES = 6  # of a logarithmic axis: what is smaller is rounding
_MAPS = "viridis"  # even in lightness, and told apart by the colour-blind


def steps_figure(steps: pl.DataFrame, part: str, measures: dict[str, str]) -> Figure:
    """Measures against the step: thin lines of single images, bold the median, as a band the quartiles.

    Args:
        steps: rows as `medrobust.evaluation.trajectories.STEP_SCHEMA`.
        part: of the analysis.
        measures: column → title, four of them; divergences have a logarithmic axis.
    """
    own = steps.filter(part=part)
    images, summary = image_steps(own), step_summary(own)
    attacks = own["attack"].unique(maintain_order=True).to_list()
    with style(f"steps {part} {' '.join(measures)}"):
        figure = Figure(figsize=(7.6, 5.6), layout="constrained")
        for axes, (measure, title) in zip(figure.subplots(2, 2).flat, measures.items(), strict=True):
            for place, attack in enumerate(attacks):
                _lines(axes, images.filter(attack=attack), measure, place)
                _middle(axes, summary.filter(attack=attack, measure=measure), place)
            if measure in DIVERGENCES:
                _logarithmic(axes)
            axes.set_title(title, fontsize=10, loc="left")
            axes.set_xlabel("step t")
            axes.grid(axis="y")
        figure.legend(handles=_keys(attacks), loc="outside upper center", ncols=len(attacks), frameon=False)
    return figure


def maps_figure(maps: Sequence[StepMaps]) -> Figure:
    """Of one image, attack by attack, both divergences pixel by pixel at a few steps."""
    first = maps[0]
    rows = [(one.attack, name, getattr(one, field)) for one in maps for field, name in _MAP_NAMES.items()]
    height = first.final.shape[1] / first.final.shape[2]
    with style(f"maps {first.part} {first.index}"):
        size = (1.25 * (len(first.steps) + 1) + 0.8, (1.15 * height + 0.18) * len(rows) + 0.5)
        figure = Figure(figsize=size, layout="constrained")
        grid = figure.subplots(len(rows), len(first.steps) + 1, squeeze=False)
        scale = _shared_scale([values.numpy() for *_, values in rows])
        shown = None
        for axes, (attack, name, values) in zip(grid, rows, strict=True):
            _image(axes[0], first.clean.numpy())
            axes[0].set_ylabel(f"{plain(attack, 16)}\n{name}", fontsize=8)
            for panel, step, pixels in zip(axes[1:], first.steps, values.numpy(), strict=True):
                shown = panel.imshow(np.maximum(pixels, scale.vmin), cmap=_MAPS, norm=scale, interpolation="none")
                _bare(panel)
                panel.set_xlabel(f"t = {step}", fontsize=8, labelpad=1)
        if shown is not None:
            bar = figure.colorbar(shown, ax=list(grid.flat), shrink=0.5, aspect=30, pad=0.01)
            bar.ax.tick_params(labelsize=8)
    return figure


def surfaces_figure(surfaces: Sequence[LossSurface]) -> Figure:
    """The loss in the planes around one image, one colour scale; the outline is that of the budget."""
    with style(f"surface {surfaces[0].part} {surfaces[0].index}"):
        figure = Figure(figsize=(4.1 * len(surfaces) + 0.6, 3.9), layout="constrained")
        low = min(float(one.loss.min()) for one in surfaces)
        high = max(float(one.loss.max()) for one in surfaces)
        levels = np.linspace(low, high if high > low else low + 1, 17)
        filled = None
        for axes, one in zip(figure.subplots(1, len(surfaces), squeeze=False)[0], surfaces, strict=True):
            along = one.along.numpy()
            filled = axes.contourf(along, along, one.loss.numpy(), levels=levels, cmap=_MAPS)
            axes.contour(along, along, one.size.numpy(), levels=[one.eps * (1 + 1e-6)], colors=["white"], linewidths=2)
            _mark(axes, (0, 0), "clean")
            _mark(axes, (1, 0), plain(one.first, 16))
            _mark(axes, one.end, plain(one.second, 16))
            axes.set_aspect("equal")
            axes.set_xlabel(f"along {plain(one.first, 16)}")
            axes.set_ylabel(f"towards {'a random change' if one.second == RANDOM else plain(one.second, 16)}")
        if filled is not None:
            bar = figure.colorbar(filled, ax=figure.axes, shrink=0.9, pad=0.02)
            bar.set_label("loss")
    return figure


_MAP_NAMES = {"final": "to the last step", "initial": "from the start"}


def _lines(axes: Axes, rows: pl.DataFrame, measure: str, place: int) -> None:
    for index in evenly(rows["index"].unique().sort().to_list(), _LINES):
        one = rows.filter(index=index)
        axes.plot(one["step"], _values(one, measure), color=SERIES[place % len(SERIES)], linewidth=0.5, alpha=0.25)


def _middle(axes: Axes, rows: pl.DataFrame, place: int) -> None:
    color, rows = SERIES[place % len(SERIES)], rows.sort("step")
    axes.fill_between(rows["step"], rows["lower"], rows["upper"], color=color, alpha=0.15, linewidth=0)
    marker = MARKERS[place % len(MARKERS)]
    axes.plot(rows["step"], rows["median"], color=color, linewidth=2.2, marker=marker, markersize=4, zorder=3)


def _keys(attacks: Sequence[str]) -> list[Line2D]:
    return [
        Line2D([], [], color=SERIES[place % len(SERIES)], marker=MARKERS[place % len(MARKERS)], label=plain(attack, 24))
        for place, attack in enumerate(attacks)
    ]


def _values(rows: pl.DataFrame, measure: str) -> NDArray[np.float64]:
    return rows[measure].cast(pl.Float64).to_numpy()


def _logarithmic(axes: Axes) -> None:
    """Down to what is not rounding; a divergence of 0, which has no place there, is left out."""
    drawn = np.concatenate([np.asarray(line.get_ydata(), float) for line in axes.get_lines()])
    drawn = drawn[np.isfinite(drawn) & (drawn > 0)]
    if len(drawn):
        axes.set_yscale("log", nonpositive="mask")
        axes.set_ylim(max(drawn.min(), drawn.max() * 10.0**-_DECADES) * 0.7, drawn.max() * 1.4)


def _shared_scale(maps: Sequence[NDArray[np.float32]]) -> LogNorm:
    found = np.concatenate([values[np.isfinite(values) & (values > 0)] for values in maps])
    highest = float(found.max()) if len(found) else 1.0
    lowest = float(np.quantile(found, 0.02)) if len(found) else 0.1
    return LogNorm(max(lowest, highest * 10.0**-_DECADES, 1e-12), max(highest, 1e-11))


def _image(axes: Axes, clean: NDArray[np.float32]) -> None:
    grey = clean.shape[0] != 3
    shown = clean[0] if grey else np.moveaxis((clean - clean.min()) / max(float(np.ptp(clean)), 1e-9), 0, -1)
    axes.imshow(shown, cmap="gray" if grey else None, interpolation="none")
    _bare(axes)


def _bare(axes: Axes) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set(visible=True, color=GRID)


def _mark(axes: Axes, at: tuple[float, float], name: str) -> None:
    axes.plot(*at, marker="o", color="white", markeredgecolor=INK, markersize=6)
    box = {"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": "none", "alpha": 0.85}
    axes.annotate(name, at, (6, 6), textcoords="offset points", fontsize=8, color="black", bbox=box)
