import dataclasses

import polars as pl
import pytest
from synthetic_run import classifier_records, part_info, run_info, two_part_run

from medrobust.report.evidence import evidence
from medrobust.report.told import Told
from medrobust.statistics import Tables, summarise


def found(attacks: dict[str, dict], records=None, **part) -> dict[tuple[str, str], list]:
    records = classifier_records("p", attacks=tuple(attacks)) if records is None else records
    info = run_info({"p": part_info("ordinal", "abcde", attacks=attacks, **part)})
    told = Told(records, info, [], summarise(records, info), Tables(records, info))
    return {(one.name.split(",")[0], line.clause, line.asks): line.found for one in told.evidence for line in one.lines}


def by_technique(attacks, **part) -> dict[str, bool]:
    lines = found(attacks, **part)
    return {clause: bool(what) for (name, clause, _), what in lines.items() if name == "MITRE ATLAS"}


WHITE, BLACK, TRANSFER = (f"AML.T0043.00{k}" for k in range(3))


@pytest.mark.parametrize(
    ("attacks", "measured"),
    [
        ({"pgd": {"attack": "PGD"}}, {WHITE}),
        ({"sq": {"attack": "Square"}}, {BLACK}),
        ({"hsj": {"attack": "HopSkipJump"}}, {BLACK}),
        ({"pgd via x": {"attack": "PGD via x", "surrogate": "x"}}, {TRANSFER}),
        ({"own": {"attack": "MyOwnAttack"}}, set()),
        ({"e": {"attack": "Ensemble", "members": {"a": {"part": "APGD"}, "s": {"part": "Square"}}}}, {WHITE, BLACK}),
        ({"pgd": {"attack": "PGD"}, "nes": {"attack": "NES"}}, {WHITE, BLACK}),
    ],
)
def test_attacks_are_told_apart_by_what_they_see(attacks, measured):
    told = by_technique(attacks)
    assert {clause for clause in (WHITE, BLACK, TRANSFER) if told[clause]} == measured
    assert told["AML.T0015"]
    assert not told["AML.T0043.003"]
    assert not told["AML.T0043.004"]
    assert not told["AML.T0020"]


def test_of_a_black_box_no_gradient_was_seen():
    victim = {"bounds": [0.0, 1.0], "black_box": True}
    assert not by_technique({"pgd": {"attack": "PGD"}}, victim=victim)[WHITE]


def test_scores_and_decisions_are_told_apart():
    lines = found({"hsj": {"attack": "HopSkipJump"}})
    nist = {asks: what for (name, _, asks), what in lines.items() if name.startswith("NIST")}
    assert nist["Black-box attacks by decisions"]
    assert not nist["Black-box attacks by scores"]
    assert not nist["White-box attacks"]


def test_the_figure_is_that_of_the_table_and_leads_to_it():
    attacks = {"fgsm": {"attack": "FGSM"}, "smia": {"attack": "SMIA"}}
    records = classifier_records("p", attacks=tuple(attacks))
    summary = summarise(records, run_info({"p": part_info("ordinal", "abcde", attacks=attacks)}))
    worst = summary.filter(attack="worst case", metric="accuracy", eps=4 / 255).row(0, named=True)
    (one,) = found(attacks)["MITRE ATLAS", "AML.T0015", "Evade ML Model"]
    interval = f"[{worst['low']:.2f}, {worst['high']:.2f}]"
    assert one.figure == f"accuracy in the worst case at L∞ ≤ 4/255 {worst['value']:.2f} {interval}"
    assert one.anchor == "part-1-results"


def test_changes_of_the_imaging_chain_count_as_such():
    records = classifier_records("p", attacks=("pgd",)).with_columns(norm=pl.lit("contrast"))
    threats = [{"norm": "contrast", "eps": 4 / 255, "unit": "%"}]
    lines = found({"pgd": {"attack": "PGD"}}, records, threats=threats)
    (robust,) = [what for (_, _, asks), what in lines.items() if asks.startswith("Robustness against")]
    assert "contrast ≤" in robust[0].figure
    clean = found({"pgd": {"attack": "PGD"}})
    assert [what for (_, clause, _), what in clean.items() if clause == "15(4)"] == [[], []]


def test_what_no_run_measures_is_never_said_to_be_measured():
    run = two_part_run()
    told = Told(run.records, run.info, [], summarise(run.records, run.info), Tables(run.records, run.info))
    never = (
        "poisoning",
        "Poison",
        "confidentiality",
        "inversion",
        "leakage",
        "drift",
        "lifecycle",
        "proof",
        "subgroups",
    )
    lines = [line for framework in told.evidence for line in framework.lines]
    told_of = [line for line in lines if any(word in line.asks for word in never)]
    assert len(told_of) >= 8
    assert all(not line.found for line in told_of)


def test_a_part_of_which_no_image_was_evaluated_is_no_evidence():
    run = two_part_run()
    told = Told(run.records, run.info, [], summarise(run.records, run.info), Tables(run.records, run.info))
    empty = [dataclasses.replace(section, table=None) for section in told.sections]
    assert all(not line.found for framework in evidence(empty) for line in framework.lines)
