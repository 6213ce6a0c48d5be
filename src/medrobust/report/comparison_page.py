"""Two runs beside each other as one self-contained page, in the style of the reports; it runs no script."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from medrobust.budget import format_eps
from medrobust.evaluation.records import RunInfo
from medrobust.report.drawing import page_svg, style
from medrobust.report.environment import templates
from medrobust.report.figures import curves
from medrobust.report.numbers import as_float, format_norm, metric_heading, metric_name, plain
from medrobust.report.run_comparison import HEADINGS, ComparedPart, ComparedRuns, Row
from medrobust.report.table import Cell, Line
from medrobust.statistics import CLEAN, TASK_TRAITS, WORST_CASE


@dataclass(frozen=True)
class ComparedCurve:
    """A metric of both runs in the worst case against eps: the drawing, what it shows in words, its caption."""

    svg: Markup
    description: str
    caption: str


@dataclass(frozen=True)
class PartSection:
    """What the page tells of one part."""

    anchor: str
    part: ComparedPart
    curves: list[ComparedCurve]


def comparison_page(runs: ComparedRuns, infos: Sequence[RunInfo]) -> str:
    """The page as text; neither ids of images, patients nor folders enter it.

    Args:
        runs: what is shown of them.
        infos: of the two runs.
    """
    sections = [
        PartSection(f"part-{place}", part, list(_curves(part, runs.names))) for place, part in enumerate(runs.parts, 1)
    ]
    first, second = (plain(name, 40) for name in runs.names)
    return (
        templates()
        .get_template("comparison_page.html.j2")
        .render(sections=sections, first=first, second=second, headings=HEADINGS, infos=infos)
    )


def _curves(part: ComparedPart, names: tuple[str, str]) -> Iterator[ComparedCurve]:
    """Where there are several budgets of a norm, each metric that the reports draw, too."""
    worst = [row for row in part.rows if row["attack"] == WORST_CASE]
    for norm in dict.fromkeys(str(row["norm"]) for row in worst):
        for metric in TASK_TRAITS[part.pair.parts[0].task].curves:
            rows = sorted(
                (row for row in worst if (row["norm"], row["metric"]) == (norm, metric)), key=lambda row: _eps(row)
            )
            clean = [row for row in part.rows if (row["attack"], row["metric"]) == (CLEAN, metric)]
            if len(rows) > 1 and clean:
                yield _curve(part, names, metric, norm, [*clean, *rows])


def _curve(part: ComparedPart, names: tuple[str, str], metric: str, norm: str, rows: Sequence[Row]) -> ComparedCurve:
    of = part.pair.parts[0]
    series = [
        [Line(name, norm, _eps(row), {metric: _cell(row, which)}) for row in rows]
        for name, which in zip(names, ("first", "second"), strict=True)
    ]
    with style(f"{part.title} {metric} {norm} compared"):
        svg = Markup(page_svg(curves(series, of, metric, norm)))  # noqa: S704 – matplotlib escapes its text
    ends = "; ".join(
        f"{plain(lines[0].attack)} clean {lines[0][metric]}, attacked {lines[-1][metric]}" for lines in series
    )
    largest = format_eps(_eps(rows[-1]), of.unit_of(norm))
    description = f"Line chart of {metric_name(metric)} in the worst case against eps. To eps {largest}: {ends}."
    return ComparedCurve(
        svg, description, f"{metric_heading(metric)} in the worst case against eps ({format_norm(norm)})"
    )


def _eps(row: Row) -> float:
    return as_float(row["eps"]) or 0.0


def _cell(row: Row, which: str) -> Cell:
    value, low, high = (as_float(row[name]) for name in (which, f"{which}_low", f"{which}_high"))
    return Cell(value, low, high, int(str(row["n"])), int(str(row["clusters"])))
