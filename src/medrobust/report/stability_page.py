"""The page of a stability analysis: what it shows in words, the figures, the tests, the components of the variance."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import polars as pl
from markupsafe import Markup
from matplotlib.figure import Figure

from medrobust.evaluation.landscapes import RANDOM, LossSurface, StepMaps
from medrobust.evaluation.records import PartInfo
from medrobust.evaluation.stability_files import StabilityInfo
from medrobust.evaluation.storage import write_whole
from medrobust.report.budgets import budget_text
from medrobust.report.drawing import file_png, file_svg, for_page, on_white, style
from medrobust.report.environment import templates
from medrobust.report.numbers import NO_INTERVAL, as_float, format_interval, format_p_value, format_value, listed, plain
from medrobust.report.stability_figures import DIVERGENCES, LINES, MOVEMENTS, maps_figure, steps_figure, surfaces_figure
from medrobust.report.stability_wording import cautions, findings
from medrobust.report.told import config_text
from medrobust.statistics.stability import QUANTITIES
from medrobust.statistics.stability_components import ALL_DATA_SETS, TOTAL
from medrobust.statistics.stability_tests import HIGHER, LOWER

_COMPONENTS = {
    "image": "images",
    "seed": "seeds",
    "model": "models",
    "residual": "image × model",
    "data_set": "data sets",
}


@dataclass(frozen=True)
class Drawing:
    """A figure with its file's name, what it shows in words, and its caption."""

    name: str
    figure: Figure
    description: str
    caption: str

    @cached_property
    def file(self) -> bytes:
        """An SVG file; the figure's layout is made once, for this and for all that follows."""
        with style(self.name):
            made = file_svg(self.figure)
        self.figure.set_layout_engine("none")
        return made

    @property
    def svg(self) -> Markup:
        """For the page."""
        return Markup(for_page(self.file))  # noqa: S704 – matplotlib escapes its text

    @property
    def png(self) -> bytes:
        """A PNG file."""
        with style(self.name):
            return file_png(self.figure)


@dataclass(frozen=True)
class Analysis:
    """All that a page is made of."""

    trajectories: pl.DataFrame
    quantities: pl.DataFrame
    tests: pl.DataFrame
    components: pl.DataFrame
    steps: pl.DataFrame
    info: StabilityInfo
    maps: Sequence[StepMaps] = ()
    surfaces: Sequence[LossSurface] = ()

    @cached_property
    def drawings(self) -> dict[str, list[Drawing]]:
        """The figures of every part; drawn once for the page and for the files."""
        return {name: list(_drawings(name, self)) for name in self.info.parts}


@dataclass(frozen=True)
class TestRow:
    """A row of the table of tests."""

    quantity: str
    second: str
    means: tuple[str, str]
    difference: str
    p_values: list[str]
    sizes: list[str]
    verdict: str


@dataclass(frozen=True)
class ComponentRow:
    """A row of the table of components: an attack's, one cell a component with its value, interval and p-value."""

    attack: str
    cells: list[tuple[str, str, str]]


@dataclass(frozen=True)
class PartSection:
    """What the page tells of one part."""

    anchor: str
    name: str
    part: PartInfo
    budget: str
    lengths: dict[str, str]
    drawings: list[Drawing]
    tests: list[TestRow]
    untested: list[str]


@dataclass(frozen=True)
class ComponentTable:
    """The components of the effect's variance within one data set, or over all."""

    anchor: str
    scope: str
    over_all: bool
    heads: list[str]
    rows: list[ComponentRow]


def write_stability_page(analysis: Analysis, path: Path) -> None:
    """Write the page as one self-contained HTML file; it appears whole or not at all, and replaces an older one.

    Raises:
        InputError: if the file cannot be written.
    """
    info = analysis.info
    page = (
        templates()
        .get_template("stability_page.html.j2")
        .render(
            info=info,
            findings=findings(analysis.tests, analysis.components, analysis.steps, info),
            cautions=cautions(analysis.tests, info),
            sections=[_section(place, name, analysis) for place, name in enumerate(info.parts, 1)],
            components=list(_component_tables(analysis.components)),
            quantities=QUANTITIES,
            config=config_text(info.config),
            command=_command(info),
        )
    )
    write_whole(path, page.encode())


