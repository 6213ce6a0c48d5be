import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import multiclass_cohen_kappa

from medrobust.statistics.sums import mean, quadratic_kappa


def kappa_of(truth, prediction) -> float:
    return float(multiclass_cohen_kappa(torch.from_numpy(prediction), torch.from_numpy(truth), 5, weights="quadratic"))


@pytest.fixture(params=range(4))
def grades(request):
    rng = np.random.default_rng(request.param)
    truth = rng.integers(0, 5, 90)
    return truth, np.clip(truth + rng.integers(-2, 3, 90), 0, 4)


def test_kappa_is_torchmetrics(grades):
    statistic = quadratic_kappa(*grades, np.arange(90), 90)
    assert statistic.value == pytest.approx(kappa_of(*grades), abs=1e-6)
    assert statistic.draws(np.ones((90, 1), np.float32)) == pytest.approx([statistic.value])


def test_kappa_of_integer_weights_is_that_of_repeated_rows(grades):
    truth, prediction = grades
    weights = np.random.default_rng(1).integers(0, 4, (90, 6))
    drawn = quadratic_kappa(truth, prediction, np.arange(90), 90).draws(weights.astype(np.float32))
    for column, value in enumerate(drawn):
        times = weights[:, column]
        assert value == pytest.approx(kappa_of(truth.repeat(times), prediction.repeat(times)), abs=1e-6)


def test_kappa_by_hand():
    # observed: one of four is off by 1, so 1/4; expected of the margins (2, 2) and (1, 3): (2·3 + 2·1)/16
    statistic = quadratic_kappa(np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1]), np.arange(4), 4)
    assert statistic.value == pytest.approx(0.5)


def test_kappa_is_undefined_when_truth_and_answer_are_one_class():
    same = np.zeros(4, int)
    assert np.isnan(quadratic_kappa(same, same, np.arange(4), 4).value)


def test_mean_leaves_out_what_is_not_finite():
    statistic = mean(np.array([1.0, np.nan, 3.0, np.inf]), np.array([0, 0, 1, 1]), 2)
    assert statistic.value == 2.0
    assert statistic.draws(np.array([[3], [1]], np.float32)) == pytest.approx([1.5])


def test_mean_of_nothing_is_undefined():
    assert np.isnan(mean(np.array([np.nan]), np.array([0]), 1).value)


def test_ratio_weighs_by_its_denominator():
    statistic = mean(np.array([1.0, 3.0]), np.arange(2), 2, weights=np.array([2.0, 4.0]))
    assert statistic.value == pytest.approx(4 / 6)
