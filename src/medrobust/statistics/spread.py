"""How steady an attack's effect is: its variance over images, over runs and over tasks, each with an interval.

The claim to be checked is that of SMIA's paper (Qi et al., arXiv 2103.05232): one method for every modality and task,
with small variance. The effect on an image is the drop of its main value: of being right (0 or 1), of Dice, of F1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import polars as pl
from numpy.typing import NDArray

from medrobust.errors import InputError
from medrobust.evaluation.records import RunInfo
from medrobust.statistics.component_tests import Pair, swap_p_values
from medrobust.statistics.metrics import image_values
from medrobust.statistics.paired_tests import holm
from medrobust.statistics.resampling import Clusters, clusters_of
from medrobust.statistics.reweighting import image_weights, recentred_interval

Effects = NDArray[np.float64]

SPREAD_SCHEMA: dict[str, pl.DataType | type[pl.DataType]] = {
    "part": pl.String,  # of the run, or "all tasks"
    "norm": pl.String,
    "eps": pl.Float64,
    "attack": pl.String,
    "over": pl.String,  # "mean", or variance over "images", "runs" or "tasks"
    "value": pl.Float64,  # null where undefined: over runs with one run, over tasks with one task
    "low": pl.Float64,
    "high": pl.Float64,
    "difference": pl.Float64,  # of this value, under the reference less under this attack; null for the reference
    "difference_low": pl.Float64,
    "difference_high": pl.Float64,
    "p_value": pl.Float64,  # two-sided, of no difference of a variance from the reference's; null without one
    "p_holm": pl.Float64,  # corrected by Holm over all variances of the table
    "clusters": pl.Int64,  # patients, or images, that were resampled; over tasks those of the task with the fewest
}
ALL_TASKS = "all tasks"
MEAN, IMAGES, RUNS, TASKS = "mean", "images", "runs", "tasks"
_SWAPS = 4999
_ROUNDING = 1e-12


@dataclass(frozen=True)
class _Task:
    """Effects of one part and budget: `(attacks, runs, images)`, the clean main values `(runs, images)`, clusters."""

    effects: Effects
    clean: Effects
    clusters: Clusters


def spread(
    runs: Sequence[tuple[pl.DataFrame, RunInfo]],
    reference: str,
    parts: Sequence[str] | None = None,
    *,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> pl.DataFrame:
    """Mean effect of every attack, and its variance over images, runs and tasks, with percentile intervals.

    Over images: the variance within a run, averaged over runs. Over runs: the variance of the runs' mean effects. Over
    tasks: the variance of the mean effects, each as a share of the task's clean mean value, since a Dice and a share of
    right answers have no common scale. All are unbiased sample variances. Intervals resample images (patients, where
    they are known), the same for all attacks and runs of a part; runs and tasks are not resampled, being few, so the
    last two intervals tell the uncertainty from the choice of the images alone. Means of resampled images differ more
    than those of the images themselves, so that variances of resamples are too large on average: they are moved by
    that bias (Efron and Tibshirani, chapter 10) before the percentiles are taken, and end at 0.

    Args:
        runs: records and info of each run; all hold the same parts, images, attacks and budgets.
        reference: label of the attack that the others are compared with: "difference" is its value less theirs on the
            same resamples, so that a negative one says that the reference varies less.
        parts: the tasks; all parts of the runs when not given.
        resamples, confidence, seed: of the bootstrap.

    Returns:
        Rows per part, budget, attack and "over"; columns as `SPREAD_SCHEMA`. Whether a variance differs is for the
        p-values to tell: intervals of few images err too often (in up to 19 % of 18 images, simulated).

    Raises:
        InputError: the runs do not hold the same cells, or the reference is not among the attacks.
    """
    first = runs[0][1]
    names = list(first.parts) if parts is None else list(parts)
    labels = list(first.parts[names[0]].attacks)
    if reference not in labels:
        raise InputError(f"no attack {reference!r} to compare with; there are {', '.join(labels)}")
    budgets = runs[0][0].filter(pl.col("part").is_in(names)).select("norm", "eps").unique().sort("norm", "eps")
    tail = (resamples, confidence, seed)
    rows: list[dict[str, object]] = []
    for norm, eps in budgets.iter_rows():
        tasks = {name: _task(runs, name, labels, norm, eps) for name in names}
        for row in _rows_of(tasks, labels, reference, *tail):
            rows.append({"norm": norm, "eps": eps, **row})
    tested = [row for row in rows if row.get("p_value") is not None]
    for row, corrected in zip(tested, holm([cast("float", row["p_value"]) for row in tested]), strict=True):
        row["p_holm"] = corrected
    return pl.DataFrame(rows, schema=SPREAD_SCHEMA)


def _task(runs: Sequence[tuple[pl.DataFrame, RunInfo]], part: str, labels: list[str], norm: str, eps: float) -> _Task:
    at = (pl.col("part") == part) & (pl.col("norm") == norm) & (pl.col("eps") == eps)
    before, effects, indices = [], [], None
    patients = pl.Series()
    for records, info in runs:
        frames = [records.filter(at & (pl.col("attack") == label)).sort("index") for label in labels]
        places = [frame["index"].to_list() for frame in frames]
        indices = indices or places[0]
        if not indices or any(other != indices for other in places):
            raise InputError(f"{part}: the runs do not hold the same images under every attack at eps {eps:g}")
        whole, patients = info.parts[part], frames[0]["patient"]
        clean = image_values(frames[0], whole, "before")
        before.append(clean)
        effects.append([clean - image_values(frame, whole, "after") for frame in frames])
    measured = np.isfinite(np.array(effects)).all((0, 1))
    clusters = clusters_of(patients.filter(pl.Series(measured)))
    drops = np.array(effects)[..., measured].swapaxes(0, 1)
    return _Task(drops, np.array(before)[:, measured], clusters)


def _rows_of(
    tasks: Mapping[str, _Task], labels: list[str], reference: str, resamples: int, confidence: float, seed: int
) -> list[dict[str, object]]:
    """The rows of one budget; the first of `resamples + 1` columns is the sample as it is."""
    figures: dict[tuple[str, str], Effects] = {}  # (part, over) → (attacks, 1 + resamples)
    shares = []
    for number, (name, task) in enumerate(tasks.items()):
        weights = image_weights(task.clusters.codes, task.clusters.count, resamples, seed + number)
        mean, over_images, over_runs, share = _of_task(task, weights)
        figures |= {(name, MEAN): mean, (name, IMAGES): over_images, (name, RUNS): over_runs}
        shares.append(share)
    over_tasks = np.var(shares, axis=0, ddof=1) if len(shares) > 1 else np.full_like(shares[0], np.nan)
    figures |= {(ALL_TASKS, MEAN): np.mean(shares, axis=0), (ALL_TASKS, TASKS): over_tasks}
    rows: list[dict[str, object]] = []
    own = labels.index(reference)
    counts = {name: task.clusters.count for name, task in tasks.items()}
    counts[ALL_TASKS] = min(counts.values())
    for (part, over), values in figures.items():
        for place, label in enumerate(labels):
            least = -np.inf if over == MEAN else 0.0
            row = {"part": part, "attack": label, "over": over, "clusters": counts[part]}
            row |= _figure(values[place], confidence, "", least)
            if place != own:
                row |= _figure(values[own] - values[place], confidence, "difference_")
                if over != MEAN and np.isfinite(values[[own, place], 0]).all():
                    of = list(tasks.values()) if part == ALL_TASKS else [tasks[part]]
                    row["p_value"] = _swap_test(of, own, place, over, seed)
            rows.append(row)
    return rows


def _of_task(task: _Task, weights: Effects) -> tuple[Effects, Effects, Effects, Effects]:
    """Mean, variance over images and over runs, and mean as a share of the clean value, `(attacks, resamples)` each."""
    count = weights.sum(1)  # (resamples,)
    means = np.einsum("arn,bn->arb", task.effects, weights) / count
    squares = np.einsum("arn,bn->arb", task.effects**2, weights) / count
    runs, images = task.effects.shape[1:]
    unknown = np.full_like(means.mean(1), np.nan)
    within = ((squares - means**2).clip(0) * count / (count - 1)).mean(1) if images > 1 else unknown
    between = means.var(1, ddof=1) if runs > 1 else unknown
    clean = (task.clean.mean(0) * weights).sum(1) / count
    with np.errstate(divide="ignore", invalid="ignore"):
        share = means.mean(1) / np.where(clean > 0, clean, np.nan)
    return means.mean(1), within, between, share


def _swap_test(tasks: Sequence[_Task], own: int, other: int, over: str, seed: int) -> float:
    """The p-value of two attacks varying alike over images, runs or tasks, see `component_tests`.

    Over images they are compared about the mean of each attack in each run.
    """
    pairs = [Pair(task.effects[[own, other]][..., None], task.clusters) for task in tasks]
    compared = [pair.centred for pair in pairs] if over == IMAGES else pairs

    def variance(values: list[Effects]) -> dict[str, Effects]:
        return {over: _variance([of_task[..., 0] for of_task in values], tasks, over)}

    return swap_p_values(compared, variance, _SWAPS, seed, absolute=_ROUNDING)[over]


def _variance(effects: Sequence[Effects], tasks: Sequence[_Task], over: str) -> Effects:
    """Of effects `(swaps, runs, images)` of each task, `(swaps,)`."""
    if over == TASKS:
        shares = [values.mean((1, 2)) / task.clean.mean() for values, task in zip(effects, tasks, strict=True)]
        return np.asarray(np.var(shares, axis=0, ddof=1))
    (values,) = effects
    return np.asarray(values.var(2, ddof=1).mean(1) if over == IMAGES else values.mean(2).var(1, ddof=1))


def _figure(values: Effects, confidence: float, prefix: str, least: float = -np.inf) -> dict[str, object]:
    """The value of the sample as it is, with the interval of the resamples, moved by their bias, not below `least`."""
    value = float(values[0])
    low, high = recentred_interval(values[1:], value, confidence, least) or (None, None)
    told = value if np.isfinite(value) else None
    return {prefix.removesuffix("_") or "value": told, f"{prefix}low": low, f"{prefix}high": high}
