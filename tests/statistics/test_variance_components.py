"""Variance components: on paper, beside statsmodels, and recovered from data drawn with known ones."""

from __future__ import annotations

import numpy as np
import pytest

from medrobust.statistics.reweighting import image_weights, recentred_interval
from medrobust.statistics.variance_components import Components, components


def of_sample(*quantities: np.ndarray) -> dict[str, float]:
    found = components([values[None] for values in quantities], [np.ones((1, one.shape[1])) for one in quantities])
    return {name: float(found.value(name)[0, 0]) for name in Components.names()}


def drawn(
    rng: np.random.Generator, *, images=40, models=3, seeds=2, image=1.0, seed=0.25, model=0.5, residual=0.16, data=0.0
) -> np.ndarray:
    """`(models, images, seeds)` with these variances."""
    return (
        rng.normal(0, np.sqrt(data))
        + rng.normal(0, np.sqrt(model), (models, 1, 1))
        + rng.normal(0, np.sqrt(image), (1, images, 1))
        + rng.normal(0, np.sqrt(residual), (models, images, 1))
        + rng.normal(0, np.sqrt(seed), (models, images, seeds))
    )


def test_one_model_on_paper():
    # images (1, 3) and (5, 7): within each 2; means 2 and 6, mean square 2 · 8 = 16; (16 − 2)/2
    found = of_sample(np.array([[[1.0, 3.0], [5.0, 7.0]]]))
    assert found["seed"] == pytest.approx(2)
    assert found["image"] == pytest.approx(7)
    assert np.isnan([found["model"], found["residual"], found["data_set"]]).all()


def test_two_models_on_paper():
    # rows: models, columns: images; means by image 2 6, by model 3 5, deviations ±1 of which the interaction has ±1
    values = np.array([[[0.0], [6.0]], [[4.0], [6.0]]])
    found = of_sample(values)
    # mean 4; images: 2·(4 + 4)/1 = 16; models: 2·(1 + 1)/1 = 4; interaction: 4 cells of 1 → 4/1
    assert found["residual"] == pytest.approx(4)
    assert found["image"] == pytest.approx((16 - 4) / 2)
    assert found["model"] == pytest.approx((4 - 4) / 2)
    assert np.isnan(found["seed"])


def test_two_data_sets_on_paper():
    # means 0 and 4, variance 8; each mean of two images with variance 2 has the error 1
    found = of_sample(np.array([[[-1.0], [1.0]]]), np.array([[[3.0], [5.0]]]))
    assert found["data_set"] == pytest.approx(8 - 1)
    assert found["image"] == pytest.approx(2)


def test_known_variances_are_recovered_on_average():
    rng = np.random.default_rng(0)
    found = [of_sample(*(drawn(rng, data=2.0) for _ in range(6))) for _ in range(150)]
    wanted = {"image": 1.0, "seed": 0.25, "model": 0.5, "residual": 0.16, "data_set": 2.0}
    for name, value in wanted.items():
        estimates = np.array([one[name] for one in found])
        error = estimates.std(ddof=1) / np.sqrt(len(estimates))
        assert abs(estimates.mean() - value) < 4 * error, name
        assert error < 0.15 * value, f"{name}: the check could not fail"


@pytest.mark.parametrize("name", ["image", "seed", "residual"])
def test_intervals_hold_the_truth(name):
    wanted = {"image": 1.0, "seed": 0.25, "residual": 0.16}[name]
    rng, covered = np.random.default_rng(5), 0
    for trial in range(60):
        values = drawn(rng, images=60)[None]
        weights = image_weights(np.arange(60), 60, 300, trial)
        draws = components([values], [weights]).value(name)[0]
        low, high = recentred_interval(draws[1:], float(draws[0]), 0.95, 0.0)
        covered += low <= wanted <= high
    # percentile intervals of a variance cover some 91 % at 60 images; 60 trials hit that within ± 3 deviations
    assert covered >= 60 * 0.91 - 3 * 2.2


def test_a_resample_is_the_sample_with_images_repeated():
    rng = np.random.default_rng(2)
    values, weight = drawn(rng, images=7)[None], np.array([[0, 1, 2, 0, 1, 3, 1.0]])
    repeated = np.repeat(values, weight[0].astype(int), axis=2)
    weighted = components([values], [weight])
    whole = components([repeated], [np.ones((1, repeated.shape[2]))])
    for name in Components.names():
        assert weighted.value(name) == pytest.approx(whole.value(name), nan_ok=True), name


def test_beside_the_restricted_likelihood_of_statsmodels():
    """In balanced data both estimators agree wherever no component is cut at 0."""
    api = pytest.importorskip("statsmodels.api")
    pandas = pytest.importorskip("pandas")
    values = drawn(np.random.default_rng(1), models=1, images=30, seeds=3)
    table = pandas.DataFrame(
        [{"y": values[0, i, s], "image": i} for i in range(30) for s in range(3)],
    )
    fitted = api.MixedLM.from_formula("y ~ 1", groups="image", data=table).fit(reml=True)
    found = of_sample(values)
    assert found["seed"] == pytest.approx(fitted.scale, rel=1e-3)
    assert found["image"] == pytest.approx(float(fitted.cov_re.iloc[0, 0]), rel=1e-3)
