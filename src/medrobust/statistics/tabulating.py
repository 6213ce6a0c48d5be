"""What every table of a run's figures has in common: parts, conditions, clusters, intervals on the same resamples."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl
from numpy.typing import NDArray

from medrobust.evaluation.records import PartInfo, RunInfo
from medrobust.statistics.conditions import Condition, conditions_of, images_of
from medrobust.statistics.metric import Metric
from medrobust.statistics.resampling import Clusters, clusters_of
from medrobust.statistics.summary import SUMMARY_SCHEMA, check_resampling, clusters_used, interval_rows, key_of

Schema = Mapping[str, pl.DataType | type[pl.DataType]]
Row = dict[str, object]
Figure = tuple[Row, Metric, int]

KEY: Schema = {name: SUMMARY_SCHEMA[name] for name in ("part", "attack", "norm", "eps")}
FIGURE: Schema = {
    name: SUMMARY_SCHEMA[name] for name in ("value", "low", "high", "n", "clusters", "resampled", "confidence")
}


@dataclass(frozen=True)
class Resampling:
    """How intervals are made; raises `InputError` if an option is out of range."""

    resamples: int = 1000
    confidence: float = 0.95
    seed: int = 0

    def __post_init__(self) -> None:
        check_resampling(self.resamples, self.confidence)


@dataclass(frozen=True)
class PartRecords:
    """The records of one part, to be analysed."""

    name: str
    info: PartInfo
    records: pl.DataFrame
    resampling: Resampling

    @cached_property
    def images(self) -> pl.DataFrame:
        """One row an image, sorted by index."""
        return images_of(self.records)

    @cached_property
    def clusters(self) -> Clusters:
        """What is resampled: of the images, in their order."""
        return clusters_of(self.images["patient"])

    def places(self, rows: pl.DataFrame) -> NDArray[np.int64]:
        """Where the images of rows stand among `images`, `(n,)`."""
        return np.searchsorted(self.images["index"].to_numpy(), rows["index"].to_numpy()).astype(np.int64)

    def conditions(self) -> Iterator[tuple[Condition, NDArray[np.int64]]]:
        """Clean, every attack at every budget and the worst cases, each with the clusters of its rows."""
        for condition in conditions_of(self.records, self.info):
            yield condition, self.clusters.codes[self.places(condition.rows)]

    def figure(self, condition: Condition, codes: NDArray[np.int64], metric: Metric, **fields: object) -> Figure:
        """A metric of a condition, with further fields of its row."""
        return {**key_of(condition), **fields}, metric, clusters_used(metric, codes)

    def with_intervals(self, figures: Iterable[Figure]) -> list[Row]:
        """The rows of figures, all on the same resamples."""
        how = self.resampling
        return interval_rows(list(figures), self.clusters, how.resamples, how.confidence, how.seed)


def tabulate(
    records: pl.DataFrame,
    info: RunInfo,
    resampling: Resampling,
    rows_of: Callable[[PartRecords], Iterable[Row]],
    schema: Schema,
) -> pl.DataFrame:
    """One table of all parts: what `rows_of` makes of each, under the columns of `schema`.

    Args:
        records: rows as `medrobust.evaluation.records.SCHEMA`.
        info: the run; only parts named there are told.
        resampling: how intervals are made.
        rows_of: the rows of a part, less "part" and "confidence".
        schema: of the table.
    """
    rows: list[Row] = []
    for name, part in info.parts.items():
        of_part = records.filter(pl.col("part") == name)
        if not of_part.is_empty():
            made = rows_of(PartRecords(name, part, of_part, resampling))
            rows += [{"part": name, "confidence": resampling.confidence, **row} for row in made]
    return pl.DataFrame([{column: row.get(column) for column in schema} for row in rows], schema=dict(schema))
