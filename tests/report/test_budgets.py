"""Budgets of every kind in their own unit, in words, in figures and in the terminal."""

import dataclasses

import polars as pl
import pytest
from synthetic_run import classifier_records, part_info, run_info

from medrobust.report import figures, terminal_table, threat_wording
from medrobust.report.budgets import budget_text, meanings
from medrobust.report.table import part_table
from medrobust.run import Table
from medrobust.statistics import summarise
from medrobust.threat import THREATS, BandNoise, BiasField, Contrast, Deformation, Threat, make_threat

EPS = (0.05, 0.1)


def run_of(*threats: Threat, unit: str = "[0, 1]"):
    """A classifier's records under other norms than they were made for."""
    told = [threat.describe(unit) for threat in threats]
    part = dataclasses.replace(part_info("ordinal", "abcde", unit=unit), threats=told)
    records = [
        classifier_records("p", budgets=(threat.budget(),)).with_columns(norm=pl.lit(threat.norm)) for threat in threats
    ]
    return pl.concat(records), run_info({"p": part}), part


@pytest.mark.parametrize(
    ("threat", "unit", "words"),
    [
        (Threat(4 / 255), "[0, 1]", "L∞ ≤ 4/255"),
        (Threat(10, "l1"), "[0, 1]", "L1 ≤ 10"),
        (Threat(0.5, "l2"), "[0, 1]", "L2 ≤ 0.5"),
        (Threat(10), "HU", "L∞ ≤ 10 HU"),
        (Contrast(0.05), "[0, 1]", "contrast ≤ 5 %"),
        (Contrast(0.05), "HU", "contrast ≤ 5 %"),
        (BiasField(0.125, grid=6), "[0, 1]", "bias field grid 6 ≤ 12.5 %"),
        (Deformation(2), "HU", "deformation ≤ 2 pixels"),
        (Deformation(1), "HU", "deformation ≤ 1 pixel"),
        (Deformation(2.5), "HU", "deformation ≤ 2.5 pixels"),
        (BandNoise(10.0), "HU", "band noise ≤ 10 HU"),
        (BandNoise(4 / 255, low=0.1, high=0.5), "[0, 1]", "band noise 0.1-0.5 ≤ 4/255"),
    ],
)
def test_a_budget_in_its_unit_everywhere(threat, unit, words):
    records, info, part = run_of(threat, unit=unit)
    assert budget_text(threat.norm, threat.budget(), part) == words
    summary = summarise(records, info, resamples=20)
    assert words in repr(Table(terminal_table(summary, info)))
    table = part_table(summary, "p")
    assert any(words in sentence for sentence in threat_wording.threat_model(table, part))
    assert words.partition(" ≤ ")[2] in figures.curve_svg(table, part, "accuracy", threat.norm)


def test_each_norm_has_its_own_unit_in_one_run():
    _, _, part = run_of(Threat(4 / 255), Contrast(0.05), Deformation(2))
    assert [part.unit_of(norm) for norm in ("linf", "contrast", "deformation", "l2")] == [
        "[0, 1]", "%", "pixels", "[0, 1]",
    ]  # fmt: skip


@pytest.mark.parametrize("kind", list(THREATS))
def test_every_threat_of_the_catalogue_is_put_in_words(kind):
    threat = make_threat(kind, 2.0)
    records, info, part = run_of(threat)
    (sentence,) = meanings([threat.norm], part)
    table = part_table(summarise(records, info, resamples=20), "p")
    assert f"{sentence[0].upper()}{sentence[1:]}." in threat_wording.threat_model(table, part)


def test_options_are_told_also_when_they_are_the_usual_ones():
    _, _, part = run_of(BandNoise(0.1), BandNoise(0.1, low=0.2, high=0.5), BiasField(0.1, grid=6))
    noise, other, field = meanings(["band noise", "band noise 0.2-0.5", "bias field grid 6"], part)
    assert noise.endswith("(0 to 0.25 cycles per pixel)")
    assert other.endswith("(0.2 to 0.5 cycles per pixel)")
    assert field.endswith("(6 control values along each axis)")


def test_the_unit_of_the_images_is_said_of_changes_in_it_alone():
    for threat, said in ((Threat(4 / 255), True), (BandNoise(4 / 255), True), (Contrast(0.05), False)):
        records, info, part = run_of(threat)
        text = " ".join(threat_wording.threat_model(part_table(summarise(records, info, resamples=20), "p"), part))
        assert ("in the units of the images" in text) is said


def test_a_run_that_does_not_tell_its_units():
    part = dataclasses.replace(part_info("ordinal", "abcde"), threats=[{"norm": "x", "unit": 5}, {}])
    assert budget_text("x", 4 / 255, part) == "x ≤ 4/255"
    assert meanings(["x"], part) == []


def test_two_families_and_l_inf_do_not_run_into_each_other():
    records, info, part = run_of(Threat(0.1), Contrast(0.05), Contrast(0.1))
    table = part_table(summarise(records, info, resamples=20), "p")
    assert [(budget[0].norm, budget[0].eps) for budget in table.budgets] == [
        ("linf", 0.1), ("contrast", 0.05), ("contrast", 0.1),
    ]  # fmt: skip
    text = " ".join(threat_wording.limits(table, part))
    assert "Not tested: L2, L1, spatial and physical changes," in text
    records, info, part = run_of(Deformation(2))
    table = part_table(summarise(records, info, resamples=20), "p")
    assert "Not tested: L∞, L2, L1, other spatial changes and physical ones," in " ".join(
        threat_wording.limits(table, part)
    )
