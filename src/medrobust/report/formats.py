"""The formats of a report: what files each is, and where in a run's folder it is written."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from medrobust.errors import InputError
from medrobust.evaluation.records import GalleryImage, RunInfo
from medrobust.evaluation.storage import make_folder, write_whole
from medrobust.report.document import document_text
from medrobust.report.html import page
from medrobust.report.latex import latex_tables
from medrobust.report.markdown import markdown_files, model_card
from medrobust.report.stability import stability_section
from medrobust.report.told import Told
from medrobust.statistics import Tables, summarise

Files = dict[str, bytes]
"""Path beside the main file → content; the main file's is ""."""


def csv_file(told: Told) -> Files:
    """The summary; a name that a spreadsheet would take for a formula has an apostrophe before it."""
    names = pl.col([name for name, kind in told.summary.schema.items() if kind == pl.String])
    formula = names.str.contains(r"^[=+\-@\t\r]")
    inert = told.summary.with_columns(pl.when(formula).then("'" + names).otherwise(names).name.keep())
    return {"": inert.write_csv().encode()}


@dataclass(frozen=True)
class Format:
    """A format of the report.

    Attributes:
        place: of its main file in the folder of a run.
        files: makes its files.
        summary: what it is, in a line.
    """

    place: str
    files: Callable[[Told], Files]
    summary: str


FORMATS: dict[str, Format] = {
    "html": Format("report.html", lambda told: {"": page(told).encode()}, "one page to look at"),
    "markdown": Format("markdown/report.md", markdown_files, "text and tables, with figures as PNG and SVG"),
    "latex": Format("table.tex", lambda told: {"": latex_tables(told.without_images).encode()}, "tables for a paper"),
    "json": Format("report.json", lambda told: {"": document_text(told.without_images).encode()}, "for programs"),
    "csv": Format("summary.csv", csv_file, "every figure in a row"),
    "model-card": Format("model-card.md", model_card, "a section for a model card"),
}
_SUFFIXES = {".md": "markdown", ".tex": "latex", ".json": "json", ".csv": "csv"}


def write_report(
    records: pl.DataFrame,
    info: RunInfo,
    gallery: Sequence[GalleryImage],
    path: str | os.PathLike[str],
    *,
    summary: pl.DataFrame | None = None,
    tables: Tables | None = None,
    format: str | None = None,  # noqa: A002 – what it is called everywhere
) -> None:
    """Write the report of a run.

    Args:
        records: rows as `medrobust.evaluation.records.SCHEMA`.
        info: the run.
        gallery: images to show; may be empty.
        path: the (main) file; it appears whole or not at all, and replaces an older one. The HTML page shows a
            stability analysis of the same data and models that lies beside it in a folder `stability`.
        summary: what `medrobust.statistics.summarise` gave for these records; computed when not given.
        tables: of these records; made when not given.
        format: "html", "markdown", "latex", "json", "csv" or "model-card"; when not given, as the suffix says (.md,
            .tex, .json, .csv), else HTML.

    Raises:
        InputError: there is no such format, or the file cannot be written.
    """
    path = Path(path)
    chosen = format_of(format or _SUFFIXES.get(path.suffix.lower(), "html"))
    found = summarise(records, info) if summary is None else summary
    beside = Tables(records, info) if tables is None else tables
    told = Told(records, info, gallery, found, beside, stability_section(path.parent, info))
    for name, content in chosen.files(told).items():
        if name:
            make_folder((path.parent / name).parent)
        write_whole(path.parent / name if name else path, content)


def format_of(name: str) -> Format:
    """A format by its name.

    Raises:
        InputError: there is none.
    """
    if name not in FORMATS:
        raise InputError(f"no report format {name!r}; there are {', '.join(FORMATS)}")
    return FORMATS[name]
