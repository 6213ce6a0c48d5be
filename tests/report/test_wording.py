import dataclasses

import pytest
from synthetic_run import answer_row, classifier_records, frame, part_info, run_info

from medrobust.evaluation.records import Skipped
from medrobust.report import attack_wording, threat_wording, verdicts, wording
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
        ([0] * 12, [1] * 12, "smia is stronger than pgd (accuracy under smia minus under pgd −1.000 [–], p < 0.001,"),
        ([0] * 6, [1] * 6, "p = 0.0312, paired, taking the images as independent)"),
        ([0] * 5, [1] * 5, "too few images to tell whether smia or pgd is the stronger"),
        ([0], [1], "too few images to tell"),
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
    text = " ".join(threat_wording.limits(table, PART))
    assert "No black-box attack" in text
    assert "Not tested: L2, L1," in text
    assert "With 20 patients the intervals are rough" in text
    square = dataclasses.replace(PART, attacks={"s": {"attack": "Square", "targeted": True}})
    text = " ".join(threat_wording.limits(table, square))
    assert "black-box" not in text
    assert "untargeted" not in text


def test_options_in_words():
    assert attack_wording.options_text({"attack": "PGD", "steps": 10, "targeted": False, "step_size": None}) == (
        "steps 10, targeted no"
    )


def compared(**changes) -> dict[str, object]:
    row = {"first": "smia", "second": "pgd", "metric": "accuracy", "difference": -0.3, "low": -0.5, "high": -0.1}
    return row | {"p_value": 0.01, "clusters": 20, "resampled": "patients"} | changes


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "smia is stronger"),
        ({"difference": 0.3, "low": 0.1, "high": 0.5}, "pgd is stronger"),
        ({"p_value": 0.05}, "no difference shown"),
        ({"high": 0.0}, "no difference shown"),
        ({"low": None, "high": None}, "smia is stronger"),  # all differences alike
        ({"low": None, "high": None, "p_value": 1.0}, "no difference shown"),
        ({"clusters": 5}, "too few patients to tell"),
        ({"clusters": 5, "resampled": "images of one patient"}, "too few images to tell"),
        ({"clusters": 6}, "smia is stronger"),
        ({"difference": None, "low": None, "high": None, "clusters": 0}, "too few patients to tell"),
    ],
)
def test_both_test_and_interval_must_say_so(changes, words):
    row = compared(**changes)
    assert verdicts.short_verdict(row) == words
    assert verdicts.verdict(row)


def test_what_is_taken_for_independent_is_said():
    assert verdicts.verdict(compared()).endswith("−0.300 [−0.500, −0.100], p = 0.01, paired)")
    for images in ("images", "images of one patient"):
        assert verdicts.verdict(compared(resampled=images)).endswith("paired, taking the images as independent)")
    table = part_table(summarise(classifier_records("p", patients=None), INFO, resamples=50), "p")
    assert "taking the images as independent" in verdicts.comparison_caption(table, PART)
    table = part_table(summarise(classifier_records("p"), INFO, resamples=50), "p")
    assert "sign-flip test over patients, not corrected" in verdicts.comparison_caption(table, PART)


def test_a_missing_interval_is_explained_where_there_is_one():
    table = part_table(summarise(classifier_records("p", patients=None), INFO, resamples=50), "p")
    assert wording.no_interval_sentence(table, PART) is None
    table = part_table(summarise(frame(right("pgd", [0])), INFO), "p")
    assert "does not vary in the sample" in wording.no_interval_sentence(table, PART)
    assert str(table.clean["accuracy"]) == "1.00 [–]"


def test_the_victims_bounds_are_the_attackers():
    table = part_table(summarise(classifier_records("p"), INFO, resamples=50), "p")
    for victim, words in (
        ({"bounds": [-1.0, 1.0]}, "stays within -1 to 1."),
        ({}, "stays within 0 to 1."),
        ({"bounds": ["a", 1]}, "stays within 0 to 1."),
    ):
        assert words in " ".join(threat_wording.threat_model(table, dataclasses.replace(PART, victim=victim)))


@pytest.mark.parametrize(
    ("victim", "words"),
    [
        ({}, None),
        ({"mean": None, "std": None}, "none: the model sees the images in data units"),
        ({"mean": [0.485, 0.456], "std": [0.229, 0.224]}, "(image − mean) / std: mean 0.485, 0.456; std 0.229, 0.224"),
        ({"mean": 0.5, "std": None}, "image − mean: mean 0.5"),
        ({"mean": None, "std": [0.25]}, "image / std: std 0.25"),
    ],
)
def test_preprocessing(victim, words):
    assert threat_wording.preprocessing(dataclasses.replace(PART, victim=victim)) == words


@pytest.mark.parametrize(
    ("row", "text"),
    [
        ({"difference": -0.013, "low": -0.024, "high": -0.0004}, "−0.0130 [−0.0240, −0.0004]"),
        ({"difference": -0.013, "low": -0.024, "high": 0.0}, "−0.013 [−0.024, 0.000]"),
        ({"difference": -0.013, "low": -0.024, "high": -1e-12}, "−0.013000 [−0.024000, 0.000000]"),
        ({"difference": 0.2, "low": None, "high": None}, "0.200 [–]"),
    ],
)
def test_an_end_beside_zero_does_not_look_like_zero(row, text):
    assert verdicts.difference_text(row) == text
