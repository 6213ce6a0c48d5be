"""The sentences on stability for every outcome: steadier, less steady, both, no difference, too few, alone."""

from __future__ import annotations

from dataclasses import replace

import polars as pl
import pytest
from synthetic_stability import info, quantities, rows

from medrobust.report.stability_wording import cautions, findings
from medrobust.statistics.stability import EFFECT, image_quantities, step_summary
from medrobust.statistics.stability_components import COMPONENT_SCHEMA, variance_components
from medrobust.statistics.stability_tests import paired_tests

NO_COMPONENTS = pl.DataFrame(schema=COMPONENT_SCHEMA)
TWO = ("pgd", "smia")


def told(shifts, *, attacks=TWO, **options) -> list[str]:
    tests = paired_tests(quantities(shifts, attacks=attacks, **options), "smia")
    steps = step_summary(rows(images=4)[0]).filter(measure="nothing")
    return findings(tests, NO_COMPONENTS, steps, info(attacks=attacks))


def test_steadier():
    steadiness, strength = told({"smia": {"movement": -0.5, "seed distance": -0.5}})
    assert steadiness == (
        "smia is steadier than pgd in movement of the perturbation (tissue) and distance between seeds (tissue); in 5 "
        "other comparisons no difference is shown."
    )
    assert strength == "Between smia and pgd no difference in strength is shown (2 comparisons)."


def test_less_steady_is_said_as_plainly():
    [steadiness, _] = told({"smia": {"movement": 0.5}})
    assert steadiness.startswith("smia is less steady than pgd in movement of the perturbation (tissue);")


def test_steadier_in_one_way_and_less_in_another():
    [steadiness, _] = told({"smia": {"movement": -0.5, "sign flips": 0.5}})
    assert steadiness.startswith(
        "smia is steadier than pgd in movement of the perturbation (tissue); but it is less steady than pgd in sign "
        "flips (tissue);"
    )


def test_no_difference():
    assert told({})[0] == "Between smia and pgd no difference in steadiness is shown (7 comparisons)."


def test_too_few():
    [steadiness, strength] = told({"smia": {"movement": -9.0}}, images=5)
    assert steadiness == (
        "There are too few images to tell whether smia or pgd is the steadier one: among 9 tests it takes 9 patients "
        "or images."
    )
    assert "stronger one" in strength


@pytest.mark.parametrize(("shift", "word"), [(0.5, "stronger"), (-0.5, "weaker")])
def test_strength(shift, word):
    strength = told({"smia": {EFFECT: shift}})[1]
    assert strength.startswith(f"smia is {word} than pgd in effect (tissue); in 1 other comparison no difference")


def test_against_each_other_attack():
    sentences = told({"mi": {"movement": 0.5}}, attacks=("pgd", "mi", "smia"))
    assert sentences[0].startswith("Between smia and pgd no difference in steadiness")
    assert sentences[1].startswith("smia is steadier than mi in movement")


def test_alone():
    assert told({}, attacks=("smia",)) == ["smia ran alone: there is no other attack to hold it against."]


def component(**values) -> pl.DataFrame:
    base = {"scope": "tissue", "quantity": EFFECT, "attack": "pgd", "component": "image", "value": 1.0, "p_value": 0.01}
    return pl.DataFrame([{**base, **values}], schema=COMPONENT_SCHEMA)


@pytest.mark.parametrize(
    ("difference", "p_holm", "clusters", "sentence"),
    [
        (
            -1.5,
            0.049,
            6,
            "The variance of smia’s effect over images is smaller than that of pgd (tissue) (p < 0.05, corrected for 1 "
            "test).",
        ),
        (1.5, 0.049, 6, "The variance of smia’s effect over images is larger than that of pgd (tissue)"),
        (
            1.5,
            0.05,
            6,
            "The variance of smia’s effect over images shows no difference from the others’ (1 comparison).",
        ),
        (
            1.5,
            0.04,
            5,
            "There are too few images to compare the effect’s variance over images: among 1 test it takes 6 patients "
            "or images.",
        ),
    ],
)
def test_variance(difference, p_holm, clusters, sentence):
    tests = paired_tests(quantities({}, attacks=TWO), "smia")
    # an interval that excludes 0 proves nothing with few images
    low, high = difference - 0.1, difference + 0.1
    components = component(
        difference=difference, difference_low=low, difference_high=high, p_holm=p_holm, clusters=clusters
    )
    steps = step_summary(rows(images=4)[0]).filter(measure="nothing")
    assert any(one.startswith(sentence) for one in findings(tests, components, steps, info(attacks=TWO)))


def test_after_how_many_steps_it_has_settled():
    steps, outcomes = rows()
    tests = paired_tests(image_quantities(steps, outcomes), "smia")
    # paces .5, .7 and .4 of ± 10 %: a tenth is left after 4, 6 (7 but for the end) and 3 steps
    last = findings(tests, NO_COMPONENTS, step_summary(steps), info())[-1]
    assert last.endswith("after 4 under pgd, 6 under mi and 3 under smia, of 6 steps.")


def test_cautions_are_told_where_they_hold():
    tests = paired_tests(quantities({}, images=10), "smia")
    one = " ".join(cautions(tests, info(seeds=[0])))
    assert "10 patients or images in the smallest part" in one
    assert "With one seed" in one
    assert "There is one data set" in one
    assert "step" not in one.lower().replace("steady", "")
    parts = info().parts
    attacks = {label: {"attack": label, "steps": 1 if label == "mi" else 6} for label in ("pgd", "mi", "smia")}
    unlike = replace(
        info(step_lengths={"tissue": {"pgd": 0.01, "mi": 0.004, "smia": 0.01}}),
        parts={"tissue": replace(parts["tissue"], attacks=attacks, task="ordinal")},
    )
    several = " ".join(cautions(paired_tests(quantities({}, images=60, patients=30), "smia"), unlike))
    assert "mi’s are 0.4 times as long" in several
    assert "pgd 6, mi 1 and smia 6" in several
    assert "drop of being right" in several
    assert "patients or images in the smallest part" not in several
    assert "Patients are unknown" not in several


def test_hostile_labels_cannot_turn_a_sentence_round():
    attacks = ("\u202epgd\n", "smia")
    tests = paired_tests(quantities({}, attacks=attacks), "smia")
    steps, _ = rows(images=4)
    text = " ".join(findings(tests, NO_COMPONENTS, step_summary(steps), info(attacks=attacks)))
    assert "\u202e" not in text
    assert "\n" not in text


def test_all_of_it_from_rows():
    steps, outcomes = rows()
    found = image_quantities(steps, outcomes)
    whole = info()
    components = variance_components(found, outcomes, whole.parts, "smia")
    sentences = findings(paired_tests(found, "smia"), components, step_summary(steps), whole)
    assert sentences[0].startswith("smia is steadier than pgd in movement of the perturbation (tissue)")
    assert any("variance of smia’s effect over seeds shows no difference" in one for one in sentences)
