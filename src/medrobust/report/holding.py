"""How small a change is enough: the curve of the images that hold, and the sentence beside it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import polars as pl
from markupsafe import Markup
from matplotlib.figure import Figure

from medrobust.budget import format_eps
from medrobust.evaluation.records import PartInfo
from medrobust.report.drawing import INK, page_svg, style
from medrobust.report.figures import second_axis
from medrobust.report.numbers import counted, format_change, format_interval, format_norm, format_value
from medrobust.report.units import in_greys
from medrobust.statistics.holding import Holding, holding


@dataclass(frozen=True)
class Held:
    """One norm: the figure, what it shows in words, its caption, and the sentence on the median."""

    svg: Markup
    description: str
    caption: str
    sentence: str


def held(records: pl.DataFrame, part: PartInfo, confidence: float) -> list[Held]:
    """One a norm under which any image was answered right; `records` are those of the part."""
    found = []
    for norm in records["norm"].unique(maintain_order=True).to_list():
        curve = holding(records, part, norm, confidence=confidence)
        if curve is not None:
            svg = Markup(_svg(curve, part))  # noqa: S704 – matplotlib escapes its text
            found.append(Held(svg, _description(curve, part), _caption(curve), median_sentence(curve, part)))
    return found


def median_sentence(curve: Holding, part: PartInfo) -> str:
    """At which size half of the images fall, no more exactly than it is known."""
    images = f"the {counted(curve.n, 'image')} answered right"
    if math.isinf(curve.median):
        last = format_value(float(curve.share[-1]))
        interval = format_interval(float(curve.low[-1]), float(curve.high[-1])) if np.isfinite(curve.low[-1]) else ""
        told = f"{last} {interval}".strip()
        size = _size(curve.largest, curve, part)
        return f"More than half of {images} hold all that was tried, up to {size}: {told} of them."
    where = f"at {_size(curve.median, curve, part)}"
    if not curve.searched:
        where = f"between {_size(curve.median_from, curve, part)} and {_size(curve.median, curve, part)}"
    greys = in_greys(curve.median, curve.norm, part) if curve.searched else ""
    interval = _median_interval(curve, part)
    inside = "; ".join(text for text in (interval, greys) if text)
    return f"Half of {images} fall {where}{f' ({inside})' if inside else ''}."


def _median_interval(curve: Holding, part: PartInfo) -> str:
    if curve.median_low is None or curve.median_high is None:
        return "no interval"
    percent = f"{100 * curve.confidence:.4g} % interval"
    if math.isinf(curve.median_high):
        return f"{percent} from {_size(curve.median_low, curve, part)} on"
    return f"{percent} {_size(curve.median_low, curve, part)} to {_size(curve.median_high, curve, part)}"


def _size(size: float, curve: Holding, part: PartInfo) -> str:
    if size == 0:
        return "none"
    unit = part.unit_of(curve.norm)
    return format_change(size, unit) if curve.norm == "linf" and curve.searched else format_eps(size, unit)


def _caption(curve: Holding) -> str:
    of = "the smallest change found" if curve.searched else "the budget at which it first falls"
    return (
        f"Share of {counted(curve.n, 'image')} answered right that hold a change ({format_norm(curve.norm)}), by {of} "
        f"over all attacks. Band: {100 * curve.confidence:.4g} % intervals, one size at a time."
    )


def _description(curve: Holding, part: PartInfo) -> str:
    ends = f"{format_value(float(curve.share[-1]))} hold at {_size(curve.largest, curve, part)}"
    return f"Falling steps from 1 at no change; {ends}. {median_sentence(curve, part)}"


def _svg(curve: Holding, part: PartInfo) -> str:
    """Steps with a band; where budgets alone are known, images fall somewhere on the way: that is shaded."""
    sizes = np.insert(curve.sizes, 0, 0.0)
    share = np.insert(curve.share, 0, 1.0)
    with style(f"held {part.dataset.name} {part.model} {curve.norm}"):
        figure = Figure(figsize=(5.6, 3.5), layout="constrained")
        axes = figure.add_subplot()
        axes.step(sizes, share, where="post", color=INK, linewidth=2.0, clip_on=False)
        if np.isfinite(curve.low).any():
            low, high = np.insert(curve.low, 0, 1.0), np.insert(curve.high, 0, 1.0)
            axes.fill_between(sizes, low, high, step="post", color=INK, alpha=0.12, linewidth=0)
        if not curve.searched:
            axes.fill_between(sizes[1:], share[1:], share[:-1], step="pre", color=INK, alpha=0.08, linewidth=0)
        axes.axhline(0.5, color=INK, linewidth=0.8, linestyle=(0, (1.5, 1.5)))
        axes.set_xlim(0, curve.largest)
        axes.set_ylim(-0.03, 1.03)
        axes.set_ylabel("share that holds")
        unit = part.unit_of(curve.norm)
        places = sizes[1:] if not curve.searched and len(sizes) < 8 else np.linspace(0, curve.largest, 5)[1:]
        axes.set_xticks([0.0, *places], ["0", *(_size(float(place), curve, part) for place in places)])
        axes.set_xlabel(f"size of the change ({format_norm(curve.norm)}{', %' if unit == '%' else ''})")
        second_axis(axes, curve.norm, part)
        axes.grid(axis="y")
        return page_svg(figure)
