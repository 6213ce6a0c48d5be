"""What each patient contributes to the difference of two runs, as swapping their answers between the runs tells it.

If two models are alike, either of them might as well have given the other's answers to a patient. Swapping these moves
the difference D of a figure to D − 2·c, and c is the patient's contribution: 0 where both runs agree, for a mean the
patient's sum of differences over the number of images, whatever that patient's number of images. Of a figure that is no
mean, the contributions add up to D to second order (each is the mean of a step from the first run towards the second
and of one back). The sign-flip test of `comparison.py` is made of them.

AUROC and mAP know scores by their order alone, and two models need not share a scale: scores are compared by their
ranks in either run.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.stats import rankdata

from medrobust.statistics.conditions import Condition, conditions_of
from medrobust.statistics.figure import Figure
from medrobust.statistics.metric import Metric
from medrobust.statistics.metrics import metrics_of
from medrobust.statistics.pairing import PairedPart
from medrobust.statistics.resampling import Resampled, Statistic, Table, TableStatistic, groups_of
from medrobust.statistics.summary import key_of, with_curves
from medrobust.statistics.sums import SumStatistic
from medrobust.statistics.task_traits import TASK_TRAITS

Place = tuple[tuple[str, str, float], str]  # attack, norm and eps; metric
Values = NDArray[np.float64]
Chosen = NDArray[np.bool_]


def contributions(pair: PairedPart, metrics: Collection[str], seed: int) -> dict[Place, Values]:
    """Of each figure the contribution of every patient to the difference, the second run less the first.

    Args:
        pair: the runs.
        metrics: which metrics of a condition; areas and the strongest attack are told of those that have a curve.
        seed: of the groups of patients that are swapped together, where there are more than 500.

    Returns:
        `(groups,)` each; a contribution that is undefined is 0.
    """
    images, count = len(pair.images), pair.clusters.count
    first, second = pair.records
    both = pl.concat([first, second.select(first.columns).with_columns(pl.col("index") + images)])
    wanted = {*metrics, *TASK_TRAITS[pair.parts[0].task].curves}
    swaps, figures = _Swaps(count, seed), []
    for condition in conditions_of(both, pair.parts[0]):
        index = condition.rows["index"].to_numpy()
        codes = pair.clusters.codes[index % images]
        of_runs = codes + count * (index >= images)
        ranked = replace(condition, rows=_by_rank(condition.rows))
        for metric in metrics_of(ranked, pair.parts[0], of_runs, 2 * count):
            if metric.name in wanted and metric.statistic is not None:
                differs = np.bincount(codes[: len(codes) // 2][_differ(condition, metric)], minlength=count) > 0
                figures.append(_figure(metric, condition, swaps.of(metric.statistic, differs)))
    found = with_curves(figures, pair.parts[0].task)
    return {
        (figure.key, figure.metric): _halved(figure.resampled.draws) for figure in found if figure.resampled is not None
    }


@dataclass
class _Swaps:
    """The figures of either run with each group of patients swapped in turn.

    Statistics are of 2·`count` clusters, those of the first run before those of the second.
    """

    count: int
    seed: int
    _known: dict[tuple[Table, bytes], Values] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.groups, self.group = groups_of(self.count, self.seed)

    def of(self, statistic: Statistic, differs: Chosen) -> Values:
        """`(2 + 2·groups,)`: of the first run, of that with each group from the second, and the other way round.

        Patients who do not differ, `(count,)`, stay where they are.
        """
        if isinstance(statistic, SumStatistic):
            return statistic.of(self._sums(statistic.by_cluster, differs))
        if not isinstance(statistic, TableStatistic):
            return statistic.draws(self._weights(differs))
        return statistic.of(*(self._table(table, differs) for table in statistic.tables))

    def _table(self, table: Table, differs: Chosen) -> Values:
        key = (table, differs.tobytes())
        if key not in self._known:
            self._known[key] = table.draws(self._weights(differs))
        return self._known[key]

    def _sums(self, by_cluster: Values, differs: Chosen) -> Values:
        first, second = by_cluster[: self.count], by_cluster[self.count :]
        more = np.zeros((self.groups, by_cluster.shape[1]))
        np.add.at(more, self.group, (second - first) * differs[:, None])
        one, other = first.sum(0, keepdims=True), second.sum(0, keepdims=True)
        return np.concatenate([one, one + more, other, other - more])

    def _weights(self, differs: Chosen) -> NDArray[np.float32]:
        swapped = (self.group[:, None] == np.arange(self.groups)) & differs[:, None]
        own = np.hstack([np.ones((self.count, 1), bool), ~swapped])
        return np.vstack([np.hstack([own, ~own]), np.hstack([~own, own])]).astype(np.float32)


def _figure(metric: Metric, condition: Condition, draws: Values) -> Figure:
    key = key_of(condition)
    where = (str(key["attack"]), str(key["norm"]), float(str(key["eps"])))
    return Figure(metric.name, where, float(draws[0]), 0, 0, Resampled(float(draws[0]), np.empty(0), draws))


def _halved(draws: Values) -> Values:
    """Half of what each swap takes off the difference."""
    first, second = np.split(draws, 2)
    off = (second[0] - first[0]) - (second[1:] - first[1:])
    return np.where(np.isfinite(off), off / 2, 0.0)


def _differ(condition: Condition, metric: Metric) -> Chosen:
    """Which images, `(n,)`, the runs answer otherwise, in what the metric looks at."""
    ends = ("_before", "_after") if metric.name.startswith("drop of ") else (f"_{condition.when}",)
    rows = condition.rows
    half = len(rows) // 2
    differs = np.zeros(half, bool)
    for column in (rows[name] for name in rows.columns if name.endswith(ends)):
        differs |= (~column[:half].eq_missing(column[half:])).to_numpy()
    return differs


def _by_rank(rows: pl.DataFrame) -> pl.DataFrame:
    """Rows of both runs whose scores are replaced by their ranks in their run, in (0, 1]."""
    half = len(rows) // 2
    ranked = [
        pl.concat([_ranks(rows[name][:half]), _ranks(rows[name][half:])]).alias(name)
        for name in ("scores_before", "scores_after")
        if not rows[name].null_count()
    ]
    return rows.with_columns(ranked)


def _ranks(scores: pl.Series) -> pl.Series:
    """Of lists of one length, place by place; of others (the detections of images) all together."""
    lengths = scores.list.len().to_numpy()
    flat = scores.filter(pl.Series(lengths > 0)).explode().to_numpy().astype(np.float64)
    if not len(flat):
        return scores
    width = int(lengths[0]) if (lengths == lengths[0]).all() else 1
    ranks = rankdata(flat.reshape(-1, width), axis=0, nan_policy="omit") / (len(flat) / width)
    pieces = np.split(ranks.ravel(), np.cumsum(lengths)[:-1])
    return pl.Series([piece.tolist() for piece in pieces], dtype=scores.dtype)
