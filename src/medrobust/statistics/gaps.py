"""How often groups that are alike would show a gap, between the best and the worst of them, as large as one found.

Where every patient is in one group the groups are dealt anew among the patients (a permutation test). Where not, as for
slices of one patient by height, the spread of the group means over the resamples stands for it: a centred bootstrap
(Efron and Tibshirani, An Introduction to the Bootstrap, 1993, 16.4), which claims a little too much of few patients.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from medrobust.statistics.resampling import multiplicities
from medrobust.statistics.tabulating import Resampling

Sums = NDArray[np.float64]

_SHUFFLES = 4999
_SHUFFLED = 20_000_000  # cells in all: fewer shuffles of thousands of clusters
_BATCH = 1_000_000  # cells at a time
_ROUNDING = 1e-6  # of sums in float32


def gap_p_values(sums: Sums, count: int, how: Resampling) -> NDArray[np.float64]:
    """How often groups that are alike would show gaps as large as these.

    Args:
        sums: `(gaps, groups, clusters, 2)`, of each cluster's images in a group the sum of their values, and how many.
        count: of the clusters.
        how: of the resamples.

    Returns:
        `(gaps,)` in (0, 1].
    """
    found = _largest_difference(sums.sum(2)[None])[0]
    # a patient of one group has images in no other
    apart = bool(((sums[..., 1] > 0).any(0).sum(0) <= 1).all())
    reached, drawn = np.zeros(len(sums)), 0
    for gaps in _dealt(sums, how.seed) if apart else _centred(sums, count, how):
        reached += (gaps >= found - _ROUNDING).sum(0)
        drawn += len(gaps)
    return np.asarray((reached + 1) / (drawn + 1))


def _dealt(sums: Sums, seed: int) -> Iterator[NDArray[np.float64]]:
    """Gaps `(shuffles, gaps)` once the groups are dealt anew among the clusters that have one."""
    member = np.asarray((sums[..., 1] > 0).any(0))  # (groups, clusters)
    grouped = member.any(0)
    label = member[:, grouped].argmax(0)
    of_cluster = sums.sum(1)[:, grouped].transpose(1, 0, 2).reshape(len(label), -1).astype(np.float32)
    shuffles = min(_SHUFFLES, max(999, _SHUFFLED // len(label)))
    rows = max(1, _BATCH // len(label))
    rng = np.random.default_rng(seed)
    for start in range(0, shuffles, rows):
        dealt = rng.permuted(np.tile(label, (min(rows, shuffles - start), 1)), axis=1)
        totals = np.stack([(dealt == place).astype(np.float32) @ of_cluster for place in range(len(member))], 1)
        by_group = totals.reshape(len(dealt), len(member), -1, 2).astype(np.float64)
        yield _largest_difference(by_group.transpose(0, 2, 1, 3))


def _centred(sums: Sums, count: int, how: Resampling) -> Iterator[NDArray[np.float64]]:
    """Gaps `(resamples, gaps)` of the groups' means less those that were found."""
    flat = sums.transpose(2, 0, 1, 3).reshape(count, -1).astype(np.float32)
    for weights in multiplicities(count, how.resamples, how.seed):
        totals = (weights @ flat).reshape(len(weights), *sums.shape[:2], 2).astype(np.float64)
        yield _largest_difference(totals, _means(sums.sum(2)))


def _largest_difference(totals: Sums, less: NDArray[np.float64] | float = 0.0) -> NDArray[np.float64]:
    """Of `(…, groups, 2)` sums of values and weights, `(…,)`; a group without weight is left out."""
    means = _means(totals) - less
    there = np.isfinite(means)
    highest = np.where(there, means, -np.inf).max(-1)
    lowest = np.where(there, means, np.inf).min(-1)
    return np.asarray(np.where(there.any(-1), highest - lowest, 0.0))


def _means(totals: Sums) -> NDArray[np.float64]:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(totals[..., 0] / np.where(totals[..., 1] > 0, totals[..., 1], np.nan))
