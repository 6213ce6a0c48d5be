import numpy as np
import pytest
import torch
from scipy import stats
from torchmetrics.functional.classification import binary_auroc, multiclass_auroc

from medrobust.statistics.auroc import MOST_EXACT, Auroc, MacroAuroc, Question, first_order
from medrobust.statistics.intervals import bca_interval
from medrobust.statistics.resampling import bootstrap


def ranked(scores, positive) -> Auroc:
    scores, positive = np.asarray(scores, float), np.asarray(positive, bool)
    return Auroc.ranked(Question(scores, positive, np.arange(len(scores))))


def ones(n: int) -> np.ndarray:
    return np.ones((n, 1), np.float32)


def test_by_hand():
    # of the four pairs (positive, negative) three are in order
    assert ranked([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1]).draws(ones(4)) == pytest.approx([0.75])


def test_ties_count_half():
    assert ranked([0.5, 0.5], [0, 1]).draws(ones(2)) == pytest.approx([0.5])


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("levels", [3, 10_000])
def test_all_weights_one_is_torchmetrics(seed, levels):
    rng = np.random.default_rng(seed)
    scores, positive = rng.integers(0, levels, 301) / levels, rng.random(301) < 0.3
    expected = binary_auroc(torch.from_numpy(scores), torch.from_numpy(positive.astype(int)))
    assert ranked(scores, positive).draws(ones(301)) == pytest.approx([float(expected)], abs=1e-6)
    question = Question(scores, positive, np.arange(301))
    assert question.value == pytest.approx(float(expected), abs=1e-6)
    assert first_order([question], 301).value == pytest.approx(float(expected), abs=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_integer_weights_are_repeated_rows(seed):
    rng = np.random.default_rng(seed)
    scores, positive = rng.integers(0, 20, 80) / 20, rng.random(80) < 0.4
    weights = rng.integers(0, 4, (80, 150)).astype(np.float32)
    drawn = ranked(scores, positive).draws(weights)
    for column in range(0, 150, 30):
        times = weights[:, column].astype(int)
        repeated = (
            torch.from_numpy(scores.repeat(times)),
            torch.from_numpy(positive.astype(int).repeat(times)),
        )
        assert drawn[column] == pytest.approx(float(binary_auroc(*repeated)), abs=1e-6)


def test_clusters_weigh_all_their_images():
    scores, positive = np.array([0.1, 0.4, 0.35, 0.8]), np.array([False, False, True, True])
    by_image = ranked(scores, positive).draws(np.array([[2], [1], [2], [1]], np.float32))
    by_cluster = Auroc.ranked(Question(scores, positive, np.array([0, 1, 0, 1]))).draws(
        np.array([[2], [1]], np.float32)
    )
    assert by_cluster == pytest.approx(by_image)


def test_undefined_without_a_positive():
    weights = np.array([[1, 1], [1, 1], [0, 1]], np.float32)
    drawn = ranked([0.1, 0.4, 0.35], [0, 0, 1]).draws(weights)
    assert np.isnan(drawn[0])
    assert drawn[1] == 0.5


def test_macro_is_torchmetrics_and_undefined_with_any_of_its_questions():
    rng = np.random.default_rng(0)
    truth, scores = np.arange(60) % 3, rng.dirichlet(np.ones(3), 60)
    macro = MacroAuroc([ranked(scores[:, k], truth == k) for k in range(3)])
    weights = np.stack([np.ones(60), truth != 2], 1).astype(np.float32)
    drawn = macro.draws(weights)
    expected = multiclass_auroc(torch.from_numpy(scores), torch.from_numpy(truth), 3)
    assert drawn[0] == pytest.approx(float(expected), abs=1e-6)
    assert np.isnan(drawn[1])


def test_placements_by_hand():
    # positives 0.4 and 0.8 beat 1½ and 2 of the negatives 0.1 and 0.4; these are beaten by 2 and 1½ of the positives
    question = Question(np.array([0.1, 0.4, 0.4, 0.8]), np.array([False, True, False, True]), np.arange(4))
    assert question.placements == pytest.approx([1, 0.75, 0.75, 1])


@pytest.mark.parametrize("classes", [2, 3])
def test_first_order_is_the_derivative(classes):
    """A little more weight on one patient changes it as it changes the AUROC itself."""
    rng = np.random.default_rng(classes)
    truth, codes = rng.integers(0, classes, 120), np.arange(120) // 3
    scores = rng.dirichlet(np.ones(classes), 120) + 0.3 * np.eye(classes)[truth]
    questions = [Question(scores[:, k], truth == k, codes) for k in range(classes)]
    weights = np.ones((40, 40), np.float32) + 0.01 * np.eye(40, dtype=np.float32)
    exact = MacroAuroc([Auroc.ranked(question) for question in questions])
    for made in (exact, first_order(questions, 40)):
        assert made.draws(np.ones((40, 1), np.float32)) == pytest.approx(np.mean([q.value for q in questions]))
    changes = [
        made.draws(weights) - made.draws(np.ones((40, 1), np.float32)) for made in (exact, first_order(questions, 40))
    ]
    assert changes[0] == pytest.approx(changes[1], abs=2e-6)
    assert abs(changes[0]).max() > 4e-5


@pytest.mark.slow
@pytest.mark.parametrize("area", [0.75, 0.97])
@pytest.mark.parametrize("share", [0.3, 0.05])
def test_at_the_size_where_it_begins_first_order_moves_no_end_by_a_twentieth_of_the_width(area, share):
    rng = np.random.default_rng(0)
    positive = rng.random(MOST_EXACT) < share
    scores = rng.normal(0, 1, MOST_EXACT) + positive * np.sqrt(2) * stats.norm.ppf(area)
    question = Question(scores, positive, np.arange(MOST_EXACT))
    both = bootstrap([MacroAuroc([Auroc.ranked(question)]), first_order([question], MOST_EXACT)], MOST_EXACT, 4000, 0)
    exact, linear = (bca_interval(each, MOST_EXACT, 0.95) for each in both)
    assert linear == pytest.approx(exact, abs=(exact[1] - exact[0]) / 20)


def test_no_resample_to_first_order_is_beyond_1():
    """14 of 15 positives are above all 1985 negatives: a resample of these alone is 1, not more."""
    scores, positive = np.random.default_rng(0).normal(0, 1, 2000), np.arange(2000) < 15
    scores[:15] = [2.2, *[6.0] * 14]
    question = Question(scores, positive, np.arange(2000))
    [found] = bootstrap([first_order([question], 2000)], 2000, 300, 0)
    assert found.draws.max() <= 1
    assert bca_interval(found, 2000, 0.95)[1] <= 1
