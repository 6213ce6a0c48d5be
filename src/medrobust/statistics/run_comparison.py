"""Two runs on the same images, figure by figure: which is better, and is that shown?

Both runs are resampled alike, so that a difference is computed anew on every resample: its interval knows that easy
images are easy for both. The p-value is that of the sign-flip test of `comparison.py`, on what each cluster
contributes to the difference (see `swapping.py`): for a mean over images the sum over the cluster's. Holm's correction
(Scand. J. Statist. 6, 1979) is for the questions that are asked together: one metric clean and in the worst case at
every budget, and, apart from them, that metric under all single attacks.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from medrobust.evaluation.records import CLEAN, WORST_CASE, RunInfo
from medrobust.statistics.comparison import LEAST_CLUSTERS, SIGNIFICANCE, sign_flip_test
from medrobust.statistics.figure import Figure
from medrobust.statistics.paired_tests import holm
from medrobust.statistics.pairing import PairedPart, pair_runs
from medrobust.statistics.resampling import Clusters, combined
from medrobust.statistics.summary import RESAMPLES, check_resampling, part_figures
from medrobust.statistics.swapping import contributions
from medrobust.statistics.task_traits import TASK_TRAITS, answer_metrics

RUNS_SCHEMA: dict[str, pl.DataType | type[pl.DataType]] = {
    "part": pl.String,  # its name in the first run
    "second_part": pl.String,  # and in the second
    "attack": pl.String,  # "clean", the label of an attack that both ran, or "worst case" over these
    "norm": pl.String,
    "eps": pl.Float64,
    "metric": pl.String,
    "first": pl.Float64,
    "first_low": pl.Float64,  # its interval; null where there is none
    "first_high": pl.Float64,
    "second": pl.Float64,
    "second_low": pl.Float64,
    "second_high": pl.Float64,
    "difference": pl.Float64,  # the second less the first
    "low": pl.Float64,  # of the difference; null where it does not vary
    "high": pl.Float64,
    "p_value": pl.Float64,  # two-sided, of no difference; null where undefined
    "p_holm": pl.Float64,  # corrected for the comparisons of this part and metric: clean and worst cases, or attacks
    "verdict": pl.String,  # of BETTER, WORSE, NOT_SHOWN, TOO_FEW
    "n": pl.Int64,  # images
    "clusters": pl.Int64,  # patients among them, or images
    "resampled": pl.String,
    "confidence": pl.Float64,
}
BETTER, WORSE = "second is better", "second is worse"
NOT_SHOWN, TOO_FEW = "no difference shown", "too few to tell"

_ROUNDING = 1e-6  # of the largest contribution: more than what float64 makes of equal ones
_MORE_IS_WORSE = ("drop of ", "false positives", "misses")


def compare_runs(
    first: tuple[pl.DataFrame, RunInfo],
    second: tuple[pl.DataFrame, RunInfo],
    *,
    resamples: int = RESAMPLES,
    confidence: float = 0.95,
    seed: int = 0,
) -> tuple[pl.DataFrame, list[PairedPart]]:
    """Every figure that both runs have, on the images, attacks and budgets that both have.

    Clean, each attack, the worst case over them and the strongest of them, at each budget, and the areas under the
    curves. A difference is shown where there are at least `LEAST_CLUSTERS`, the corrected p-value is below
    `SIGNIFICANCE`, and no interval includes 0.

    Returns:
        One row per part, condition and metric, columns as `RUNS_SCHEMA`; and how the parts were matched.

    Raises:
        InputError: the runs do not agree (see `pairing.py`), or `resamples` or `confidence` is out of range.
    """
    check_resampling(resamples, confidence)
    pairs = pair_runs((first, second))
    rows: list[dict[str, object]] = []
    for pair in pairs:
        rows += _rows(pair, resamples, confidence, seed)
    return pl.DataFrame(rows, schema=RUNS_SCHEMA), pairs


def _rows(pair: PairedPart, resamples: int, confidence: float, seed: int) -> list[dict[str, object]]:
    traits = TASK_TRAITS[pair.parts[0].task]
    wanted = {*answer_metrics(pair.parts[0].task), f"drop of {traits.main}"}
    figures = [
        {
            (figure.key, figure.metric): figure
            for figure in part_figures(frame, part, pair.images, pair.clusters, resamples, seed)
        }
        for frame, part in zip(pair.records, pair.parts, strict=True)
    ]
    contributed = contributions(pair, wanted, seed)
    compared = []
    for place, one in figures[0].items():
        other = figures[1].get(place)
        of_curve = any(word in one.metric for word in ("area under ", " of the strongest attack"))
        if other is not None and (one.metric in wanted or of_curve):
            row = _row(one, other, pair, confidence)
            if row["difference"] is not None:
                row["p_value"] = _p_value(contributed[place], seed)
            compared.append(row)
    together: dict[object, list[dict[str, object]]] = {}
    for row in compared:
        together.setdefault((row["metric"], row["attack"] in (CLEAN, WORST_CASE)), []).append(row)
    for rows in together.values():
        _judge(rows)
    return compared


def _row(one: Figure, other: Figure, pair: PairedPart, confidence: float) -> dict[str, object]:
    key = dict(zip(("attack", "norm", "eps"), one.key, strict=True))
    row: dict[str, object] = {"part": pair.names[0], "second_part": pair.names[1], **key, "metric": one.metric}
    for name, figure in (("first", one), ("second", other)):
        low, high = _ends(figure, confidence)
        row |= {name: figure.value, f"{name}_low": low, f"{name}_high": high}
    row |= {"n": min(one.n, other.n), "clusters": min(one.clusters, other.clusters)}
    row |= {"resampled": pair.clusters.kind, "confidence": confidence}
    row |= {"difference": None, "p_value": None}
    if one.value is None or other.value is None or one.resampled is None or other.resampled is None:
        return row
    difference = combined(_second_less_first, [one.resampled, other.resampled])
    clusters = min(one.clusters, other.clusters)
    made = Figure(one.metric, one.key, other.value - one.value, min(one.n, other.n), clusters, difference)
    low, high = _ends(made, confidence)
    return row | {"difference": made.value, "low": low, "high": high}


def _ends(figure: Figure, confidence: float) -> tuple[float | None, float | None]:
    found = figure.interval(confidence)
    return found[0] if found else (None, None)


def _second_less_first(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(values[1] - values[0])


def _p_value(contributions: NDArray[np.float64], seed: int) -> float:
    unit = _ROUNDING * float(np.abs(contributions).max(initial=0))
    if unit == 0:
        return 1.0
    groups = len(contributions)
    alone = Clusters(np.arange(groups), groups, "")
    return sign_flip_test(np.round(contributions / unit), alone, seed)


def _judge(rows: Sequence[dict[str, object]]) -> None:
    """Add the corrected p-value and the verdict to rows that are tested together."""
    tested = [row for row in rows if isinstance(row["p_value"], float)]
    for row, corrected in zip(tested, holm([float(str(row["p_value"])) for row in tested]), strict=True):
        row |= {"p_holm": corrected, "verdict": _verdict(row, corrected)}


def _verdict(row: dict[str, object], p_value: float) -> str:
    difference, low, high, clusters = (row[name] for name in ("difference", "low", "high", "clusters"))
    if not isinstance(clusters, int) or clusters < LEAST_CLUSTERS:
        return TOO_FEW
    if not isinstance(difference, float) or difference == 0 or p_value >= SIGNIFICANCE:
        return NOT_SHOWN
    if isinstance(low, float) and isinstance(high, float) and low <= 0 <= high:
        return NOT_SHOWN
    less_is_better = any(word in str(row["metric"]) for word in _MORE_IS_WORSE)
    return BETTER if (difference < 0) == less_is_better else WORSE