def _command(info: StabilityInfo) -> str:
    """What does the analysis again; images that could not be read were among those that were asked for."""
    images = max(part.evaluated + len(part.skipped) for part in info.parts.values())
    pictures = "" if info.pictures is None else f" --pictures {info.pictures}"
    return f"medrobust stability run.yaml --seeds {len(info.seeds)} --images {images}{pictures}"


def write_figures(analysis: Analysis, folder: Path) -> None:
    """Write every figure of the page as SVG and as PNG into a new folder."""
    folder.mkdir()
    for place, drawings in enumerate(analysis.drawings.values(), 1):
        for drawing in drawings:
            (folder / f"part-{place}-{drawing.name}.svg").write_bytes(on_white(drawing.file))
            (folder / f"part-{place}-{drawing.name}.png").write_bytes(drawing.png)


def _section(place: int, name: str, analysis: Analysis) -> PartSection:
    part, info = analysis.info.parts[name], analysis.info
    threat = part.threats[0]
    budget = budget_text(str(threat["norm"]), as_float(threat["eps"]) or 0.0, part)
    return PartSection(
        anchor=f"part-{place}",
        name=name,
        part=part,
        budget=budget,
        lengths={label: f"{length:.4g}" for label, length in info.step_lengths[name].items()},
        drawings=analysis.drawings[name],
        tests=[_test_row(row) for row in analysis.tests.filter(part=name).iter_rows(named=True)],
        untested=list(_untested(analysis.quantities.filter(part=name))),
    )


def _untested(quantities: pl.DataFrame) -> Iterator[str]:
    """Of what is measured and not tested, every attack's mean."""
    means = quantities.group_by("attack", maintain_order=True).agg(pl.col(list(QUANTITIES)).mean())
    for name, quantity in QUANTITIES.items():
        known = means.filter(pl.col(name).is_finite())
        if not quantity.tested and len(known):
            told = [f"{plain(attack, 24)} {value:.3g}" for attack, value in known.select("attack", name).iter_rows()]
            yield (
                f"{quantity.title}: {listed(told)} on average. This is not tested: an image’s value is its mean "
                "distance to all the others, so that the images’ values are not independent of each other."
            )


def _drawings(name: str, analysis: Analysis) -> Iterator[Drawing]:
    steps, attacks = analysis.trajectories, listed([plain(label, 24) for label in analysis.info.parts[name].attacks])
    bold = (
        f"Thin lines: single images (mean over seeds), at most {LINES} of each attack, spread over them; bold: median "
        "of all images; band: quartiles."
    )
    yield Drawing(
        "divergences",
        steps_figure(steps, name, DIVERGENCES),
        f"Four line charts against the step, under {attacks}: {_ends(analysis.steps, name, DIVERGENCES)}",
        f"The prediction’s way. {bold}",
    )
    yield Drawing(
        "movement",
        steps_figure(steps, name, MOVEMENTS),
        f"Four line charts against the step, under {attacks}: {_ends(analysis.steps, name, MOVEMENTS)}",
        f"The perturbation’s way. {bold}",
    )
    for index in dict.fromkeys(one.index for one in analysis.maps if one.part == name):
        own = [one for one in analysis.maps if (one.part, one.index) == (name, index)]
        yield Drawing(
            f"maps-{index}",
            maps_figure(own),
            f"Maps of image {index}: for every attack the two divergences at each pixel after steps "
            f"{listed([str(step) for step in own[0].steps])}.",
            f"Image {index}, pixel by pixel: KL(p_t ‖ p_T), to the last step, and KL(p_0 ‖ p_t), from the start.",
        )
    for index in dict.fromkeys(one.index for one in analysis.surfaces if one.part == name):
        planes = [one for one in analysis.surfaces if (one.part, one.index) == (name, index)]
        yield Drawing(
            f"surface-{index}",
            surfaces_figure(planes),
            f"Contours of the loss around image {index}. {' '.join(_plane_text(one) for one in planes)}",
            f"The loss around image {index}, in planes of {plain(planes[0].first, 24)}’s perturbation with another. "
            "Axes in lengths of the first; white: the border of the budget.",
        )


