"""What the report tells about each part of a run, computed from its records.

A new section is a field of `Section`, the function that fills it, and a partial of its name in `templates/`, which
`part.html.j2` lists.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl
from markupsafe import Markup

from medrobust.evaluation import afterchecks_of, own_parts
from medrobust.evaluation.records import GalleryImage, PartInfo, RunInfo
from medrobust.report import verdicts, wording
from medrobust.report.areas import areas_of, strongest_of
from medrobust.report.budgets import budget_text
from medrobust.report.calibration import Calibration, calibration_of
from medrobust.report.confusion import LabelFlow, Turned, label_flows, turned
from medrobust.report.effort import Members, Spent, members, spent
from medrobust.report.figures import curve_description, curve_svg
from medrobust.report.gallery import Entry, entry_size, gallery_entries, shown_as
from medrobust.report.harm import HarmTable, harm_table
from medrobust.report.holding import Held, held
from medrobust.report.numbers import format_norm, metric_heading, plain
from medrobust.report.sample_size import size_sentences
from medrobust.report.showing import Showing, showing_for
from medrobust.report.subgroups import GroupTable, group_tables
from medrobust.report.table import Cell, Line, PartTable, part_table
from medrobust.report.trust import TrustSection, trust_section
from medrobust.statistics import TASK_TRAITS, WORST_CASE, Tables, compare_attacks, trust_checks
from medrobust.statistics.attack_kinds import attack_name
from medrobust.statistics.conditions import images_of
from medrobust.statistics.masks import size_cuts


@dataclass(frozen=True)
class Figure:
    """A curve, what it shows in words, and its caption."""

    svg: Markup
    description: str
    caption: str
    metric: str
    norm: str


@dataclass(frozen=True)
class Comparison:
    """A row of SMIA against PGD."""

    budget: str
    first: str
    second: str
    difference: str
    p_value: str
    verdict: str


@dataclass(frozen=True)
class Survival:
    """What the main metric is after one aftercheck."""

    name: str
    clean: Cell
    budgets: list[list[Line]]
    weights: str | None  # SHA-256 of another model's


@dataclass(frozen=True)
class Section:
    """What the page tells about one part; `table` is None when no image was evaluated."""

    anchor: str
    name: str
    part: PartInfo
    table: PartTable | None
    answer: list[str]
    figures: list[Figure]
    comparisons: list[Comparison]
    gallery: list[Entry]
    shown_as: list[str]
    lesion_sizes: tuple[float, float, str] | None = None
    survival: Sequence[Survival] = ()
    spent: Sequence[Spent] = ()
    members: Sequence[Members] = ()
    held: Sequence[Held] = ()
    areas: Sequence[tuple[str, list[Line]]] = ()
    strongest: Sequence[Line] = ()
    groups: Sequence[GroupTable] = ()
    turned: Sequence[Turned] = ()
    label_flows: Sequence[LabelFlow] = ()
    harm: HarmTable | None = None
    calibration: Calibration | None = None
    size: Sequence[str] = ()
    trust: TrustSection | None = None


def sections_of(
    records: pl.DataFrame, info: RunInfo, gallery: list[GalleryImage], summary: pl.DataFrame, tables: Tables
) -> list[Section]:
    """A section for each part, in the order of the run; afterchecks are told within the part that they check."""
    names = list(own_parts(info.parts))
    shown = [image for image in gallery if image.part in names]

    def size(image: GalleryImage, showing: Showing) -> int:
        return entry_size(image, records, info.parts[image.part], showing)

    showing = showing_for(shown, size)
    return [
        _section(f"part-{place}", name, records, info, shown, showing, summary, tables)
        for place, name in enumerate(names, 1)
    ]


def _section(
    anchor: str,
    name: str,
    records: pl.DataFrame,
    info: RunInfo,
    gallery: list[GalleryImage],
    showing: Showing,
    summary: pl.DataFrame,
    tables: Tables,
) -> Section:
    part, table = info.parts[name], part_table(summary, name)
    if table is None:
        return Section(anchor, name, part, None, [], [], [], [], [])
    compared = _smia_against_pgd(records, info, name, table)
    images = [image for image in gallery if image.part == name]
    of_part = records.filter(pl.col("part") == name)
    return Section(
        anchor,
        name,
        part,
        table,
        wording.answer(table, part, compared),
        _figures(table, part),
        [_comparison(row, part) for frame in compared for row in frame.iter_rows(named=True)],
        gallery_entries(images, records, name, part, showing),
        shown_as(images[0], part.dataset, showing) if images else [],
        size_cuts(images_of(of_part)),
        _survival(name, info, summary),
        spent(of_part, part),
        members(of_part, part),
        held(of_part, part, table.confidence),
        areas_of(table, part),
        strongest_of(table, part),
        trust=trust_section(trust_checks(records, summary, name, part)),
        **_of_patients(name, part, tables),
    )


def _of_patients(name: str, part: PartInfo, tables: Tables) -> dict[str, Any]:
    """What groups, classes, costs and confidences there are, and how many images it takes to know them."""
    here = pl.col("part") == name
    classes = tables.confusion.filter(here)
    return {
        "groups": group_tables(tables.subgroups.filter(here), part),
        "turned": turned(classes, part),
        "label_flows": label_flows(classes, part),
        "harm": harm_table(tables.harm, name, part),
        "calibration": calibration_of(tables.calibration, tables.reliability, name, part),
        "size": size_sentences(tables.sample_size, name, part),
    }


def _survival(name: str, info: RunInfo, summary: pl.DataFrame) -> list[Survival]:
    """One row an aftercheck, in place of a section: its attacks and images are those of the part."""
    main, found = TASK_TRAITS[info.parts[name].task].main, []
    for check in afterchecks_of(name, info.parts):
        table, weights = part_table(summary, check), info.parts[check].weights_sha256
        if table is not None:
            other = None if weights == info.parts[name].weights_sha256 else weights
            found.append(Survival(check.removeprefix(f"{name}, "), table.clean[main], table.budgets, other))
    return found


def _smia_against_pgd(records: pl.DataFrame, info: RunInfo, name: str, table: PartTable) -> list[pl.DataFrame]:
    """Every SMIA of a part against every PGD of it, paired."""
    part = info.parts[name]
    ran = dict.fromkeys(line.attack for line in table.lines if line.attack != WORST_CASE)
    kinds = {kind: [label for label in ran if attack_name(label, part) == kind] for kind in ("smia", "pgd")}
    return [
        compare_attacks(records, info, name, smia, pgd, confidence=table.confidence)
        for smia in kinds["smia"]
        for pgd in kinds["pgd"]
    ]


def _comparison(row: dict[str, object], part: PartInfo) -> Comparison:
    eps = row["eps"] if isinstance(row["eps"], float) else 0.0
    return Comparison(
        budget_text(str(row["norm"]), eps, part),
        plain(str(row["first"]), 40),
        plain(str(row["second"]), 40),
        verdicts.difference_text(row),
        verdicts.p_value_text(row),
        verdicts.short_verdict(row),
    )


def _figures(table: PartTable, part: PartInfo) -> list[Figure]:
    found = []
    for norm in table.norms:
        for metric in TASK_TRAITS[part.task].curves:
            if table.clean[metric].value is None:
                continue
            caption = f"{metric_heading(metric)} against eps ({format_norm(norm)})"
            svg = Markup(curve_svg(table, part, metric, norm))  # noqa: S704 – matplotlib escapes its text
            found.append(Figure(svg, curve_description(table, part, metric, norm), caption, metric, norm))
    return found
