"""What is told of an image, the way of all of them, and the verdicts: on paper, and on data with known differences."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch
from synthetic_stability import info, quantities, rows

from medrobust.errors import InputError
from medrobust.evaluation.distances import mean_to_others, sketched
from medrobust.evaluation.trajectories import MEASURES, OUTCOME_SCHEMA, STEP_SCHEMA
from medrobust.statistics.comparison import sign_flip_test
from medrobust.statistics.paired_tests import holm
from medrobust.statistics.resampling import Clusters
from medrobust.statistics.stability import (
    EFFECT,
    LOSS,
    QUANTITIES,
    image_quantities,
    image_steps,
    model_distances,
    step_summary,
)
from medrobust.statistics.stability_components import ALL_DATA_SETS, TOTAL, variance_components
from medrobust.statistics.stability_tests import HIGHER, LOWER, NO_DIFFERENCE, TOO_FEW, least_clusters, paired_tests

KEY = {"part": "p", "index": 0, "patient": None, "attack": "smia", "seed": 0}


def way(**columns: list[float]) -> pl.DataFrame:
    count = len(next(iter(columns.values())))
    made = [
        {**KEY, "step": t, **dict.fromkeys(MEASURES, np.nan), **{name: values[t] for name, values in columns.items()}}
        for t in range(count)
    ]
    return pl.DataFrame(made, schema=STEP_SCHEMA)


def outcome(**values) -> pl.DataFrame:
    base = {"value_before": 0.9, "value_after": 0.3, "loss_before": 0.1, "loss_after": 1.4, "seed_distance": 0.5}
    return pl.DataFrame([{**KEY, **base, **values}], schema=OUTCOME_SCHEMA)


def test_an_image_on_paper():
    # six steps: the last third are two
    steps = way(
        moved=[np.nan, 9, 9, 9, 9, 3, 1],
        l2=[1, 1, 1, 1, 1, 1, 4],
        sign_flips=[np.nan, np.nan, 0.9, 0.9, 0.9, 0.2, 0.4],
        kl_previous=[np.nan, 5, 5, 5, 5, 0.02, 0.01],
        kl_smoothed=[5, 5, 5, 5, 5, 5, 0.7],
        worth=[1, 0, 1, 0, 0.5, 0.9, 0.6],
    )
    [row] = image_quantities(steps, outcome()).iter_rows(named=True)
    wanted = {
        EFFECT: 0.6,
        LOSS: 1.3,
        "movement": (3 + 1) / 2 / 4,
        "sign flips": 0.3,
        "prediction change": 0.015,
        "effect change": (0.4 + 0.3) / 2,
        "smoothing gap": 0.7,
        "seed distance": 0.5,
    }
    assert {name: row[name] for name in wanted} == pytest.approx(wanted, rel=1e-5)
    assert row["image distance"] is None
    assert row["model distance"] is None
    assert set(QUANTITIES) == {*wanted, "image distance", "model distance"}


def test_perturbations_made_on_different_models_are_compared():
    """Three models of one data set, one of another; two images from two seeds; held to the exact distances."""
    generator = torch.Generator().manual_seed(0)
    common = torch.randn(2, 2, 400, generator=generator)
    deltas = {name: common + torch.randn(2, 2, 400, generator=generator) for name in ("a", "b", "c", "d")}
    deltas["b"] *= 3
    made = [
        {**outcome().row(0, named=True), "part": name, "index": index, "seed": seed}
        | {"l2": float(delta.norm()), "sketch": sketched(delta[None])[0].tolist()}
        for name, all_of_it in deltas.items()
        for index, of_image in enumerate(all_of_it)
        for seed, delta in enumerate(of_image)
    ]
    parts = info(("a", "b", "c", "d")).parts
    parts = {name: replace(part, data_sha256="other" if name == "d" else "same") for name, part in parts.items()}
    found = model_distances(pl.DataFrame(made, schema=OUTCOME_SCHEMA), parts)
    assert found["part"].to_list() == ["a"] * 4
    for row in found.iter_rows(named=True):
        one, *others = (deltas[name][row["index"], row["seed"]] for name in "abc")
        exact = [float((one - other).norm() / ((one.norm() + other.norm()) / 2)) for other in others]
        assert row["model distance"] == pytest.approx(np.mean(exact), rel=0.12)
    assert model_distances(pl.DataFrame(made, schema=OUTCOME_SCHEMA), {"a": parts["a"], "d": parts["d"]}).is_empty()


def test_a_sketch_keeps_lengths_and_angles():
    deltas = torch.randn(20, 3, 40, 40, generator=torch.Generator().manual_seed(1))
    deltas[0], deltas[1] = 0, 5 * deltas[2]
    sketches = sketched(deltas)
    assert sketches.shape == (20, 256)
    assert sketches[0].abs().sum() == 0
    assert torch.allclose(sketches[1], sketches[2], atol=1e-6)
    units = torch.nn.functional.normalize(deltas.flatten(1), dim=1)
    kept, exact = (rows @ rows.T for rows in (sketches, units))
    assert (kept - exact).abs().max() < 5 / 16  # five standard deviations
    assert (kept - exact)[2:, 2:].square().mean().sqrt() < 1.3 / 16
    assert torch.equal(sketched(deltas[3:4]), sketches[3:4])


def test_a_single_step_and_a_change_of_nothing():
    steps = way(moved=[np.nan, 0.0], l2=[0.0, 0.0], sign_flips=[np.nan, np.nan], kl_previous=[np.nan, 0.3])
    [row] = image_quantities(steps, outcome()).iter_rows(named=True)
    assert row["movement"] is None
    assert row["sign flips"] is None
    assert row["prediction change"] == pytest.approx(0.3)


def test_the_way_of_all_is_the_quartiles_of_their_means():
    frames = [
        way(kl_final=[value, 0.0]).with_columns(index=pl.lit(index, pl.Int64), seed=pl.lit(seed, pl.Int64))
        for index, pair in enumerate([(1.0, 3.0), (4.0, 4.0), (6.0, 10.0)])
        for seed, value in enumerate(pair)
    ]
    steps = pl.concat(frames)
    assert image_steps(steps).filter(step=0)["kl_final"].to_list() == [2, 4, 8]
    found = step_summary(steps)
    assert found["measure"].unique().to_list() == ["kl_final"], "what is not known is not told"
    row = found.filter(step=0).row(0, named=True)
    assert (row["lower"], row["median"], row["upper"]) == (3, 4, 6)


def test_attacks_keep_their_order():
    steps, _ = rows(images=3)
    assert step_summary(steps)["attack"].unique(maintain_order=True).to_list() == ["pgd", "mi", "smia"]


def verdict(tests: pl.DataFrame, quantity: str, second: str) -> str:
    return tests.filter(quantity=quantity, second=second)["verdict"].item()


def test_differences_that_are_there_are_told_and_no_others():
    tests = paired_tests(quantities({"smia": {"movement": -0.5, "sign flips": 0.5}}), "smia")
    for second in ("pgd", "mi"):
        assert verdict(tests, "movement", second) == LOWER
        assert verdict(tests, "sign flips", second) == HIGHER
        assert verdict(tests, "smoothing gap", second) == NO_DIFFERENCE
    row = tests.filter(quantity="movement", second="pgd").row(0, named=True)
    assert row["difference"] == pytest.approx(-0.5, abs=0.1)
    assert row["low"] < -0.5 < row["high"] < 0
    assert row["rank_biserial"] == -1.0
    assert row["standardised"] < -2
    assert (row["n"], row["clusters"], row["resampled"]) == (24, 24, "images")
    assert row["wilcoxon_holm"] > row["wilcoxon"]


@pytest.mark.slow
def test_without_any_difference_the_family_errs_in_one_of_twenty():
    """Of 40 pages with 14 tests each, all of nothing, hardly any tells of a difference: 5 % and three deviations."""
    wrong = sum(
        bool(
            paired_tests(quantities({}, images=12, seeds=1, seed=trial), "smia", resamples=100)["verdict"]
            .is_in([HIGHER, LOWER])
            .any()
        )
        for trial in range(40)
    )
    assert wrong <= 40 * 0.05 + 3 * np.sqrt(40 * 0.05 * 0.95)


def test_too_few_images_for_so_many_tests():
    tests = paired_tests(quantities({"smia": {"movement": -5.0}}, images=8), "smia")
    assert set(tests["verdict"]) == {TOO_FEW}
    # 14 tests: 14 · 2^(1 − n) < .05 from n = 10 on
    assert len(tests) == 18
    assert least_clusters(14) == 10
    assert least_clusters(1) == 6
    enough = paired_tests(quantities({"smia": {"movement": -5.0}}, images=10), "smia")
    assert verdict(enough, "movement", "pgd") == LOWER


def test_patients_are_what_counts():
    tests = paired_tests(quantities({"smia": {"movement": -5.0}}, images=40, patients=8), "smia")
    assert set(tests["clusters"]) == {8}
    assert set(tests["verdict"]) == {TOO_FEW}


def test_distances_between_images_are_not_tested_since_two_images_share_each():
    """Were they taken as independent, two attacks of one law would differ at 5 % in some 30 % of the cases."""
    rng, flipped = np.random.default_rng(0), 0
    for trial in range(60):
        first, second = (
            np.array(
                mean_to_others(torch.from_numpy(rng.normal(1, 1, (16, 1)) * np.eye(1, 8) + rng.normal(size=(16, 8))))
            )
            for _ in range(2)
        )
        flipped += sign_flip_test(first - second, Clusters(np.arange(16), 16, "images"), trial) < 0.05
    assert flipped > 60 * 0.12, "then they could be tested"
    tests = paired_tests(quantities({"smia": {"image distance": 5.0}}), "smia")
    assert "image distance" not in tests["quantity"].to_list()
    assert not tests["verdict"].is_in([HIGHER, LOWER]).any()


def test_what_one_of_them_has_no_value_of_is_not_tested():
    found = quantities({}).with_columns(pl.lit(None, pl.Float64).alias("seed distance"))
    assert "seed distance" not in paired_tests(found, "smia")["quantity"].to_list()
    alone = paired_tests(quantities({}, attacks=["smia"]), "smia")
    assert alone.is_empty()
    with pytest.raises(InputError, match="resamples"):
        paired_tests(found, "smia", resamples=1)


def component(table: pl.DataFrame, name: str, column: str = "value", *, scope: str, attack: str = "smia") -> float:
    return table.filter(scope=scope, component=name, attack=attack, quantity=EFFECT)[column].item()


def effects(values: dict[str, np.ndarray], part: str) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Quantities and outcomes of one part: attack → effects `(images, seeds)`; the clean value is 0.8."""
    made = [
        {"part": part, "index": i, "attack": attack, "seed": s, "patient": None, EFFECT: float(of[i, s])}
        for attack, of in values.items()
        for i in range(of.shape[0])
        for s in range(of.shape[1])
    ]
    empty = dict.fromkeys([name for name in QUANTITIES if name != EFFECT])
    frame = pl.DataFrame(
        [{**one, **empty, LOSS: 1.0} for one in made], schema_overrides=dict.fromkeys(QUANTITIES, pl.Float64)
    )
    before = [{**{k: one[k] for k in ("part", "index", "attack", "seed")}, "value_before": 0.8} for one in made]
    return frame, pl.DataFrame(before)


