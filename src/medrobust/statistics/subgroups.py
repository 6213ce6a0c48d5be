"""Is the model less robust in one group of patients than in another? The main metric by group, and the gap.

The gap is the difference between the groups that do best and worst. Its interval is of the difference between these two
as they were found; with more than two groups that choice makes the gap too large on average, which its p-value takes
into account (`gaps.py`). No p-value is corrected for the number of attacks, budgets or columns.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from medrobust.evaluation.records import RunInfo
from medrobust.statistics.comparison import LEAST_CLUSTERS
from medrobust.statistics.conditions import Condition
from medrobust.statistics.gaps import Sums, gap_p_values
from medrobust.statistics.metric import Metric, mean_metric, number
from medrobust.statistics.metrics import image_values
from medrobust.statistics.resampling import Clusters
from medrobust.statistics.sums import SumStatistic, mean
from medrobust.statistics.tabulating import FIGURE, KEY, Figure, PartRecords, Resampling, Row, tabulate
from medrobust.statistics.task_traits import TASK_TRAITS

GROUP, GAP, TOO_SMALL, UNKNOWN = "group", "gap", "too small", "unknown"
LESION_SIZE = "largest lesion"

SUBGROUP_SCHEMA = {
    **KEY,
    "column": pl.String,  # that the images are grouped by
    "kind": pl.String,  # "group"; "gap": best less worst; "too small", "unknown": how many images are in no row
    "group": pl.String,  # its value; null for the other kinds
    "metric": pl.String,
    **FIGURE,
    "p_value": pl.Float64,  # of a gap: that groups which are alike would show one as large
}


@dataclass(frozen=True)
class _Groups:
    """The images of a part by one column: `of` (n,) is the place of each image's group among `names`, −1 for none."""

    column: str
    names: tuple[str, ...]
    of: NDArray[np.int64]
    too_small: tuple[int, NDArray[np.bool_]]  # how many groups, and their images
    unknown: NDArray[np.bool_]


def subgroups(
    records: pl.DataFrame, info: RunInfo, *, resamples: int = 1000, confidence: float = 0.95, seed: int = 0
) -> pl.DataFrame:
    """The main metric (of one image each) and its drop, for every group of every column that a run names.

    Masks with lesions are grouped by the size of their largest one besides, in thirds. A group of fewer than
    `LEAST_CLUSTERS` patients (images, where patients are unknown) has no row, and its name is not told: no figure of
    it could be claimed, and a rare value may tell who it is.

    Returns:
        A row for each group, condition and metric, and one for the gap between them where two or more groups are large
        enough; columns as `SUBGROUP_SCHEMA`. Of images in groups that are too small, and of those without a value, one
        row each tells how many; its value is the number of such groups, or null.

    Raises:
        InputError: `resamples` or `confidence` is out of range.
    """
    how = Resampling(resamples, confidence, seed)
    return tabulate(records, info, how, _rows, SUBGROUP_SCHEMA)


def _rows(part: PartRecords) -> Iterator[Row]:
    for column, values in _columns(part.images):
        groups = _grouped(column, values, part.clusters)
        yield from _left_out(groups, part.clusters)
        figures: list[Figure] = []
        gaps: list[Figure] = []
        sums: list[Sums] = []
        for condition, codes in part.conditions():
            of = groups.of[part.places(condition.rows)]
            for name, judged, is_share in _judged(condition, part):
                inside = [np.where(of == place, judged, np.nan) for place in range(len(groups.names))]
                for group, values_of_it in zip(groups.names, inside, strict=True):
                    metric = mean_metric(name, values_of_it, codes, part.clusters.count, is_share=is_share)
                    figures.append(part.figure(condition, codes, metric, column=column, kind=GROUP, group=group))
                by_group = [mean(values_of_it, codes, part.clusters.count) for values_of_it in inside]
                gap = _gap(name, by_group, np.isfinite(judged) & (of >= 0))
                if gap is not None:
                    gaps.append(part.figure(condition, codes, gap, column=column, kind=GAP))
                    sums.append(np.stack([statistic.by_cluster for statistic in by_group]))
        yield from part.with_intervals(figures)
        p_values = gap_p_values(np.stack(sums), part.clusters.count, part.resampling).tolist() if sums else []
        for row, p_value in zip(part.with_intervals(gaps), p_values, strict=True):
            yield {**row, "p_value": p_value}


