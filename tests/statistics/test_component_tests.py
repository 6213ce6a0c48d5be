"""Swaps of labels: p-values on paper, false claims between attacks of one law, and differences that are there."""

from __future__ import annotations

import numpy as np
import pytest

from medrobust.statistics.component_tests import Pair, swap_tests, swaps_for
from medrobust.statistics.resampling import Clusters


def pair(first: np.ndarray, second: np.ndarray, patients: int | None = None) -> Pair:
    """Of values `(images, seeds)` under one model, or `(models, images, seeds)`."""
    values = np.stack([one if one.ndim == 3 else one[None] for one in (first, second)])
    images = values.shape[2]
    count = images if patients is None else patients
    return Pair(values, Clusters(np.arange(images) % count, count, "images" if patients is None else "patients"))


def around(middle: float, spread: float, images: int) -> np.ndarray:
    """Two seeds, `spread` to both sides of every image's value: their variance is 2 · spread²."""
    return middle + np.arange(images)[:, None] / 10 + spread * np.array([[-1.0, 1.0]])


def test_on_paper():
    # every image is steadier under the first: only all swaps and none are as far from 0
    found = swap_tests([pair(around(0.5, 0.01, 6), around(0.5, 0.1, 6))], 999, 0)
    assert found["seed"] == 2 / 2**6
    assert set(found) == {"image", "seed"}, "one model and one data set tell nothing of others"
    # of three equal differences one is of the other sign: no swap is nearer to 0
    one, other = around(0.5, 0.1, 3), around(0.5, 0.2, 3)
    one[2], other[2] = other[2].copy(), one[2].copy()
    assert swap_tests([pair(one, other)], 999, 0)["seed"] == 1.0


def test_the_same_values_differ_in_nothing_whatever_rounding_makes_of_them():
    values = 0.1 + np.arange(21).reshape(7, 3) / 30
    assert swap_tests([pair(values, values)], 999, 0) == {"image": 1.0, "seed": 1.0}
    constant = [pair(np.full((7, 3), 0.1), np.full((7, 3), 0.7))]
    assert swap_tests(constant, 999, 0) == {"image": 1.0, "seed": 1.0}


def test_images_of_a_patient_are_swapped_together():
    found = swap_tests([pair(around(0.5, 0.01, 12), around(0.5, 0.1, 12), patients=6)], 999, 0)
    assert found["seed"] == 2 / 2**6


def test_random_swaps_count_the_one_that_was_seen():
    assert swap_tests([pair(around(0.5, 0.01, 40), around(0.5, 0.1, 40))], 999, 0)["seed"] == 1 / 1000


def test_so_many_swaps_that_a_large_family_can_show_something():
    small, large = [pair(around(0.5, 0.1, 16), around(0.5, 0.1, 16))], [pair(np.zeros((9000, 3)), np.zeros((9000, 3)))]
    assert swaps_for(10, small) == 4999
    assert swaps_for(10, large) == 999
    for pairs in (small, large):
        assert 400 / (1 + swaps_for(400, pairs)) < 0.05


def one_law(rng: np.random.Generator, images: int) -> Pair:
    """Effects from 0 to 1, alike under both attacks, whose seeds differ much on some images; means 0.3 apart."""
    own = rng.beta(0.6, 0.6, images)[:, None]
    first, second = (
        own + 0.15 * rng.normal(size=(images, 1)) + 0.03 * rng.gamma(0.7, 1, (images, 1)) * rng.normal(size=(images, 3))
        for _ in range(2)
    )
    return pair(first.clip(0, 1), second.clip(0, 1) + 0.3)


@pytest.mark.parametrize("images", [6, 8, 16])
def test_two_attacks_of_one_law_are_told_apart_in_one_of_twenty(images):
    rng, trials = np.random.default_rng(images), 300
    found = [swap_tests([one_law(rng, images)], 199, trial) for trial in range(trials)]
    for name in ("image", "seed"):
        false = np.mean([one[name] < 0.05 for one in found])
        assert false <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / trials), name


def test_a_variance_sixteen_times_as_large_is_shown():
    rng = np.random.default_rng(0)

    def drawn(image: float, seed: float) -> np.ndarray:
        return 0.5 + rng.normal(0, image, (16, 1)) + rng.normal(0, seed, (16, 3))

    found = [swap_tests([pair(drawn(0.05, 0.02), drawn(0.2, 0.08))], 199, trial) for trial in range(60)]
    for name in ("image", "seed"):
        assert np.mean([one[name] < 0.05 for one in found]) > 0.8, name


def test_models_and_data_sets_that_differ_more_under_one_attack():
    """The means are what differs there: they are not taken away."""
    noise = np.random.default_rng(0).normal(0, 0.01, (2, 2, 12, 2))
    apart, alike = np.array([0.2, 0.8])[:, None, None], np.array([0.5, 0.5])[:, None, None]
    assert swap_tests([pair(apart + noise[0], alike + noise[1])], 2048, 0)["model"] < 0.01
    assert swap_tests([pair(apart + noise[0], apart + 0.1 + noise[1])], 2048, 0)["model"] > 0.05
    sets = [pair(0.2 + noise[0, 0], 0.5 + noise[1, 0]), pair(0.8 + noise[0, 1], 0.5 + noise[1, 1])]
    assert swap_tests(sets, 999, 0)["data_set"] < 0.01
