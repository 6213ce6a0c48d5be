import dataclasses

import pytest
from synthetic_run import answer_row, classifier_records, frame, part_info, run_info

from medrobust.evaluation.records import Skipped
from medrobust.report import wording
from medrobust.report.table import part_table
from medrobust.statistics import compare_attacks, summarise

PART = part_info("ordinal", "abcde")
INFO = run_info({"p": PART})


def answer(records) -> str:
    table = part_table(summarise(records, INFO, resamples=200), "p")
    attacks = set(records["attack"])
    compared = [compare_attacks(records, INFO, "p", "smia", "pgd")] if {"smia", "pgd"} <= attacks else []
    return " ".join(wording.answer(table, PART, compared))


def test_the_answer_names_clean_worst_case_and_every_budget():
    text = answer(classifier_records("p"))
    assert text.startswith("On clean images the accuracy is 0.80 [")
    assert "in the worst case over 3 attacks it is" in text
    for budget in ("1/255", "2/255", "4/255"):
        assert f"at L∞ ≤ {budget}" in text


def test_one_attack_is_no_worst_case():
    text = answer(classifier_records("p", attacks=("pgd",)))
    assert "worst case" not in text
    assert "under attack it is" in text
    assert "Only one attack was run at" in text


def right(attack, images):
    return [answer_row(0, 0, int(not ok), index=i, attack=attack) for i, ok in enumerate(images)]


@pytest.mark.parametrize(
    ("smia", "pgd", "words"),
    [
        ([0] * 9 + [1], [0] + [1] * 9, "smia is stronger than pgd"),
        ([0] + [1] * 9, [0] * 9 + [1], "pgd is stronger than smia"),
        ([0] * 5 + [1] * 5, [0] * 4 + [1] * 6, "between smia and pgd no difference is shown"),
        ([0], [1], "cannot be told"),
    ],
)
def test_smia_against_pgd_says_no_more_than_is_shown(smia, pgd, words):
    assert words in answer(frame(right("smia", smia) + right("pgd", pgd)))


def test_nothing_is_said_of_smia_where_pgd_did_not_run():
    text = answer(classifier_records("p", attacks=("smia", "fgsm")))
    assert "difference" not in text
    assert "stronger than" not in text


def test_ties_are_told():
    text = answer(frame(right("a", [0, 1]) + right("b", [1, 0])))
    assert "the lowest accuracy of a single attack is the same under a and b (0.50" in text


def test_skipped_samples_are_counted_and_not_named():
    reasons = [
        "/data/Jane Doe.png: truncated file",
        "Doe.png is missing: check",
        "Doe: ???",
        "Roe.png: truncated",
    ]
    part = dataclasses.replace(PART, skipped=[Skipped(k, reason) for k, reason in enumerate(reasons)])
    sentence = wording.skipped_sentence(part)
    assert sentence == "4 samples left out (file cannot be read: 2; file or entry missing: 1; other reason: 1)."


def test_limits_name_what_was_not_tested():
    table = part_table(summarise(classifier_records("p"), INFO, resamples=50), "p")
    text = " ".join(wording.limits(table, PART))
    assert "No black-box attack" in text
    assert "Not tested: L2, L1," in text
    assert "With 20 patients the intervals are rough" in text
    square = dataclasses.replace(PART, attacks={"s": {"attack": "Square", "targeted": True}})
    text = " ".join(wording.limits(table, square))
    assert "black-box" not in text
    assert "untargeted" not in text


def test_options_in_words():
    assert wording.options_text({"attack": "PGD", "steps": 10, "targeted": False, "step_size": None}) == (
        "steps 10, targeted no"
    )