def _columns(images: pl.DataFrame) -> Iterator[tuple[str, list[str | None]]]:
    """Column → the group of each image."""
    lists = images["groups"].to_list()
    for place, first in enumerate(next((of_image for of_image in lists if of_image), [])):
        yield str(first["column"]), [of_image[place]["group"] if of_image else None for of_image in lists]
    sizes = [max(volumes) if volumes else None for volumes in images["lesion_volumes_before"].to_list()]
    known = [size for size in sizes if size is not None]
    units = images.filter(pl.col("lesion_volumes_before").list.len() > 0)["volume_unit"].unique().to_list()
    if len(units) == 1 and known:
        small, medium = (float(f"{cut:.3g}") for cut in np.quantile(known, [1 / 3, 2 / 3]))
        names = (f"up to {small:g} {units[0]}", f"up to {medium:g} {units[0]}", f"above {medium:g} {units[0]}")
        yield LESION_SIZE, [None if size is None else names[int(size > small) + int(size > medium)] for size in sizes]


def _grouped(column: str, values: Sequence[str | None], clusters: Clusters) -> _Groups:
    every = np.array(values, dtype=object)
    large, small, few = [], 0, np.zeros(len(every), bool)
    for name in sorted({value for value in values if value is not None}, key=_in_order):
        inside = np.asarray(every == name)
        if len(np.unique(clusters.codes[inside])) >= LEAST_CLUSTERS:
            large.append(name)
        else:
            small, few = small + 1, few | inside
    of = np.array([large.index(value) if value in large else -1 for value in values], dtype=np.int64)
    unknown = np.array([value is None for value in values], bool)
    return _Groups(column, tuple(large), of, (small, few), unknown)


def _in_order(name: str) -> tuple[float, int, str]:
    """Bands and codes by where they begin, texts behind them by the alphabet."""
    words = name.split()
    for word in words:
        try:
            begins = float(word)
        except ValueError:
            continue
        return begins, int(words[0] not in ("under", "up")), name
    return np.inf, 1, name


def _left_out(groups: _Groups, clusters: Clusters) -> Iterator[Row]:
    count, few = groups.too_small
    for kind, value, images in ((TOO_SMALL, float(count), few), (UNKNOWN, None, groups.unknown)):
        if images.any():
            basis = {"n": int(images.sum()), "clusters": len(np.unique(clusters.codes[images]))}
            yield {"column": groups.column, "kind": kind, "value": value, **basis, "resampled": clusters.kind}


def _judged(condition: Condition, part: PartRecords) -> Iterator[tuple[str, NDArray[np.float64], bool]]:
    """What is averaged over a group: name, `(n,)` values, and whether they are 0 or 1."""
    traits = TASK_TRAITS[part.info.task]
    name, is_share = traits.image_metric, traits.is_share
    yield name, image_values(condition.rows, part.info, condition.when), is_share
    if condition.when == "after":
        before, after = (image_values(condition.rows, part.info, when) for when in ("before", "after"))
        yield f"drop of {name}", before - after, False


def _gap(name: str, groups: Sequence[SumStatistic], used: NDArray[np.bool_]) -> Metric | None:
    """The largest difference of two groups' means, with what is resampled: the difference of these two."""
    values = np.array([group.value for group in groups])
    if np.isfinite(values).sum() < 2:
        return None
    best, worst = groups[int(np.nanargmax(values))], groups[int(np.nanargmin(values))]
    statistic = SumStatistic(np.hstack([best.by_cluster, worst.by_cluster]), _difference)
    return Metric(name, number(statistic.value), used, statistic)


def _difference(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    best, best_weight, worst, worst_weight = sums.T
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(best / best_weight - worst / worst_weight)
