"""The area under the ROC curve of a weighted sample: a rank statistic, computed for many resamples.

AUROC = P(score of a positive > score of a negative) + ½·P(equal) (Hanley and McNeil, Radiology 143, 1982).
The images are ranked once; a resample only changes how much each counts.

Of many images it is resampled to first order: each positive's share of negatives that it beats, and each negative's of
positives that it is beaten by, are those of the whole sample (the placements of DeLong, DeLong and Clarke-Pearson,
Biometrics 44, 1988; Obuchowski, Biometrics 53, 1997, by cluster), so that a resample is two means and thousands of them
one matrix product. What is left out is smaller than the standard error by a factor of √n: at 1,000 images the ends of
an interval move by less than a twentieth of its width (tested), and below that number all is computed anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from medrobust.statistics.sums import SumStatistic, cumulated, sums_by_cluster

MOST_EXACT = 1000  # images; with more, resamples are to first order
_BLOCK = 128  # resamples at a time: the cumulated weights of 10 000 images then stay in the cache


@dataclass(frozen=True, eq=False)
class Question:
    """One yes/no question put to images: their `scores` (n,), whether each is a `positive`, and their cluster `codes`.

    There must be a positive and a negative.
    """

    scores: NDArray[np.float64]
    positive: NDArray[np.bool_]
    codes: NDArray[np.int64]

    @cached_property
    def placements(self) -> NDArray[np.float64]:
        """`(n,)`: of a positive the share of negatives below it, of a negative that of positives above; ties half."""
        among_all, found = rankdata(self.scores), np.empty(len(self.scores))
        for which, others_below in ((self.positive, True), (~self.positive, False)):
            below = among_all[which] - rankdata(self.scores[which])
            share = below / np.count_nonzero(~which)
            found[which] = share if others_below else 1 - share
        return found

    @property
    def value(self) -> float:
        """The AUROC of the images as they are."""
        return float(self.placements[self.positive].mean())


def first_order(questions: Sequence[Question], count: int) -> SumStatistic:
    """The mean AUROC of questions over `count` clusters, resampled to first order."""
    columns: list[NDArray[np.float64]] = []
    for question in questions:
        placements = question.placements
        for which in (question.positive, ~question.positive):
            columns += [
                sums_by_cluster(np.where(which, placements, 0.0), question.codes, count),
                sums_by_cluster(which.astype(np.float64), question.codes, count),
            ]
    middle = float(np.mean([question.value for question in questions]))

    def of(sums: NDArray[np.float64]) -> NDArray[np.float64]:
        with np.errstate(divide="ignore", invalid="ignore"):
            means = sums[:, ::2] / np.where(sums[:, 1::2] > 0, sums[:, 1::2], np.nan)
        # two means a question, each as large as the AUROC itself; a straight line leads beyond what an area can be
        return np.asarray((2 * means.mean(1) - middle).clip(0, 1))

    return SumStatistic(np.stack(columns, 1), of)


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
    def ranked(cls, question: Question) -> Auroc:
        """The images by rising score."""
        order = np.argsort(question.scores, kind="stable")
        scores, positive, codes = question.scores[order], question.positive[order], question.codes[order]
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
