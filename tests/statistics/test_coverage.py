"""Do 95 % intervals hold the true figure in 95 % of all samples? The populations are those of docs/coverage.py."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("coverage_of_intervals", ROOT / "docs/coverage.py")
    sys.modules[spec.name] = module = importlib.util.module_from_spec(spec)  # dataclasses look themselves up
    spec.loader.exec_module(module)
    return module


def population(script, words):
    [found] = [each for each in script.POPULATIONS if each.figure.startswith(words)]
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("figure", "clusters"),
    [
        ("share of independent images, 80 %", 40),
        ("share of independent images, 95 %", 300),
        ("share by patient, 80 %", 40),
        ("share by patient, 95 %", 100),
        ("mean of skewed drops", 100),
        ("quadratic-weighted kappa", 300),
        ("AUROC of 0.75", 40),
        ("AUROC of 0.95", 100),
        ("area under a curve", 40),
    ],
)
def test_coverage_is_95_percent(script, figure, clusters):
    """Within two points, and the noise of so many samples (its standard error is 0.8 of a point)."""
    held, _, without = script.coverage(population(script, figure), clusters, 700, 1000)
    assert held == pytest.approx(0.95, abs=0.02 + 0.008)
    assert without < 0.01


@pytest.mark.slow
@pytest.mark.parametrize(("figure", "clusters"), [("strongest of five", 40), ("mAP", 20)])
def test_where_it_is_less_it_is_less_by_no_more_than_told(script, figure, clusters):
    """docs/statistics.md claims 91 to 94 %; percentile intervals are further off."""
    held, by_percentile, _ = script.coverage(population(script, figure), clusters, 300, 1000)
    assert 0.88 < held < 0.97
    assert by_percentile < held


def test_intervals_by_image_would_be_false(script):
    """The check can fail: with the images of a patient taken as independent the intervals are far too narrow."""
    from medrobust.statistics.figure import Figure
    from medrobust.statistics.resampling import bootstrap
    from medrobust.statistics.sums import mean

    rng, held = np.random.default_rng(0), 0
    for repeat in range(200):
        codes = np.repeat(np.arange(40), 6)
        values = rng.normal(0, 1, 40)[codes] + rng.normal(0, 0.5, len(codes))
        [drawn] = bootstrap([mean(values, np.arange(len(codes)), len(codes))], len(codes), 500, repeat)
        (low, high), _ = Figure("", ("", "", 0.0), drawn.value, len(codes), len(codes), drawn).interval(0.95)
        held += low <= 0 <= high
    assert held / 200 < 0.75


def test_a_few_samples_by_the_script(script):
    """What the table is made by, run short: shares between 0 and 1, and every population makes a sample."""
    for each in script.POPULATIONS:
        if each.figure not in ("mAP", "quadratic-weighted kappa"):
            ours, plain, without = script.coverage(each, 20, 3, 100)
            assert 0 <= min(ours, plain, without) <= max(ours, plain, without) <= 1
