"""The figures of a stability analysis: the ways step by step, maps of the divergences, the loss around an image.

The first is that of SMIA's paper (Qi et al., arXiv 2103.05232, section 3.2) for any attack and model.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullFormatter
from numpy.typing import NDArray

from medrobust.data.options import evenly
from medrobust.evaluation.landscapes import RANDOM, LossSurface, StepMaps
from medrobust.report.drawing import GRID, INK, MARKERS, SERIES, style
from medrobust.report.numbers import plain
from medrobust.statistics.stability import image_steps, step_summary

Values = NDArray[np.float64]
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
    "sign_flips": "share of proposed steps turned round",
}
LINES = 24  # thin ones of each attack: more only make a band
_DECADES = 6  # of a logarithmic axis: what is smaller is rounding
_MAP_DECADES = 4
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
            drawn = [
                *(_lines(axes, images.filter(attack=attack), measure, place) for place, attack in enumerate(attacks)),
                *(
                    _middle(axes, summary.filter(attack=attack, measure=measure), place)
                    for place, attack in enumerate(attacks)
                ),
            ]
            _scale(axes, np.concatenate(drawn), logarithmic=measure in DIVERGENCES)
            axes.set_title(title, fontsize=10, loc="left")
            axes.set_xlabel("step t")
            axes.grid(axis="y")
        figure.legend(handles=_keys(attacks), loc="outside upper center", ncols=min(len(attacks), 5), frameon=False)
    return figure


def maps_figure(maps: Sequence[StepMaps]) -> Figure:
    """Of one image, a row for each attack: both divergences pixel by pixel at a few steps.

    Where they are 0 by definition, at the last step or at the first, they are left out.
    """
    first = maps[0]
    columns = len(first.steps) - 1
    height = first.final.shape[1] / first.final.shape[2]
    with style(f"maps {first.part} {first.index}"):
        size = (0.95 * (2 * columns + 1) + 1.1, (0.95 * height + 0.2) * len(maps) + 0.35)
        figure = Figure(figsize=size, layout="constrained")
        grid = figure.subplots(len(maps), 2 * columns + 1, squeeze=False)
        scale = _shared_scale([one.final.numpy() for one in maps] + [one.initial.numpy() for one in maps])
        for axes, one in zip(grid, maps, strict=True):
            _image(axes[0], one.clean.numpy())
            axes[0].set_ylabel(plain(one.attack, 16), fontsize=9)
            _row(axes[1 : columns + 1], one.steps[:-1], one.final[:-1].numpy(), scale, "p_T")
            _row(axes[columns + 1 :], one.steps[1:], one.initial[1:].numpy(), scale, "p_0")
        bar = figure.colorbar(ScalarMappable(scale, _MAPS), ax=list(grid.flat), shrink=0.9, aspect=25, pad=0.01)
        _powers_of_ten(bar.ax)
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
            axes.plot(*one.border.numpy().T, color="white", linewidth=1.6)
            _mark(axes, (0, 0), "clean")
            _mark(axes, (1, 0), plain(one.first, 16))
            _mark(axes, one.end, plain(one.second, 16))
            axes.set(aspect="equal", xlim=(along[0], along[-1]), ylim=(along[0], along[-1]))
            axes.set_xlabel(f"along {plain(one.first, 16)}")
            axes.set_ylabel(f"towards {'a random change' if one.second == RANDOM else plain(one.second, 16)}")
        if filled is not None:
            bar = figure.colorbar(filled, ax=figure.axes, shrink=0.9, pad=0.02, format="%.3g")
            bar.set_label("loss")
    return figure


def _lines(axes: Axes, rows: pl.DataFrame, measure: str, place: int) -> Values:
    """A thin line for some of the images of an attack; gives what was drawn."""
    chosen = evenly(rows["index"].unique().sort().to_list(), LINES)
    rows = rows.filter(pl.col("index").is_in(chosen)).sort("index", "step")
    steps = rows["step"].unique().sort().to_numpy()
    values = rows[measure].cast(pl.Float64).to_numpy().reshape(len(chosen), len(steps))
    lines = [np.stack([steps, line], 1) for line in values]
    axes.add_collection(LineCollection(lines, colors=SERIES[place % len(SERIES)], linewidths=0.5, alpha=0.3))
    return values.ravel()


def _middle(axes: Axes, rows: pl.DataFrame, place: int) -> Values:
    """Median and quartiles; gives what was drawn."""
    color, rows = SERIES[place % len(SERIES)], rows.sort("step")
    axes.fill_between(rows["step"], rows["lower"], rows["upper"], color=color, alpha=0.15, linewidth=0)
    marker = MARKERS[place % len(MARKERS)]
    axes.plot(rows["step"], rows["median"], color=color, linewidth=2.2, marker=marker, markersize=4, zorder=3)
    return rows.select("lower", "median", "upper").to_numpy().ravel()


def _keys(attacks: Sequence[str]) -> list[Line2D]:
    return [
        Line2D([], [], color=SERIES[place % len(SERIES)], marker=MARKERS[place % len(MARKERS)], label=plain(attack, 24))
        for place, attack in enumerate(attacks)
    ]


def _scale(axes: Axes, drawn: Values, *, logarithmic: bool) -> None:
    """The height of the axis; of a divergence that falls far, a logarithmic one, where its 0 has no place."""
    drawn = drawn[np.isfinite(drawn)]
    positive = drawn[drawn > 0]
    if logarithmic and len(positive):
        lowest = max(positive.min(), positive.max() * 10.0**-_DECADES)
        if lowest * 30 < positive.max():
            axes.set_yscale("log", nonpositive="mask")
            axes.set_ylim(lowest * 0.7, positive.max() * 1.4)
            _powers_of_ten(axes)
            return
    if len(drawn):
        axes.set_ylim(min(0.0, drawn.min() * 1.1), max(drawn.max() * 1.1, 1e-9))


def _powers_of_ten(axes: Axes) -> None:
    """Labels of a logarithmic axis that are no mathematics: "10⁻³"."""
    raised = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")
    axes.yaxis.set_major_formatter(
        lambda value, _: f"10{f'{np.log10(value):.0f}'.translate(raised)}" if value > 0 else ""
    )
    axes.yaxis.set_minor_formatter(NullFormatter())


def _shared_scale(maps: Sequence[NDArray[np.float32]]) -> LogNorm:
    found = np.concatenate([values[np.isfinite(values) & (values > 0)] for values in maps])
    highest = float(found.max()) if len(found) else 1.0
    lowest = float(np.quantile(found, 0.02)) if len(found) else 0.1
    return LogNorm(max(lowest, highest * 10.0**-_MAP_DECADES, 1e-12), max(highest, 1e-11))


def _row(panels: Sequence[Axes], steps: Sequence[int], maps: NDArray[np.float32], scale: LogNorm, other: str) -> None:
    for panel, step, pixels in zip(panels, steps, maps, strict=True):
        panel.imshow(pixels.clip(scale.vmin), cmap=_MAPS, norm=scale, interpolation="none")
        _bare(panel)
        panel.set_xlabel(f"p_{step} ‖ {other}" if other == "p_T" else f"{other} ‖ p_{step}", fontsize=8, labelpad=1)


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
