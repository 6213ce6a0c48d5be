"""Verdicts from numbers made by hand: thresholds, luck in small samples, what has no meaning."""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np
import polars as pl
import pytest
from pydantic import TypeAdapter
from synthetic_run import answer_row, classifier_records, detection_run, frame, part_info, run_info, two_part_run

from medrobust.evaluation.probes import Outputs, Probes, Tried
from medrobust.statistics import Check, summarise, trust_checks, trust_line
from medrobust.statistics.trust_pairs import Pair
from medrobust.statistics.trust_rules import RULES, Rule

USUAL = classifier_records("p", attacks=("pgd",))
USUAL_SUMMARY = summarise(USUAL, run_info({"p": part_info("classification", list("abcde"))}), resamples=100)


def tried(left, loss=1.0, fooled=None) -> Tried:
    return Tried(list(left), [one < 0.5 for one in left] if fooled is None else fooled, [loss] * len(left))


def honest(n: int = 16, **changes) -> Probes:
    """Probes that pass everything: PGD breaks all, one step and answers alone the half, noise none."""
    probes = Probes(
        images=list(range(n)),
        right=True,
        norm="linf",
        eps=4 / 255,
        tried={
            "pgd": tried([0.0] * n, 2.0),
            "single step": tried([0.0, 1.0] * (n // 2), 1.0),
            "restarts": tried([0.0] * n, 2.0),
            "noise": tried([1.0] * n, 0.11),
            "unlimited": tried([0.0] * n, 9.0),
            "answers alone": tried([0.0, 1.0] * (n // 2), 0.6),
            "saved": tried([0.0] * n, 2.0),
        },
        clean_loss=[0.1] * n,
        loss_by_step=[[0.6, 1.0, 2.0]] * n,
        outputs=Outputs(-3.0, 4.0, 2.0),
        again=[0.0] * n,
        company=[1e-6] * n,
        changed=[False] * n,
        gradients=[0.1] * n,
        slopes=[1.0] * n,
        variables=1000,
        quantum=1 / 255,
    )
    return replace(probes, **changes)


def with_tried(name: str, left, n: int = 16, **more) -> Probes:
    probes = honest(n)
    return replace(probes, tried={**probes.tried, name: tried(left, **more)})


def checks_of(probes: Probes | None, records: pl.DataFrame | None = None, **part) -> dict[str, Check]:
    info = part_info("classification", list("abcde"), **{"attacks": {"pgd": {"attack": "PGD", "steps": 10}}, **part})
    info = replace(info, probes=probes)
    summary = summarise(records, run_info({"p": info}), resamples=100) if records is not None else USUAL_SUMMARY
    records = USUAL if records is None else records
    return {check.key: check for check in trust_checks(records, summary, "p", info)}


def test_honest_numbers_pass():
    checks = checks_of(honest(), expected=None)
    assert {key for key, check in checks.items() if check.verdict != "pass"} == {"stated", "transfer"}
    assert trust_line(list(checks.values())) == "trust: 14 pass, 0 warn, 0 fail, 2 not applicable"


def none_of(n: int = 16, ones: int = 0) -> list[float]:
    """All fallen but so many."""
    return [1.0] * ones + [0.0] * (n - ones)


@pytest.mark.parametrize(
    ("key", "probes", "verdict", "measured"),
    [
        ("logits", honest(outputs=Outputs(0.0, 1.0, 0.0)), "fail", 0.0),
        ("logits", honest(outputs=Outputs(0.1, 0.9, None)), "fail", 0.0),
        ("logits", honest(outputs=Outputs(0.1, 0.9, 0.3)), "pass", 0.3),
        ("logits", honest(outputs=Outputs(-20.0, -0.001, 40.0)), "pass", 40.0),  # log-probabilities are logits
        ("repeated", honest(again=[0.0] * 15 + [1e-3]), "warn", 1e-3),
        ("repeated", honest(again=[0.0] * 15 + [0.06]), "fail", 0.06),
        ("repeated", honest(again=[0.0] * 15 + [1e-3], changed=[False] * 15 + [True]), "fail", 1e-3),
        ("company", honest(company=[0.0] * 15 + [0.02]), "warn", 0.02),
        ("company", honest(company=[0.0] * 15 + [0.7]), "fail", 0.7),
        ("gradients", honest(gradients=[0.0] + [0.1] * 15), "warn", 1 / 16),
        ("gradients", honest(gradients=[0.0, None] + [0.1] * 14), "fail", 2 / 16),
        ("slopes", honest(slopes=[1.0] * 12 + [0.1] * 4), "pass", 0.75),
        ("slopes", honest(slopes=[1.0] * 8 + [0.1, 2.5, -1.0, 30.0] * 2), "warn", 0.5),
        ("steps", honest(loss_by_step=[[1.0, 2.0]] * 13 + [[1.0, 1.0]] * 3), "warn", 13 / 16),
        ("steps", honest(loss_by_step=[[1.0, 2.0]] * 8 + [[1.0, 0.5]] * 8), "fail", 0.5),
        ("steps", honest(loss_by_step=[[1.0, None]] * 16), "pass", 1.0),
        ("noise", with_tried("noise", [1.0] * 16, loss=0.1 + 0.4 * 1.9), "warn", 0.4),
        ("noise", with_tried("noise", [1.0] * 16, loss=0.1 + 0.6 * 1.9), "fail", 0.6),
        ("noise", with_tried("pgd", [1.0] * 16, loss=0.1), "fail", None),
        ("restarts", with_tried("pgd", none_of(ones=1)), "warn", 1 / 16),
        ("restarts", with_tried("pgd", none_of(ones=3)), "warn", 3 / 16),
        ("restarts", with_tried("pgd", none_of(ones=4)), "fail", 4 / 16),
        ("unlimited", with_tried("unlimited", none_of(ones=1)), "warn", 15 / 16),
        ("unlimited", with_tried("unlimited", none_of(ones=2)), "fail", 14 / 16),
        ("saved", with_tried("saved", none_of(ones=1)), "warn", 1 / 16),
        ("saved", with_tried("saved", none_of(ones=4)), "fail", 4 / 16),
    ],
)
def test_thresholds(key, probes, verdict, measured):
    check = checks_of(probes)[key]
    assert check.verdict == verdict, check
    assert check.measured == (None if measured is None else pytest.approx(measured))
    assert (check.title, check.threshold) == (RULES[key].title, RULES[key].threshold)


@pytest.mark.parametrize(("images", "verdict"), [(0, "pass"), (1, "warn"), (2, "fail")])
def test_only_what_all_gradient_attacks_missed_counts_against_them(images, verdict):
    """PGD misses four images, one step finds two of them again; answers alone find the others."""
    probes = honest()
    left = {
        "pgd": none_of(ones=4),
        "restarts": none_of(ones=4),
        "single step": [1.0, 1.0, 0.0, 0.0] + [1.0] * 12,
        "answers alone": [0.0] * images + [1.0] * (2 - images) + [0.0, 0.0] + [1.0] * 12,
    }
    probes = replace(probes, tried={**probes.tried, **{name: tried(values) for name, values in left.items()}})
    check = checks_of(probes)["answers alone"]
    assert (check.verdict, check.measured) == (verdict, images / 16)


def test_two_points_in_a_thousand_are_for_thousands_of_images():
    """The run's own attacks on 1,000 images: 2 that only Square breaks are 0.2 points, 3 are more."""
    attacks = {"pgd": {"attack": "PGD", "steps": 10}, "square": {"attack": "Square", "queries": 100}}
    for count, verdict in ((2, "pass"), (3, "fail")):
        rows = []
        for index in range(1000):
            for attack, broken in (("pgd", index >= 500), ("square", index < count)):
                rows.append(
                    answer_row(index % 5, index % 5, (index + broken) % 5, part="p", index=index, attack=attack)
                )
        check = checks_of(None, frame(rows), attacks=attacks)["answers alone"]
        assert (check.verdict, check.measured) == (verdict, count / 1000)


@pytest.mark.parametrize(
    ("only_second", "only_first", "verdict"),
    [(0, 0, "pass"), (4, 0, "warn"), (5, 0, "fail"), (9, 6, "warn"), (3, 9, "pass")],
)
def test_a_stronger_weak_attack_must_be_told_from_chance(only_second, only_first, verdict):
    """Five of five heads: p = 1/32; four of four: p = 1/16."""
    same = 20 - only_second - only_first
    first = np.array([1.0] * only_second + [0.0] * only_first + [0.0] * same)
    second = np.array([0.0] * only_second + [1.0] * only_first + [0.0] * same)
    pair = Pair(first, second)
    assert (pair.only_second, pair.only_first) == (only_second, only_first)
    assert pair.tested(0.01) == verdict
    if verdict == "fail":
        assert Pair(first, second, tests=2).tested(0.01) == "warn"


def test_a_larger_budget_that_does_less():
    rows = []
    for index in range(20):
        for eps, falls in ((0.1, index < 12), (0.2, index < 4)):
            rows.append(answer_row(index % 5, index % 5, (index + falls) % 5, part="p", index=index, eps=eps))
    check = checks_of(None, frame(rows))["budgets"]
    assert (check.verdict, check.measured) == ("fail", pytest.approx(8 / 20))
    assert "eps 51/255 than at 0.1" in check.sentence


@pytest.mark.parametrize(("kind", "verdict"), [("PGD", "fail"), ("FGSM", "pass")])
def test_one_attack_that_does_less_at_a_larger_budget_is_not_hidden_by_another(kind, verdict):
    """Another breaks 16 of 20 at both budgets, so that the worst case is the same; one step alone may overshoot."""
    attacks = {"weaker": {"attack": kind, "steps": 10}, "steady": {"attack": "PGD", "steps": 10}}
    rows = [
        answer_row(index % 5, index % 5, (index + falls) % 5, part="p", index=index, eps=eps, attack=attack)
        for index in range(20)
        for attack, eps, falls in (
            ("weaker", 0.1, index < 12),
            ("weaker", 0.2, index < 2),
            ("steady", 0.1, index < 16),
            ("steady", 0.2, index < 16),
        )
    ]
    check = checks_of(None, frame(rows), attacks=attacks)["budgets"]
    assert check.verdict == verdict
    if verdict == "fail":
        assert check.measured == pytest.approx(10 / 20)
        assert "under weaker" in check.sentence


@pytest.mark.parametrize(
    ("expected", "verdict"), [(None, "not applicable"), (0.8, "pass"), (0.75, "pass"), (0.3, "fail"), (0.99, "fail")]
)
def test_the_stated_accuracy_is_compared_with_the_interval(expected, verdict):
    """16 of 20 right, each of its own patient: the interval runs from about 0.6 to 0.95."""
    rows = [answer_row(index % 2, (index + (index < 4)) % 2, 0, part="p", index=index) for index in range(20)]
    check = checks_of(None, frame(rows), expected=expected)["stated"]
    assert check.verdict == verdict
    if expected is not None:
        assert check.measured == pytest.approx(0.8)
        assert f"{expected:g} was stated" in check.sentence


@pytest.mark.parametrize(("answers", "verdict"), [("01234" * 4, "pass"), ("0" * 20, "fail"), ("10" + "0" * 18, "warn")])
def test_a_classifier_beats_the_commonest_class(answers, verdict):
    truth = "01234" * 4
    rows = [
        answer_row(int(true), int(answer), int(answer), part="p", index=index)
        for index, (true, answer) in enumerate(zip(truth, answers, strict=True))
    ]
    assert checks_of(None, frame(rows))["constant"].verdict == verdict


def test_zero_gradients_of_the_runs_own_steps_count():
    records = classifier_records("p", attacks=("pgd",)).with_columns(zero_gradients=pl.lit(2, pl.Int64))
    check = checks_of(honest(), records)["gradients"]
    assert (check.verdict, check.measured) == ("fail", pytest.approx(0.2))
    region = [{"norm": "linf", "eps": 0.1, "unit": "[0, 1]", "region": {"classes": [1]}}]
    assert checks_of(honest(), records, threats=region)["gradients"].verdict == "pass"  # images without the region


def test_a_probe_that_is_missing_says_why():
    probes = honest(missing={"unlimited": "out of luck", "forwards": "asleep"}, again=[], company=[], outputs=None)
    del probes.tried["unlimited"]
    checks = checks_of(probes)
    assert (checks["unlimited"].verdict, checks["unlimited"].sentence) == ("not applicable", "Out of luck.")
    assert {checks[key].sentence for key in ("logits", "repeated", "company")} == {"Asleep."}


def test_few_images_tell_nothing():
    checks = checks_of(honest(2))
    for key in ("steps", "noise", "restarts", "unlimited", "saved"):
        assert (checks[key].verdict, checks[key].sentence) == ("not applicable", "Only 2 images were answered right.")


def test_a_run_that_kept_no_clean_loss_says_so():
    kept = {key: value for key, value in asdict(honest()).items() if key != "clean_loss"}
    check = checks_of(TypeAdapter(Probes).validate_python(kept))["noise"]
    assert (check.verdict, check.sentence[:10]) == ("not applicable", "Not probed")


def test_few_numbers_of_an_imaging_family_may_be_hit_by_chance():
    check = checks_of(honest(variables=2))["noise"]
    assert check.verdict == "not applicable"
    assert "only 2 numbers" in check.sentence.lower()


def test_without_probes_the_records_still_tell():
    for run in (two_part_run(), detection_run()):
        summary = summarise(run.records, run.info, resamples=100)
        for name, part in run.info.parts.items():
            checks = {check.key: check for check in trust_checks(run.records, summary, name, part)}
            assert list(checks) == list(RULES)
            assert checks["budgets"].verdict == "pass"
            assert checks["unlimited"].sentence.startswith("No image was probed")


def test_a_part_without_images():
    empty = frame([])
    part = part_info("classification", list("ab"))
    checks = trust_checks(empty, summarise(empty, run_info({"p": part}), resamples=10), "p", part)
    assert {check.sentence for check in checks} == {"No image was evaluated."}


def test_a_rule_in_words_and_at_its_edges():
    rule = Rule("", "", 0.9, 0.75, rising=True)
    assert rule.threshold == "at least 0.9; below 0.75 it fails"
    assert [rule.judge(value) for value in (0.9, 0.89, 0.75, 0.74)] == ["pass", "warn", "warn", "fail"]
    assert [Rule("", "", 0.1, None).judge(value) for value in (0.1, 5.0)] == ["pass", "warn"]


def test_the_line_names_what_did_not_pass():
    checks = [
        Check(key, "", verdict, None, "", "") for key, verdict in zip("abc", ("pass", "warn", "fail"), strict=True)
    ]
    assert trust_line(checks) == "trust: 1 pass, 1 warn (b), 1 fail (c)"
