"""What the report tells of confidence: calibration by attack and budget, and a reliability figure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from medrobust.evaluation.records import PartInfo
from medrobust.report.budgets import budget_text
from medrobust.report.drawing import GRID, INK, SERIES, page_svg, style
from medrobust.report.numbers import format_value
from medrobust.report.table import Line, PartTable, part_table, worst_of
from medrobust.statistics import CLEAN, WORST_CASE
from medrobust.statistics.calibration import BINS, ECE, IF_CALIBRATED, OF_RIGHT, OF_WRONG, OVERCONFIDENCE, SURE_WRONG

METRICS = (ECE, OVERCONFIDENCE, OF_RIGHT, OF_WRONG, SURE_WRONG)


@dataclass(frozen=True)
class Calibration:
    """Calibration of a part: its lines by attack and budget, the sentences, and the figure with its description."""

    table: PartTable
    sentences: list[str]
    svg: Markup
    description: str
    caption: str

    metrics = METRICS
    terms = (
        "Overconfidence: mean confidence less the share right. Sure: with a confidence of at least 0.9. ECE is too "
        "high on few answers; its interval takes that off, so that it may lie below the figure."
    )


def calibration_of(table: pl.DataFrame, bins: pl.DataFrame, name: str, part: PartInfo) -> Calibration | None:
    """From what `statistics.calibration` and `reliability` returned; None where answers have no probability."""
    lines = part_table(table.filter(pl.col("label").is_null()), name)
    if lines is None:
        return None
    worst = worst_of(lines.hardest(ECE, highest=True))
    budget = budget_text(worst.norm, worst.eps, part)
    at = (pl.col("norm") == worst.norm) & (pl.col("eps") == worst.eps) & (pl.col("attack") == WORST_CASE)
    clean, attacked = bins.filter(pl.col("attack") == CLEAN), bins.filter(at)
    with style(f"{part.dataset.name} {part.model} reliability"):
        svg = Markup(page_svg(_drawn(clean, attacked, budget)))  # noqa: S704 – matplotlib escapes its text
    return Calibration(
        lines,
        [_of_errors(lines.clean, worst, budget), *_of_wrong(lines.clean, worst, budget)],
        svg,
        f"{_in_words('Clean', clean)} {_in_words(f'In the worst case at {budget}', attacked)}",
        f"Share of answers that are right, by confidence, clean and in the worst case at {budget}; dashed: as it "
        "should be. Larger marks stand for more answers. Below: how many of the answers of each confidence are wrong.",
    )


def _of_errors(clean: Line, worst: Line, budget: str) -> str:
    floor = clean[IF_CALIBRATED].text
    return (
        f"The calibration error (ECE) is {clean[ECE]!s} on clean images, where a calibrated model with as many answers "
        f"would show {floor}, and {worst[ECE]!s} in the worst case at {budget}."
    )


def _of_wrong(clean: Line, worst: Line, budget: str) -> list[str]:
    if worst[OF_WRONG].value is None:
        return []
    before = "" if clean[OF_WRONG].value is None else f", clean {clean[OF_WRONG]!s}"
    return [
        f"Wrong answers at {budget} have a mean confidence of {worst[OF_WRONG]!s}{before}; "
        f"{format_value(worst[SURE_WRONG].value)} of them are sure (at least 0.9)."
    ]


def _in_words(which: str, bins: pl.DataFrame) -> str:
    filled = bins.filter(pl.col("answers") > 0)
    told = [
        f"{right} of {answers} right at confidence {confidence:.2f}"
        for right, answers, confidence in filled.select("right", "answers", "confidence").iter_rows()
    ]
    return f"{which}: {'; '.join(told)}."


def _drawn(clean: pl.DataFrame, attacked: pl.DataFrame, budget: str) -> Figure:
    figure = Figure(figsize=(5.6, 5.2), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1.2])
    upper.plot([0, 1], [0, 1], color=INK, linestyle=(0, (5, 1.5)), linewidth=1)
    for bins, label, color, marker in (
        (clean, CLEAN, SERIES[0], "o"),
        (attacked, f"worst case, {budget}", SERIES[1], "s"),
    ):
        _line(upper, bins, label, color, marker)
        middles = (bins["low"].to_numpy() + bins["high"].to_numpy()) / 2
        wrong = bins["answers"].to_numpy() - bins["right"].to_numpy()
        side = -0.2 if bins is clean else 0.2
        lower.bar(middles + side / BINS, wrong, width=0.38 / BINS, color=color)
    upper.set_ylabel("share right")
    upper.set_ylim(-0.03, 1.03)
    upper.legend(frameon=False, loc="upper left")
    lower.set_ylabel("wrong answers")
    lower.set_xlabel("confidence")
    lower.set_xlim(0, 1)
    for axes in (upper, lower):
        axes.grid(axis="y", color=GRID)
        axes.set_axisbelow(True)
    return figure


def _line(axes: Axes, bins: pl.DataFrame, label: str, color: str, marker: str) -> None:
    filled = bins.filter(pl.col("answers") > 0)
    share = filled["right"].to_numpy() / filled["answers"].to_numpy()
    size = 12 + 90 * np.sqrt(filled["answers"].to_numpy() / max(int(bins["answers"].sum()), 1))
    axes.plot(filled["confidence"], share, color=color, linewidth=1.4)
    axes.scatter(filled["confidence"], share, s=size, color=color, marker=marker, label=label, zorder=3)
