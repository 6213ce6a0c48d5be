"""A run as a report tells it: its sections and what else every format needs, each computed once, when asked for."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import polars as pl
import yaml

from medrobust.evaluation.records import GalleryImage, RunInfo
from medrobust.report.evidence import Framework, evidence
from medrobust.report.folders import without_folders
from medrobust.report.sections import Section, sections_of
from medrobust.report.stability import StabilitySection
from medrobust.statistics import Tables


@dataclass(frozen=True)
class Told:
    """What is told of a run.

    Attributes:
        records: rows as `medrobust.evaluation.records.SCHEMA`.
        info: the run.
        gallery: images to show; may be empty.
        summary: what `medrobust.statistics.summarise` gave for the records.
        tables: those beside it.
        stability: of the analysis beside the run, if there is one.
    """

    records: pl.DataFrame
    info: RunInfo
    gallery: Sequence[GalleryImage]
    summary: pl.DataFrame
    tables: Tables
    stability: StabilitySection | None = None

    @cached_property
    def sections(self) -> list[Section]:
        """One for each part."""
        return sections_of(self.records, self.info, list(self.gallery), self.summary, self.tables)

    @cached_property
    def evidence(self) -> list[Framework]:
        """What was measured of what regulators ask for."""
        return evidence(self.sections)

    @property
    def without_images(self) -> Told:
        """The same without its gallery, of which most formats show nothing."""
        return replace(self, gallery=())

    @property
    def settings(self) -> object:
        """The configuration as plain values, whatever it held, without folders; None when there is none."""
        return settings_of(self.info.config)

    @property
    def config(self) -> str | None:
        """The same as YAML."""
        return config_text(self.info.config)


def settings_of(config: Mapping[str, object] | None) -> object:
    """A configuration as plain values, whatever it held, without folders; None when there is none."""
    return None if config is None else without_folders(json.loads(json.dumps(config, default=str)))


def config_text(config: Mapping[str, object] | None) -> str | None:
    """The same as YAML."""
    if config is None:
        return None
    return yaml.safe_dump(settings_of(config), sort_keys=False, allow_unicode=True).strip()
