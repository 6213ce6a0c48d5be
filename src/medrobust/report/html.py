"""The report of a run: one HTML page that needs nothing else, no network and no script."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

import polars as pl
import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined

from medrobust.evaluation.records import GalleryImage, RunInfo
from medrobust.evaluation.storage import write_whole
from medrobust.report import attack_wording, mask_wording, threat_wording, verdicts, wording
from medrobust.report.budgets import budget_text
from medrobust.report.folders import without_absolute, without_folder, without_folders
from medrobust.report.numbers import (
    counted,
    format_change,
    format_norm,
    format_value,
    metric_heading,
    metric_name,
    plain,
)
from medrobust.report.sections import sections_of
from medrobust.report.table import worst_of
from medrobust.statistics import TASK_TRAITS, WORST_CASE, summarise


def write_report(
    records: pl.DataFrame,
    info: RunInfo,
    gallery: Sequence[GalleryImage],
    path: str | os.PathLike[str],
    *,
    summary: pl.DataFrame | None = None,
) -> None:
    """Write the report of a run as one self-contained HTML file.

    Neither sample ids, patients nor file names of images enter the page: an image is named by its place. Of paths in
    the configuration only the last component does.

    Args:
        records: rows as `medrobust.evaluation.records.SCHEMA`.
        info: the run.
        gallery: images to show; may be empty.
        path: the file; it appears whole or not at all, and replaces an older one.
        summary: what `medrobust.statistics.summarise` gave for these records; computed when not given.

    Raises:
        InputError: if the file cannot be written.
    """
    page = render(records, info, list(gallery), summarise(records, info) if summary is None else summary)
    write_whole(Path(path), page.encode())


def render(records: pl.DataFrame, info: RunInfo, gallery: list[GalleryImage], summary: pl.DataFrame) -> str:
    """The page as text."""
    return (
        _environment()
        .get_template("page.html.j2")
        .render(info=info, sections=sections_of(records, info, gallery, summary), config=_config_text(info))
    )


def _environment() -> Environment:
    """The templates, with all that they may call."""
    environment = Environment(
        loader=PackageLoader("medrobust.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "plain": plain,
        "without_absolute": without_absolute,
        "without_folder": without_folder,
        "value": format_value,
        "change": format_change,
        "norm": format_norm,
        "counted": counted,
        "metric": metric_name,
        "heading": metric_heading,
    }
    environment.tests["worst"] = lambda line: line.attack == WORST_CASE
    environment.globals |= {
        "words": wording,
        "attack_words": attack_wording,
        "threat_words": threat_wording,
        "mask_words": mask_wording,
        "verdicts": verdicts,
        "budget_text": budget_text,
        "traits_of": TASK_TRAITS,
        "worst_of": worst_of,
    }
    return environment


def _config_text(info: RunInfo) -> str | None:
    """The configuration as YAML without folders, whatever values it holds; None when there is none."""
    if info.config is None:
        return None
    plain_values = without_folders(json.loads(json.dumps(info.config, default=str)))
    return yaml.safe_dump(plain_values, sort_keys=False, allow_unicode=True).strip()