def test_components_on_paper():
    values = {"smia": np.array([[0.1, 0.3], [0.5, 0.7]]), "pgd": np.array([[0.2, 0.2], [0.2, 0.2]])}
    found, outcomes = effects(values, "tissue")
    table = variance_components(found, outcomes, info(attacks=("smia", "pgd")).parts, "smia")
    assert component(table, "seed", scope="tissue") == pytest.approx(0.02)
    assert component(table, "image", scope="tissue") == pytest.approx((0.16 - 0.02) / 2)
    assert component(table, TOTAL, scope="tissue") == pytest.approx(0.09)
    assert component(table, "image", "share", scope="tissue") == pytest.approx(0.07 / 0.09)
    assert component(table, "model", scope="tissue") is None
    assert component(table, "image", scope="tissue", attack="pgd") == pytest.approx(0)
    assert component(table, "image", "difference", scope="tissue", attack="pgd") == pytest.approx(0.07)
    assert component(table, "image", "difference", scope="tissue") is None


def test_over_data_sets_the_effect_is_a_share_of_the_clean_value():
    one, before = effects({"smia": np.full((6, 2), 0.2), "pgd": np.full((6, 2), 0.4)}, "a")
    other, after = effects({"smia": np.full((8, 2), 0.6), "pgd": np.full((8, 2), 0.4)}, "b")
    parts = info(("a", "b"), ("smia", "pgd")).parts
    table = variance_components(pl.concat([one, other]), pl.concat([before, after]), parts, "smia")
    assert component(table, "data_set", scope=ALL_DATA_SETS) == pytest.approx(np.var([0.25, 0.75], ddof=1))
    assert component(table, "data_set", scope=ALL_DATA_SETS, attack="pgd") == pytest.approx(0, abs=1e-12)
    assert component(table, "image", "clusters", scope=ALL_DATA_SETS) == 6


