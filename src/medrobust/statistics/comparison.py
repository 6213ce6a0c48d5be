"""Is one attack stronger than another? Paired: the same images, the same resamples."""

from __future__ import annotations

import polars as pl

from medrobust.errors import InputError, unknown
from medrobust.evaluation.records import RunInfo
from medrobust.statistics.conditions import images_of
from medrobust.statistics.metrics import main_metric, main_values
from medrobust.statistics.resampling import bootstrap, clusters_of, percentile_interval
from medrobust.statistics.summary import check_resampling
from medrobust.statistics.sums import mean

COMPARISON_SCHEMA: dict[str, pl.DataType | type[pl.DataType]] = {
    "part": pl.String,
    "first": pl.String,
    "second": pl.String,
    "norm": pl.String,
    "eps": pl.Float64,
    "metric": pl.String,
    "difference": pl.Float64,  # of the main metric, under the first less under the second
    "low": pl.Float64,  # null where no interval can be given
    "high": pl.Float64,
    "n": pl.Int64,
    "clusters": pl.Int64,
    "resampled": pl.String,
    "confidence": pl.Float64,
}


def compare_attacks(
    records: pl.DataFrame,
    info: RunInfo,
    part: str,
    first: str,
    second: str,
    *,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> pl.DataFrame:
    """The main metric under `first` less that under `second`, at every budget that both were run at.

    Negative: the first attack is the stronger one. The interval is the percentile interval of the cluster
    bootstrap of the paired differences; it is not corrected for the number of budgets.

    Returns:
        One row per norm and eps, ascending; columns as `COMPARISON_SCHEMA`.

    Raises:
        InputError: if the run has no such part, or `resamples` or `confidence` is out of range.
    """
    check_resampling(resamples, confidence)
    if part not in info.parts:
        raise unknown("part", part, info.parts)
    task = info.parts[part].task
    of_part = records.filter(pl.col("part") == part)
    one, other = (of_part.filter(pl.col("attack") == label) for label in (first, second))
    if one.is_empty() or other.is_empty():
        raise InputError(f"{part}: the records hold no attack {(first if one.is_empty() else second)!r}")
    budgets = one.select("norm", "eps").unique().join(other.select("norm", "eps").unique(), ["norm", "eps"])
    rows = []
    for norm, eps in budgets.sort("norm", "eps").iter_rows():
        at = (pl.col("norm") == norm) & (pl.col("eps") == eps)
        here, there = (images_of(frame.filter(at)) for frame in (one, other))
        here, there = here.join(there, "index", "semi"), there.join(here, "index", "semi")
        clusters = clusters_of(here["patient"])
        difference = main_values(here, task, "after") - main_values(there, task, "after")
        statistic = mean(difference, clusters.codes, clusters.count)
        interval = None
        if clusters.count > 1:
            drawn = bootstrap([statistic], clusters.count, resamples, seed)[:, 0]
            interval = percentile_interval(drawn, confidence)
        low, high = interval or (None, None)
        figures = (main_metric(task), statistic.value, low, high)
        basis = (len(here), clusters.count, clusters.kind, confidence)
        rows.append((part, first, second, norm, eps, *figures, *basis))
    return pl.DataFrame(rows, schema=COMPARISON_SCHEMA, orient="row")
