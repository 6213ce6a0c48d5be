"""The tables of a run beside its summary, each computed once, when asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import polars as pl

from medrobust.evaluation.afterchecks import own_parts
from medrobust.evaluation.records import RunInfo
from medrobust.statistics.calibration import calibration, reliability
from medrobust.statistics.confusion import confusion
from medrobust.statistics.harm import harm
from medrobust.statistics.sample_size import sample_size
from medrobust.statistics.subgroups import subgroups


@dataclass(frozen=True, eq=False)
class Tables:
    """Long tables with a row for each part and figure; parts that are afterchecks have none.

    Args:
        records: rows as `medrobust.evaluation.records.SCHEMA`.
        whole: the run.
    """

    records: pl.DataFrame
    whole: RunInfo

    @cached_property
    def info(self) -> RunInfo:
        """The run without its afterchecks."""
        return replace(self.whole, parts=own_parts(self.whole.parts))

    @cached_property
    def subgroups(self) -> pl.DataFrame:
        """See `medrobust.statistics.subgroups`."""
        return subgroups(self.records, self.info)

    @cached_property
    def confusion(self) -> pl.DataFrame:
        """See `medrobust.statistics.confusion`."""
        return confusion(self.records, self.info)

    @cached_property
    def harm(self) -> pl.DataFrame:
        """See `medrobust.statistics.harm`."""
        return harm(self.records, self.info)

    @cached_property
    def calibration(self) -> pl.DataFrame:
        """See `medrobust.statistics.calibration`."""
        return calibration(self.records, self.info)

    @cached_property
    def reliability(self) -> pl.DataFrame:
        """See `medrobust.statistics.reliability`."""
        return reliability(self.records, self.info)

    @cached_property
    def sample_size(self) -> pl.DataFrame:
        """See `medrobust.statistics.sample_size`."""
        return sample_size(self.records, self.info)

    def rows(self, part: str) -> Mapping[str, list[dict[str, object]]]:
        """The rows of one part, table by table."""
        names = ("subgroups", "confusion", "harm", "calibration", "reliability", "sample_size")
        tables: dict[str, pl.DataFrame] = {name: getattr(self, name) for name in names}
        return {name: table.filter(pl.col("part") == part).drop("part").to_dicts() for name, table in tables.items()}
