"""What counts of answers under noise prove of a smoothed model, g(x) = the likeliest answer of f(x + N(0, σ²I)).

Of one answer an image: Cohen, Rosenfeld, Kolter: Certified Adversarial Robustness via Randomized Smoothing, ICML 2019,
arXiv 1902.02918, algorithms PREDICT and CERTIFY. Of many: Fischer, Baader, Vechev: Scalable Certified Segmentation via
Randomized Smoothing, ICML 2021, arXiv 2107.00228, SEGCERTIFY.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.special import ndtri

from medrobust.statistics.paired_tests import holm

ABSTAINS = -1

Counts = NDArray[np.int64]
Masks = NDArray[np.bool_]


def radius_of(probability: float, sigma: float) -> float:
    """σ·Φ⁻¹(p), the L2 radius within which an answer of at least probability p stays the likeliest; 0 for p ≤ ½."""
    return sigma * float(ndtri(probability)) if probability > 0.5 else 0.0


def lower_bound(hits: int, draws: int, alpha: float) -> float:
    """The one-sided bound of Clopper and Pearson: above the true probability in at most a share `alpha` of cases."""
    found = stats.binomtest(hits, draws, alternative="greater").proportion_ci(1 - alpha, method="exact")
    return float(found.low)


def predicted(counts: Counts, alpha: float) -> int:
    """PREDICT: the commonest answer of counts `(K,)`, or −1 where the second could be as likely (exact test)."""
    second, first = np.argsort(counts, kind="stable")[-2:]
    tested = stats.binomtest(int(counts[first]), int(counts[first] + counts[second]), 0.5)
    return int(first) if tested.pvalue <= alpha else ABSTAINS


def certified(selection: Counts, counts: Counts, alpha: float) -> tuple[int, float]:
    """CERTIFY: an answer and a lower bound of its probability, or −1 and that bound, which is then at most ½.

    Args:
        selection: `(K,)` counts, of which the commonest answer is the candidate.
        counts: `(K,)` counts of other draws, by which it is judged.
        alpha: the most that the probability of a wrong bound may be.
    """
    candidate = int(selection.argmax())
    bound = lower_bound(int(counts[candidate]), int(counts.sum()), alpha)
    return (candidate if bound > 0.5 else ABSTAINS), bound


def certified_positions(selection: Counts, counts: Counts, tau: float, alpha: float) -> NDArray[np.int64]:
    """SEGCERTIFY: at every position an answer whose probability is above tau, or −1, `(positions,)`.

    All of them hold at once but in a share `alpha` of cases: the exact p-values of "the probability is at most tau" are
    corrected by Holm over the positions, which may depend on each other in any way.

    Args:
        selection: `(K, positions)` counts, of which the commonest answers are the candidates.
        counts: `(K, positions)` counts of other draws.
        tau: at least ½.
        alpha: of the whole image.
    """
    candidates = selection.argmax(0)
    hits = np.take_along_axis(counts, candidates[None], 0)[0]
    p_values = stats.binom.sf(hits - 1, counts.sum(0), tau)
    return np.where(np.asarray(holm(p_values)) <= alpha, candidates, ABSTAINS)


def dice_at_least(found: Masks, unsure: Masks, true: Masks) -> float:
    """What the mean Dice of an image cannot fall below while certified answers stay and the others are anything.

    At worst a position that abstains is missed where the class is, and found where it is not. The mean is over the
    classes that answer or truth have, or could have: one that appears where it is not has a Dice of 0. 1 where nothing
    is to be found, nothing is, and nothing abstains.

    Args:
        found: bool `(n, positions)`, the masks of the foreground classes as certified.
        unsure: bool, where the answer abstains.
        true: bool, as in the truth.
    """
    hits = (found & true).sum(1)
    most = found.sum(1) + true.sum(1) + (unsure & ~true).sum(1)
    return float(np.mean(2 * hits[most > 0] / most[most > 0])) if most.any() else 1.0