def test_parts_of_the_same_data_are_models_of_one_data_set():
    one, before = effects({"smia": np.full((6, 2), 0.2)}, "a")
    other, after = effects({"smia": np.full((6, 2), 0.6)}, "b")
    parts = {name: replace(part, data_sha256="same") for name, part in info(("a", "b"), ("smia",)).parts.items()}
    table = variance_components(pl.concat([one, other]), pl.concat([before, after]), parts, "smia")
    assert component(table, "model", scope="a") == pytest.approx(np.var([0.2, 0.6], ddof=1))
    assert component(table, "model", "models", scope="a") == 2
    assert set(table["scope"]) == {"a"}


def test_two_data_sets_of_one_name_are_told_by_their_parts():
    one, before = effects({"smia": np.full((6, 2), 0.2)}, "A")
    other, after = effects({"smia": np.full((6, 2), 0.6)}, "B")
    parts = {
        name: replace(part, dataset=replace(part.dataset, name="test"))
        for name, part in info(("A", "B"), ("smia",)).parts.items()
    }
    table = variance_components(pl.concat([one, other]), pl.concat([before, after]), parts, "smia")
    assert table["scope"].unique(maintain_order=True).to_list() == ["A", "B", ALL_DATA_SETS]


def test_models_without_an_image_in_common_have_no_components():
    one, before = effects({"smia": np.full((3, 2), 0.2)}, "a")
    other, after = effects({"smia": np.full((3, 2), 0.6)}, "b")
    other = other.with_columns(pl.col("index") + 3)
    parts = {name: replace(part, data_sha256="same") for name, part in info(("a", "b"), ("smia",)).parts.items()}
    assert variance_components(pl.concat([one, other]), pl.concat([before, after]), parts, "smia").is_empty()