def _ends(steps: pl.DataFrame, part: str, measures: dict[str, str]) -> str:
    """The medians at the last steps but one (where KL to the last step is not 0 by definition)."""
    told = []
    for measure, title in measures.items():
        rows = steps.filter(part=part, measure=measure).sort("step")
        last = rows["step"].max()
        at = rows.filter(pl.col("step") == (int(str(last)) - (measure == "kl_final"))) if last is not None else rows
        values = [f"{plain(row['attack'], 24)} {row['median']:.3g}" for row in at.iter_rows(named=True)]
        told.append(f"{title}, near the end {listed(values)}" if values else f"{title}, not measured")
    return "; ".join(told) + "."


def _plane_text(one: LossSurface) -> str:
    middle = len(one.along) // 2
    first = int((one.along - 1).abs().argmin())
    second = "a random change" if one.second == RANDOM else plain(one.second, 24)
    return (
        f"Plane with {second}: loss {float(one.loss[middle, middle]):.3g} at the clean image, "
        f"{float(one.loss[middle, first]):.3g} where {plain(one.first, 24)} ends, and "
        f"{float(one.loss[first, middle]):.3g} as far away across it."
    )


def _test_row(row: dict[str, object]) -> TestRow:
    quantity = QUANTITIES[str(row["quantity"])]
    words = {HIGHER: quantity.more_is, LOWER: "weaker" if quantity.more_is == "stronger" else "steadier"}
    verdict = str(row["verdict"])
    told = f"{plain(str(row['first']), 24)} is {words[verdict]}" if verdict in words else verdict
    return TestRow(
        quantity=quantity.title,
        second=plain(str(row["second"]), 40),
        means=(_significant(row["mean_first"]), _significant(row["mean_second"])),
        difference=_difference(row),
        p_values=[format_p_value(as_float(row[f"{name}_holm"]) or 0.0) for name in ("wilcoxon", "flips")],
        sizes=[_with_interval(row, name, f"{name}_low", f"{name}_high") for name in ("rank_biserial", "standardised")],
        verdict=told,
    )


def _component_tables(components: pl.DataFrame) -> Iterator[ComponentTable]:
    scopes = components.select("scope", "quantity").unique(maintain_order=True)
    for place, (scope, quantity) in enumerate(scopes.iter_rows(), 1):
        own = components.filter(scope=scope, quantity=quantity)
        known = own.filter(pl.col("value").is_not_null())["component"].unique(maintain_order=True).to_list()
        shown = [name for name in (*_COMPONENTS, TOTAL) if name in known]
        rows = []
        for attack in own["attack"].unique(maintain_order=True):
            of_attack = own.filter(attack=attack)
            cells = [_component_cell(of_attack.filter(component=name).row(0, named=True)) for name in shown]
            rows.append(ComponentRow(plain(attack, 40), cells))
        yield ComponentTable(
            anchor=f"components-{place}",
            scope=f"{_scope(scope)}: {QUANTITIES[quantity].title.lower()}",
            over_all=scope == ALL_DATA_SETS,
            heads=[_COMPONENTS.get(name, "all together") for name in shown],
            rows=rows,
        )


def _scope(scope: str) -> str:
    return "All data sets" if scope == ALL_DATA_SETS else plain(scope, 60)


def _component_cell(row: dict[str, object]) -> tuple[str, str, str]:
    """The variance with its share of all, the interval, and the p-value of no difference from the reference's."""
    share = as_float(row["share"])
    text = _significant(row["value"])
    if share is not None and row["component"] != TOTAL:
        text += f" ({100 * share:.3g} %)"
    low, high = as_float(row["low"]), as_float(row["high"])
    p_value = as_float(row["p_holm"])
    return (
        text,
        NO_INTERVAL if low is None or high is None else f"[{low:.3g}, {high:.3g}]",
        "" if p_value is None else format_p_value(p_value),
    )


def _significant(value: object) -> str:
    number = as_float(value)
    return "–" if number is None else f"{number:.3g}".replace("-", "−")


def _difference(row: dict[str, object]) -> str:
    if row["low"] is None or row["high"] is None:
        return f"{_significant(row['difference'])} {NO_INTERVAL}"
    return f"{_significant(row['difference'])} [{_significant(row['low'])}, {_significant(row['high'])}]"


def _with_interval(row: dict[str, object], name: str, low: str, high: str) -> str:
    value = as_float(row[name])
    if value is None:
        return "–"
    interval = format_interval(as_float(row[low]), as_float(row[high]))
    return f"{format_value(value)} {interval or NO_INTERVAL}"
