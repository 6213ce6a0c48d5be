"""The area under the ROC curve of a weighted sample: a rank statistic, computed for many resamples.

AUROC = P(score of a positive > score of a negative) + ½·P(equal) (Hanley and McNeil, Radiology 143, 1982).
The images are ranked once; a resample only changes how much each counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medrobust.statistics.sums import cumulated

_BLOCK = 128  # resamples at a time: the cumulated weights of 10 000 images then stay in the cache


@dataclass(frozen=True)
class Auroc:
    """One yes/no question, ranked.

    Attributes:
        negatives: `(n₀,)` clusters of the negatives in the order of their scores.
        positives: `(n₁,)` clusters of the positives in the order of their scores.
        below, upto: `(n₁,)` how many negatives score less than, and at most as much as, each positive.
    """

    negatives: NDArray[np.int64]
    positives: NDArray[np.int64]
    below: NDArray[np.int64]
    upto: NDArray[np.int64]

    @classmethod
    def ranked(cls, scores: NDArray[np.float64], positive: NDArray[np.bool_], codes: NDArray[np.int64]) -> Auroc:
        """From `scores`, `positive` and the cluster `codes` of the images, each `(n,)`."""
        order = np.argsort(scores, kind="stable")
        scores, positive, codes = scores[order], positive[order], codes[order]
        low, high = scores[~positive], scores[positive]
        return cls(
            codes[~positive],
            codes[positive],
            np.searchsorted(low, high, "left"),
            np.searchsorted(low, high, "right"),
        )

    def draws(self, by_cluster: NDArray[np.float32]) -> NDArray[np.float64]:
        """`(clusters, resamples)` multiplicities → `(resamples,)`; NaN without a positive or a negative."""
        resamples = by_cluster.shape[1]
        values = np.full(resamples, np.nan)
        for start in range(0, resamples, _BLOCK):
            block = slice(start, start + _BLOCK)
            values[block] = self._of(np.ascontiguousarray(by_cluster[:, block]))
        return values

    def _of(self, by_cluster: NDArray[np.float32]) -> NDArray[np.float64]:
        # twice the weight of the negatives that are beaten, ties counting once: whole numbers, so exact
        beaten = cumulated(by_cluster[self.negatives])
        positives = by_cluster[self.positives]
        twice = np.einsum("ij,ij->j", positives, beaten[self.below] + beaten[self.upto], dtype=np.float64)
        pairs = positives.sum(0, dtype=np.float64) * beaten[-1]
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(twice / np.where(pairs > 0, 2 * pairs, np.nan))


@dataclass(frozen=True)
class MacroAuroc:
    """The mean over yes/no questions; undefined in a resample that leaves one of them undefined."""

    questions: Sequence[Auroc]

    def draws(self, by_cluster: NDArray[np.float32]) -> NDArray[np.float64]:
        """`(clusters, resamples)` multiplicities → `(resamples,)`."""
        values = np.mean([question.draws(by_cluster) for question in self.questions], axis=0)
        return np.asarray(values, np.float64)
