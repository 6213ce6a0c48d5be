"""What counts prove: beside the authors' own formulas, and the error that is promised."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from medrobust.guards.certificate import (
    ABSTAINS,
    certified,
    certified_positions,
    dice_at_least,
    lower_bound,
    predicted,
    radius_of,
)


def counts(rng: np.random.Generator, draws: int, probabilities: list[float]) -> np.ndarray:
    return rng.multinomial(draws, probabilities)


def test_one_answer_is_certified_as_the_authors_do(rng):
    """`Smooth.certify` and `_lower_confidence_bound` of their smoothing/core.py, in their own words."""
    for probabilities in ([0.9, 0.05, 0.05], [0.6, 0.3, 0.1], [0.52, 0.48, 0.0], [0.4, 0.3, 0.3], [1.0, 0.0, 0.0]):
        for draws in (20, 100, 1000):
            selection, estimation = counts(rng, 100, probabilities), counts(rng, draws, probabilities)
            c_hat = selection.argmax().item()
            p_a_bar = proportion_confint(estimation[c_hat].item(), draws, alpha=2 * 0.001, method="beta")[0]
            expected = (ABSTAINS, 0.0) if p_a_bar < 0.5 else (c_hat, 0.25 * stats.norm.ppf(p_a_bar))
            answer, bound = certified(selection, estimation, 0.001)
            assert answer == expected[0]
            assert radius_of(bound, 0.25) == pytest.approx(expected[1], abs=1e-9)


def test_an_answer_is_predicted_as_the_authors_do(rng):
    """`Smooth.predict` of their smoothing/core.py."""
    abstained = 0
    for _ in range(200):
        found = counts(rng, 100, rng.dirichlet([1, 1, 1]).tolist())
        top2 = found.argsort()[::-1][:2]
        count1, count2 = found[top2[0]], found[top2[1]]
        unsure = stats.binomtest(count1, count1 + count2, p=0.5).pvalue > 0.01
        abstained += unsure
        assert predicted(found, 0.01) == (ABSTAINS if unsure else top2[0])
    assert 10 < abstained < 150


def test_the_bound_is_too_high_in_no_more_than_a_share_alpha_of_cases():
    """Exactly: summed over all that could have been counted."""
    hits, draws = np.arange(41), 40
    bounds = np.array([lower_bound(int(one), draws, 0.05) for one in hits])
    wrong = [stats.binom.pmf(hits, draws, p)[bounds > p].sum() for p in np.linspace(0.02, 0.98, 97)]
    assert max(wrong) <= 0.05
    assert max(wrong) > 0.03  # nor is it needlessly low


def test_a_certificate_is_wrong_in_no_more_than_a_share_alpha_of_cases(rng):
    """Simulated: the true radius of an answer of probability 0.7 is σ·Φ⁻¹(0.7)."""
    true, wrong = radius_of(0.7, 1.0), 0
    for _ in range(1500):
        answer, bound = certified(counts(rng, 10, [0.7, 0.3]), counts(rng, 60, [0.7, 0.3]), 0.05)
        wrong += (answer == 0 and radius_of(bound, 1.0) > true) or answer == 1
    assert stats.binomtest(wrong, 1500, 0.05, alternative="greater").pvalue > 0.01
    assert wrong > 8


def test_many_answers_are_certified_by_holms_correction_of_exact_tests(rng):
    """SEGCERTIFY with statsmodels' Holm and scipy's exact test, position by position."""
    probabilities = np.array([0.99, 0.9, 0.8, 0.76, 0.7, 0.4] * 5)
    hits0, hits = rng.binomial(20, probabilities), rng.binomial(200, probabilities)
    selection, estimation = np.stack([20 - hits0, hits0]), np.stack([200 - hits, hits])
    candidates = selection.argmax(0)
    agreeing = [int(estimation[answer, place]) for place, answer in enumerate(candidates)]
    tests = [stats.binomtest(count, 200, 0.75, alternative="greater").pvalue for count in agreeing]
    rejected = multipletests(tests, alpha=0.01, method="holm")[0]
    found = certified_positions(selection, estimation, 0.75, 0.01)
    assert np.array_equal(found, np.where(rejected, candidates, ABSTAINS))
    assert 4 < rejected.sum() < 20


def test_all_positions_hold_at_once_but_in_a_share_alpha_of_cases(rng):
    """Positions whose answer is just as likely as tau: any certificate there is wrong."""
    wrong = 0
    for _ in range(400):
        hits = rng.binomial(100, 0.75, 50)
        found = certified_positions(np.tile([[0], [9]], 50), np.stack([100 - hits, hits]), 0.75, 0.1)
        wrong += bool((found != ABSTAINS).any())
    assert stats.binomtest(wrong, 400, 0.1, alternative="greater").pvalue > 0.01


def masks(text: str, mark: str) -> np.ndarray:
    return np.array([one == mark for one in text])[None]


def test_the_least_dice_by_hand():
    answer, truth = "aa?a?b", "aaabba"
    found, unsure, true = masks(answer, "a"), masks(answer, "?"), masks(truth, "a")
    # hits 2; found 3, true 4, abstaining where there is none 1: 2·2/(3 + 4 + 1)
    assert dice_at_least(found, unsure, true) == pytest.approx(0.5)


def test_no_completion_of_the_answer_has_a_lower_dice(rng):
    """All that the positions which abstain could answer, tried; classes in neither do not count, as in the metric."""
    for _ in range(30):
        truth, answer = rng.integers(0, 3, 5), rng.integers(-1, 3, 5)
        classes = np.arange(1, 3)[:, None]
        least = dice_at_least(answer == classes, np.array([answer == ABSTAINS]), truth == classes)
        places = np.flatnonzero(answer == ABSTAINS)
        for filling in np.ndindex(*[3] * len(places)):
            whole = answer.copy()
            whole[places] = filling
            dice = [
                2 * ((whole == c) & (truth == c)).sum() / ((whole == c).sum() + (truth == c).sum())
                for c in (1, 2)
                if (whole == c).any() or (truth == c).any()
            ]
            assert least <= (np.mean(dice) if dice else 1.0) + 1e-12
        if not len(places):
            assert least == pytest.approx(np.mean(dice) if dice else 1.0)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)
