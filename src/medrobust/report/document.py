"""The report as data, for programs: what `report.json` holds, described by `docs/report.schema.json`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, cast

import pydantic

from medrobust.report import threat_wording, wording
from medrobust.report.budgets import budget_text
from medrobust.report.evidence import Asked
from medrobust.report.folders import without_absolute, without_folder, without_folders
from medrobust.report.sections import Comparison, Section, Survival
from medrobust.report.table import Cell, Line, PartTable
from medrobust.report.told import Told
from medrobust.statistics import TASK_TRAITS, Check, Tables

DOCUMENT_VERSION = 1


@dataclass(frozen=True)
class FigureData:
    """A figure with its interval: null where there is none. `n` images, `clusters` patients among them, or images."""

    value: float | None
    low: float | None
    high: float | None
    n: int
    clusters: int


@dataclass(frozen=True)
class ConditionData:
    """What is left under one attack, or the worst case over them, at one budget; `figures` by metric.

    `eps` is in `unit`; `budget` is the same as people read it.
    """

    attack: str
    norm: str
    eps: float
    unit: str
    budget: str
    figures: dict[str, FigureData]


@dataclass(frozen=True)
class AfterData:
    """The clean figures when the images went through one change first, or are shown to another model."""

    name: str
    clean: FigureData
    conditions: list[ConditionData]


@dataclass(frozen=True)
class PartData:
    """One data set × model. `conditions` is empty, and what is computed null, when no image was evaluated.

    `tables` holds rows by the table's name: "subgroups", "confusion", "harm", "calibration", "reliability" and
    "sample_size", as `docs/subgroups.md` tells them.
    """

    name: str
    task: str
    main_metric: str
    model: str
    parameters: int
    weights_sha256: str
    data: str
    data_sha256: str
    unit: str
    bounds: tuple[float, float]
    classes: list[str]
    images: int
    evaluated: int
    skipped: int
    resampled: str | None
    confidence: float | None
    answer: list[str]
    warnings: list[str]
    threat_model: list[str]
    attacks: dict[str, dict[str, Any]]
    clean: dict[str, FigureData]
    conditions: list[ConditionData]
    survival: list[AfterData]
    comparisons: list[Comparison]
    trust: list[Check]
    tables: dict[str, list[dict[str, Any]]]
    limits: list[str]


@dataclass(frozen=True)
class FoundData:
    """What one part measured of a line of evidence."""

    part: str
    figure: str


@dataclass(frozen=True)
class EvidenceData:
    """A thing that a law, a guidance, a standard or a taxonomy asks for; not measured when nothing is `found`."""

    framework: str
    clause: str
    asks: str
    found: list[FoundData]


@dataclass(frozen=True)
class ReportDocument:
    """A run, told. `created` is ISO 8601 in UTC; `config` is without folders, null for a run started from Python."""

    document_version: int
    created: str
    seconds: float
    seed: int
    device: str
    versions: dict[str, str]
    parts: list[PartData]
    evidence: list[EvidenceData]
    config: Any


_DOCUMENT = pydantic.TypeAdapter(ReportDocument)


def schema_text() -> str:
    """The JSON Schema of the document, as it is published."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **_DOCUMENT.json_schema(mode="serialization")}
    return json.dumps(schema, indent=2) + "\n"


def document_text(told: Told) -> str:
    """The document as JSON; what is not finite is null."""
    return _DOCUMENT.dump_json(_document(told), indent=2).decode() + "\n"


def _document(told: Told) -> ReportDocument:
    info = told.info
    return ReportDocument(
        DOCUMENT_VERSION,
        info.created,
        info.seconds,
        info.seed,
        info.device,
        info.versions,
        [_part(section, told.tables) for section in told.sections],
        [_line(framework.name, line) for framework in told.evidence for line in framework.lines],
        told.settings,
    )


def _part(section: Section, tables: Tables) -> PartData:
    part, table = section.part, section.table
    skipped = [wording.skipped_sentence(part)] if part.skipped else []
    return PartData(
        name=section.name,
        task=part.task,
        main_metric=TASK_TRAITS[part.task].main,
        model=without_absolute(part.model),
        parameters=part.parameters,
        weights_sha256=part.weights_sha256,
        data=without_folder(part.dataset.source),
        data_sha256=part.data_sha256,
        unit=part.dataset.unit,
        bounds=part.dataset.bounds,
        classes=list(part.dataset.classes),
        images=part.size,
        evaluated=part.evaluated,
        skipped=len(part.skipped),
        resampled=table.resampled if table else None,
        confidence=table.confidence if table else None,
        answer=section.answer,
        warnings=[*part.dataset.notes, *skipped],
        threat_model=threat_wording.threat_model(table, part) if table else [],
        attacks=cast("dict[str, dict[str, Any]]", without_folders(part.attacks)),
        clean=_figures(table.clean) if table else {},
        conditions=[_condition(line, section) for line in table.lines] if table else [],
        survival=[_after(one, section) for one in section.survival],
        comparisons=list(section.comparisons),
        trust=list(section.trust.checks) if section.trust else [],
        tables=dict(tables.rows(section.name)) if table else {},
        limits=_limits(section, table),
    )


def _line(framework: str, line: Asked) -> EvidenceData:
    return EvidenceData(framework, line.clause, line.asks, [FoundData(one.part, one.figure) for one in line.found])


def _after(check: Survival, section: Section) -> AfterData:
    conditions = [_condition(line, section) for budget in check.budgets for line in budget]
    return AfterData(check.name, _figure(check.clean), conditions)


def _limits(section: Section, table: PartTable | None) -> list[str]:
    return threat_wording.limits(table, section.part) if table else []


def _condition(line: Line, section: Section) -> ConditionData:
    unit = section.part.unit_of(line.norm)
    return ConditionData(
        line.attack, line.norm, line.eps, unit, budget_text(line.norm, line.eps, section.part), _figures(line)
    )


def _figures(line: Line) -> dict[str, FigureData]:
    return {metric: _figure(cell) for metric, cell in line.cells.items()}


def _figure(cell: Cell) -> FigureData:
    return FigureData(cell.value, cell.low, cell.high, cell.n, cell.clusters)