def test_known_components_lie_in_their_intervals_and_a_smaller_one_is_told():
    rng = np.random.default_rng(4)
    values = {
        "smia": 0.5 + rng.normal(0, 0.05, (80, 1)) + rng.normal(0, 0.02, (80, 3)),
        "pgd": 0.5 + rng.normal(0, 0.2, (80, 1)) + rng.normal(0, 0.02, (80, 3)),
    }
    found, outcomes = effects(values, "tissue")
    table = variance_components(found, outcomes, info(attacks=("smia", "pgd")).parts, "smia")
    for attack, image in (("smia", 0.05), ("pgd", 0.2)):
        for name, wanted in (("image", image**2), ("seed", 0.02**2)):
            low, high = (component(table, name, column, scope="tissue", attack=attack) for column in ("low", "high"))
            assert low < wanted < high, (attack, name)
    assert component(table, "image", "difference_high", scope="tissue", attack="pgd") < 0
    assert component(table, "image", "p_holm", scope="tissue", attack="pgd") < 0.05
    assert component(table, "seed", "p_holm", scope="tissue", attack="pgd") > 0.05
    assert component(table, TOTAL, "p_value", scope="tissue", attack="pgd") is None
    assert component(table, "image", "p_value", scope="tissue") is None


def test_p_values_of_all_components_are_corrected_together():
    rng = np.random.default_rng(1)
    found, outcomes = effects({label: rng.normal(0.5, 0.1, (12, 2)) for label in ("smia", "pgd", "mi")}, "tissue")
    table = variance_components(found, outcomes, info(attacks=("smia", "pgd", "mi")).parts, "smia", resamples=50)
    tested = table.filter(pl.col("p_value").is_not_null())
    assert len(tested) == 2 * 2 * 2, "image and seed, of effect and loss, of two attacks"
    assert tested["p_holm"].to_list() == pytest.approx(holm(tested["p_value"].to_list()))
