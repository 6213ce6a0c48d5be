"""What the answers cost the patients, by the costs that a run names: the mean, and its rise under attack."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from medrobust.evaluation.records import WORST_CASE, PartInfo, RunInfo
from medrobust.harm import Costs, checked_costs
from medrobust.statistics.conditions import Condition
from medrobust.statistics.metric import mean_metric
from medrobust.statistics.tabulating import FIGURE, KEY, Figure, PartRecords, Resampling, Row, tabulate

COST, RISE, COSTLY = "mean cost", "rise of mean cost", "costly answers"

HARM_SCHEMA = {
    **KEY,
    "metric": pl.String,  # "mean cost" of an image, its "rise" over clean; "costly answers", the share that costs
    **FIGURE,
}


def harm(
    records: pl.DataFrame, info: RunInfo, *, resamples: int = 1000, confidence: float = 0.95, seed: int = 0
) -> pl.DataFrame:
    """The cost of the answers, for every part whose task has costs.

    The worst case is by cost here: of each image the attack after which its answer costs most, then the one of the
    highest loss. So it may be another attack than in the summary, where any wrong answer is as bad as another.

    Returns:
        A row for each condition and metric; columns as `HARM_SCHEMA`.

    Raises:
        InputError: `resamples` or `confidence` is out of range, or `run.json` holds costs that are none.
    """
    return tabulate(records, info, Resampling(resamples, confidence, seed), _rows, HARM_SCHEMA)


def costs_of(part: PartInfo) -> Costs | None:
    """The costs of a part's task, if it has any."""
    options = part.victim.get("task_options")
    costs = options.get("costs") if isinstance(options, dict) else None
    return None if costs is None else checked_costs(costs, len(part.dataset.classes))


def _rows(part: PartRecords) -> Iterator[Row]:
    costs = costs_of(part.info)
    if costs is not None:
        yield from part.with_intervals(_figures(part, np.array(costs)))


def _figures(part: PartRecords, costs: NDArray[np.float64]) -> Iterator[Figure]:
    count = part.clusters.count
    for condition, codes in part.conditions():
        if condition.attack == WORST_CASE:
            condition = _costliest(condition, part.records, costs)
        before, after = (_paid(condition.rows, costs, when) for when in ("before", condition.when))
        yield part.figure(condition, codes, mean_metric(COST, after, codes, count))
        costly = mean_metric(COSTLY, (after > 0).astype(np.float64), codes, count, is_share=True)
        yield part.figure(condition, codes, costly)
        if condition.when == "after":
            yield part.figure(condition, codes, mean_metric(RISE, after - before, codes, count))


def _costliest(condition: Condition, records: pl.DataFrame, costs: NDArray[np.float64]) -> Condition:
    at = records.filter((pl.col("norm") == condition.norm) & (pl.col("eps") == condition.eps))
    paid = pl.Series("paid", _paid(at, costs, "after"))
    worst = pl.col("paid"), pl.col("loss_after").fill_nan(None)
    rows = at.with_columns(paid).sort("index", *worst, descending=[False, True, True], nulls_last=True)
    return replace(condition, rows=rows.unique("index", keep="first", maintain_order=True).drop("paid"))


def _paid(rows: pl.DataFrame, costs: NDArray[np.float64], when: str) -> NDArray[np.float64]:
    """What each answer costs, `(n,)`."""
    truth, answer = (rows[name].list.first().to_numpy() for name in ("truth", f"prediction_{when}"))
    return np.asarray(costs[truth, answer])
