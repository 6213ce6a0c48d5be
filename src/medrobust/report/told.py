"""A run as a report tells it: its sections and what else every format needs, each computed once, when asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import polars as pl

from medrobust.evaluation.records import GalleryImage, RunInfo
from medrobust.report.evidence import Framework, evidence
from medrobust.report.folders import config_text, plain_settings
from medrobust.report.sections import Section, sections_of
from medrobust.report.stability import StabilitySection, stability_section


@dataclass(frozen=True)
class Told:
    """What is told of a run.

    Attributes:
        records: rows as `medrobust.evaluation.records.SCHEMA`.
        info: the run.
        gallery: images to show; may be empty.
        summary: what `medrobust.statistics.summarise` gave for the records.
        beside: the folder of the report: a stability analysis in its folder `stability` is told of.
    """

    records: pl.DataFrame
    info: RunInfo
    gallery: Sequence[GalleryImage]
    summary: pl.DataFrame
    beside: Path | None = None

    @cached_property
    def sections(self) -> list[Section]:
        """One for each part."""
        return sections_of(self.records, self.info, list(self.gallery), self.summary)

    @cached_property
    def evidence(self) -> list[Framework]:
        """What was measured of what regulators ask for."""
        return evidence(self.sections)

    @cached_property
    def stability(self) -> StabilitySection | None:
        """What the analysis beside the report says; None where there is none.

        Raises:
            InputError: it is damaged.
        """
        return None if self.beside is None else stability_section(self.beside)

    @property
    def without_images(self) -> Told:
        """The same without its gallery, of which most formats show nothing."""
        return replace(self, gallery=())

    @property
    def settings(self) -> object:
        """The configuration as plain values without folders; None when there is none."""
        return plain_settings(self.info.config)

    @property
    def config(self) -> str | None:
        """The same as YAML."""
        return config_text(self.info.config)
