"""Variance of an attack's effect over images, runs and tasks: worked by hand, and held to NumPy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from synthetic_run import part_info, row, run_info

from medrobust.errors import InputError
from medrobust.evaluation.records import SCHEMA, RunInfo
from medrobust.statistics.spread import ALL_TASKS, IMAGES, MEAN, RUNS, TASKS, spread

EPS = 4 / 255


def run_of(dice: dict[str, dict[str, list[float]]], clean: float = 0.9, patients=None) -> tuple[pl.DataFrame, RunInfo]:
    """A run of segmentation parts: part → attack → Dice after, image by image."""
    rows = [
        row(part, index, attack, EPS, dice_before=clean, dice_after=value, right_before=True, right_after=True)
        | ({} if patients is None else {"patient": patients[index]})
        for part, attacks in dice.items()
        for attack, values in attacks.items()
        for index, value in enumerate(values)
    ]
    parts = {
        name: replace(
            part_info("segmentation", ("background", "organ"), name=name),
            attacks={attack: {"attack": attack} for attack in attacks},
        )
        for name, attacks in dice.items()
    }
    return pl.DataFrame(rows, schema=SCHEMA), run_info(parts)


def value(table: pl.DataFrame, part: str, over: str, attack: str, column: str = "value") -> float | None:
    return table.filter(part=part, over=over, attack=attack)[column].item()


def test_by_hand():
    # effects: run 0 .1 .3, run 1 .2 .6; variance within .02 and .08, of the means .2 and .4: .02
    first = run_of({"p": {"smia": [0.8, 0.6], "pgd": [0.7, 0.7]}})
    second = run_of({"p": {"smia": [0.7, 0.3], "pgd": [0.5, 0.5]}})
    table = spread([first, second], "smia")
    assert value(table, "p", MEAN, "smia") == pytest.approx(0.3)
    assert value(table, "p", IMAGES, "smia") == pytest.approx(0.05)
    assert value(table, "p", RUNS, "smia") == pytest.approx(0.02)
    assert value(table, "p", IMAGES, "pgd") == pytest.approx(0)
    assert value(table, "p", RUNS, "pgd") == pytest.approx(0.02)
    assert value(table, "p", IMAGES, "pgd", "difference") == pytest.approx(0.05)
    assert value(table, "p", MEAN, "smia", "difference") is None
    assert value(table, ALL_TASKS, TASKS, "smia") is None, "one task has no variance"


def test_one_image_has_no_variance_over_images():
    table = spread([run_of({"p": {"smia": [0.8], "pgd": [0.7]}})] * 2, "smia")
    over_images = table.filter(over=IMAGES)
    assert over_images.select("value", "low", "high", "difference", "p_value", "p_holm").null_count().row(0) == (2,) * 6
    assert value(table, "p", RUNS, "smia") == pytest.approx(0)
    assert value(table, "p", MEAN, "smia") == pytest.approx(0.1)


def test_over_tasks_it_is_the_share_of_the_clean_value():
    run = run_of({"a": {"smia": [0.45, 0.45], "pgd": [0.0, 0.0]}, "b": {"smia": [0.45, 0.45], "pgd": [0.9, 0.9]}})
    table = spread([run], "smia")
    assert value(table, ALL_TASKS, MEAN, "smia") == pytest.approx(0.5)
    assert value(table, ALL_TASKS, TASKS, "smia") == pytest.approx(0)
    assert value(table, ALL_TASKS, TASKS, "pgd") == pytest.approx(np.var([1.0, 0.0], ddof=1))
    assert value(table, "a", RUNS, "smia") is None, "one run has no variance"


def test_intervals_hold_what_another_sample_would_give():
    rng = np.random.default_rng(0)
    covered, truth = 0, 0.2**2
    for sample in range(60):
        effects = 0.9 - rng.normal(0.4, 0.2, 60)
        table = spread([run_of({"p": {"smia": effects.tolist()}})], "smia", resamples=300, seed=sample)
        low, high = (value(table, "p", IMAGES, "smia", column) for column in ("low", "high"))
        covered += low <= truth <= high
    # a variance's percentile interval covers 91 % of 60 normal values; 60 trials hit that within ± 3 deviations
    assert 60 * 0.91 - 3 * 2.2 <= covered <= 60


def test_slices_of_one_patient_are_drawn_together():
    effects = [0.9, 0.9, 0.9, 0.1, 0.1, 0.1, 0.5, 0.5, 0.5]
    alone = spread([run_of({"p": {"smia": effects}})], "smia")
    together = spread([run_of({"p": {"smia": effects}}, patients=[*"aaabbbccc"])], "smia")
    widths = [
        value(table, "p", MEAN, "smia", "high") - value(table, "p", MEAN, "smia", "low") for table in (alone, together)
    ]
    assert widths[1] > 1.3 * widths[0]


def test_a_pair_of_equal_attacks_differs_by_nothing():
    rng = np.random.default_rng(1)
    same = (0.9 - rng.random(20) / 2).tolist()
    table = spread([run_of({"p": {"smia": same, "pgd": same}})], "smia")
    assert value(table, "p", IMAGES, "pgd", "difference") == 0
    assert value(table, "p", IMAGES, "pgd", "difference_low") is None


def test_what_cannot_be_compared():
    first, second = run_of({"p": {"smia": [0.5, 0.6]}}), run_of({"p": {"smia": [0.5]}})
    with pytest.raises(InputError, match="no attack 'pgd' to compare with; there are smia"):
        spread([first], "pgd")
    with pytest.raises(InputError, match="p: the runs do not hold the same images"):
        spread([first, second], "smia")


def test_few_images_are_swapped_in_every_way():
    """Effects of three images, about their means: −.2 0 .2 and −.1 0 .1; of the four ways two are as far apart."""
    table = spread([run_of({"p": {"smia": [0.7, 0.5, 0.3], "pgd": [0.5, 0.4, 0.3]}})], "smia")
    assert value(table, "p", IMAGES, "pgd", "difference") == pytest.approx(0.04 - 0.01)
    # none swapped 0.03; the first 0.0133…; the middle one changes nothing: 0.03; the first and the middle 0.0133…
    assert value(table, "p", IMAGES, "pgd", "p_value") == pytest.approx(2 / 4)
    assert value(table, "p", IMAGES, "smia", "p_value") is None
    assert value(table, "p", MEAN, "pgd", "p_value") is None
    assert value(table, "p", RUNS, "pgd", "p_value") is None


@pytest.mark.slow
@pytest.mark.parametrize("spread_out", [1.0, 4.0])
def test_two_attacks_of_one_law_are_rarely_told_apart_and_unlike_ones_mostly(spread_out):
    """Skewed effects of 18 images, the means 0.3 apart: 5 % of 200 within three deviations; power above 80 %."""
    rng = np.random.default_rng(1)
    told = 0
    for _ in range(200 if spread_out == 1 else 50):
        common = rng.exponential(0.02, 18)
        one, other = (common + rng.exponential(0.02, 18) for _ in range(2))
        other = 0.3 + other.mean() + spread_out * (other - other.mean())
        runs = [run_of({"p": {"smia": (0.9 - one).tolist(), "pgd": (0.9 - other).tolist()}})]
        p_value = value(spread(runs, "smia", resamples=2), "p", IMAGES, "pgd", "p_value")
        told += p_value < 0.05
    assert told <= 10 + 3 * 3.1 if spread_out == 1 else told >= 40
