"""The cluster bootstrap: patients are drawn with replacement, each with all their images.

Images of one patient are alike, so an interval from resampled images is too narrow (Field and Welsh, J. R.
Statist. Soc. B 69, 2007, 369-390: the cluster bootstrap). A resample is held as the number of times each
cluster was drawn; every statistic here is a function of such multiplicities, so thousands of resamples are
matrix products. So is the jackknife, in which each cluster counts once but one, which does not count. What
intervals are made of them is told in `intervals.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import polars as pl
from numpy.typing import NDArray

from medrobust.statistics.sums import SumStatistic

PATIENTS = "patients"
IMAGES = "images"
IMAGES_OF_ONE_PATIENT = "images of one patient"

_CHUNK = 4_000_000  # multiplicities held at once: 16 MB of float32, some 100 MB while they are drawn
ROUNDING = 1e-6  # sums over clusters are held in float32, so that a constant's mean differs by this much
_GROUPS = 500  # of the jackknife: more clusters are left out in groups, whose sums are as skew as they need be


@dataclass(frozen=True)
class Clusters:
    """What is resampled: `codes` (n,) int64 gives the cluster, 0 to `count` − 1, of every image.

    `kind` is "patients", "images" (no patient is known) or "images of one patient" (resampling one patient
    would give intervals without width; those over that patient's images say nothing about other patients).
    """

    codes: NDArray[np.int64]
    count: int
    kind: str


def clusters_of(patients: pl.Series) -> Clusters:
    """The clusters of images, one patient (a string or null) for each; an image without one is its own."""
    n = len(patients)
    known = patients.n_unique() - int(patients.null_count() > 0)
    if known == 0 or (known == 1 and patients.null_count() == 0):
        return Clusters(np.arange(n), n, IMAGES if known == 0 else IMAGES_OF_ONE_PATIENT)
    # an integer cannot be a patient's name, so the two kinds of key never meet
    keys = [place if patient is None else patient for place, patient in enumerate(patients.to_list())]
    numbers: dict[int | str, int] = {}
    codes = np.array([numbers.setdefault(key, len(numbers)) for key in keys], dtype=np.int64)
    return Clusters(codes, len(numbers), PATIENTS)


class Statistic(Protocol):
    """A figure that can be computed anew on a resample."""

    def draws(self, by_cluster: NDArray[np.float32]) -> NDArray[np.float64]:
        """`(clusters, resamples)` multiplicities → `(resamples,)` values, NaN where undefined."""
        ...


class Table(Protocol):
    """Figures that are computed together on a resample; equal tables give equal figures."""

    def draws(self, by_cluster: NDArray[np.float32]) -> NDArray[np.float64]:
        """`(clusters, resamples)` multiplicities → `(…, resamples)` values, NaN where undefined."""
        ...

    def __hash__(self) -> int: ...


@dataclass(frozen=True)
class TableStatistic:
    """A figure that is read off one or more tables; others may share them.

    Attributes:
        tables: what it is read off.
        of: their values `(…, resamples)` → `(resamples,)`.
    """

    tables: tuple[Table, ...]
    of: Callable[..., NDArray[np.float64]]

    def draws(self, by_cluster: NDArray[np.float32]) -> NDArray[np.float64]:
        """`(clusters, resamples)` multiplicities → `(resamples,)` values."""
        return self.of(*(table.draws(by_cluster) for table in self.tables))


def multiplicities(count: int, resamples: int, seed: int) -> Iterator[NDArray[np.float32]]:
    """How often each of `count` clusters was drawn, in chunks `(resamples of the chunk, count)`."""
    rng = np.random.default_rng(seed)
    rows = max(1, _CHUNK // max(count, 1))
    for start in range(0, resamples, rows):
        size = min(rows, resamples - start)
        drawn = rng.integers(0, count, (size, count))
        drawn += np.arange(size)[:, None] * count
        yield np.bincount(drawn.ravel(), minlength=size * count).reshape(size, count).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Resampled:
    """A figure of the sample as it is, with a part of the sample left out, and of resamples; NaN where undefined.

    Attributes:
        value: of the sample.
        left_out: `(groups,)`, without each cluster in turn (of more than 500, without each of 500 random groups).
        draws: `(resamples,)`.
    """

    value: float
    left_out: NDArray[np.float64]
    draws: NDArray[np.float64]


def combined(of: Callable[[NDArray[np.float64]], NDArray[np.float64]], figures: Sequence[Resampled]) -> Resampled:
    """A figure that is a function of others, `(figures, n)` → `(n,)`, on the same resamples."""
    value = of(np.array([[figure.value] for figure in figures]))
    left_out, draws = (of(np.stack([getattr(figure, name) for figure in figures])) for name in ("left_out", "draws"))
    return Resampled(float(value[0]), left_out, draws)


def bootstrap(statistics: Sequence[Statistic], count: int, resamples: int, seed: int) -> list[Resampled]:
    """All statistics of `count` clusters on the same resamples."""
    sums = [statistic for statistic in statistics if isinstance(statistic, SumStatistic)]
    table = (
        np.hstack([statistic.by_cluster for statistic in sums], dtype=np.float32)
        if sums
        else np.empty((count, 0), np.float32)
    )
    everyone = np.ones((1, count), np.float32)
    parts = (iter([everyone]), _without_each_group(count, seed), multiplicities(count, resamples, seed))
    value, left_out, draws = (
        np.concatenate([_figures(statistics, weights, table) for weights in part]).T for part in parts
    )
    return [Resampled(float(value[place, 0]), left_out[place], draws[place]) for place in range(len(statistics))]


def groups_of(count: int, seed: int) -> tuple[int, NDArray[np.int64]]:
    """How many groups so many clusters are left out in, and the group of each: its own, but of more than 500."""
    if count <= _GROUPS:
        return count, np.arange(count)
    return _GROUPS, np.random.default_rng(seed).permutation(count) % _GROUPS


def _without_each_group(count: int, seed: int) -> Iterator[NDArray[np.float32]]:
    """The weights of the jackknife, in chunks `(groups of the chunk, count)`."""
    groups, group = groups_of(count, seed)
    rows = max(1, _CHUNK // max(count, 1))
    for start in range(0, groups, rows):
        yield (np.arange(start, min(start + rows, groups))[:, None] != group).astype(np.float32)


def _figures(
    statistics: Sequence[Statistic], weights: NDArray[np.float32], table: NDArray[np.float32]
) -> NDArray[np.float64]:
    """All statistics under `weights` (n, clusters), as `(n, statistics)`; `table` has the columns of the sums."""
    totals = (weights @ table).astype(np.float64)
    transposed = np.ascontiguousarray(weights.T)
    values, column = np.empty((len(weights), len(statistics))), 0
    known: dict[Table, NDArray[np.float64]] = {}
    for place, statistic in enumerate(statistics):
        if isinstance(statistic, SumStatistic):
            width = statistic.by_cluster.shape[1]
            values[:, place] = statistic.of(totals[:, column : column + width])
            column += width
        elif isinstance(statistic, TableStatistic):
            for shared in statistic.tables:
                if shared not in known:
                    known[shared] = shared.draws(transposed)
            values[:, place] = statistic.of(*(known[shared] for shared in statistic.tables))
        else:
            values[:, place] = statistic.draws(transposed)
    return values


def percentile_interval(draws: NDArray[np.float64], confidence: float) -> tuple[float, float] | None:
    """The percentile interval of draws `(resamples,)`, those undefined left out.

    None if most are undefined, or if it would have no width: resampling cannot doubt a figure that never varies in
    the sample, which is no reason to call it certain.
    """
    defined = draws[np.isfinite(draws)]
    if len(defined) * 2 < len(draws) or len(defined) < 2:
        return None
    tail = (1 - confidence) / 2
    return between(defined, tail, 1 - tail)


def between(draws: NDArray[np.float64], first: float, last: float) -> tuple[float, float] | None:
    """From one quantile of draws `(n,)` to another, or None where that has no width."""
    low, high = np.quantile(draws, [first, last])
    return None if high - low <= ROUNDING * max(abs(low), abs(high)) else (float(low), float(high))
