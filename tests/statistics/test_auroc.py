import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import binary_auroc, multiclass_auroc

from medrobust.statistics.auroc import Auroc, MacroAuroc


def ranked(scores, positive) -> Auroc:
    scores, positive = np.asarray(scores, float), np.asarray(positive, bool)
    return Auroc.ranked(scores, positive, np.arange(len(scores)))


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
    by_cluster = Auroc.ranked(scores, positive, np.array([0, 1, 0, 1])).draws(np.array([[2], [1]], np.float32))
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
