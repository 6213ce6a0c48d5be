"""Queries, smallest changes and the members of ensembles, counted by hand, and told on the page."""

import dataclasses
import math

import pytest
from synthetic_run import answer_row, classifier_records, frame, part_info, run_info

from medrobust.report import attack_wording, threat_wording, write_report
from medrobust.report.effort import members, spent
from medrobust.report.table import part_table
from medrobust.statistics import summarise

ENSEMBLE = {
    "attack": "AutoAttack",
    "members": {"ce": {"part": "APGD", "steps": 100}, "square": {"part": "Square", "steps": 5000}},
}
ATTACKS = {
    "pgd": {"attack": "PGD"},
    "auto": ENSEMBLE,
    "square": {"attack": "Square"},
    "cw": {"attack": "CarliniWagner"},
}
PART = dataclasses.replace(part_info("ordinal", "abc"), attacks=ATTACKS)


def broken(index, fooled, by, right=True, **values):
    before = 0 if right else 1
    return answer_row(0, before, 1 if fooled else 0, index=index, attack="auto", found_by=by, queries=0, **values)


ROWS = [
    broken(0, True, "square"),
    broken(1, True, "ce"),
    broken(2, True, "square"),
    broken(3, False, "ce"),
    broken(4, True, "clean", right=False),
    *(answer_row(0, 0, 1, index=k, attack="square", queries=count) for k, count in enumerate((10, 4000, 30, 20))),
    *(answer_row(0, 0, 1, index=k, attack="pgd", queries=0) for k in range(4)),
    *(
        answer_row(0, 0 if k else 1, 1, index=k, attack="cw", queries=0, smallest_eps=size / 255)
        for k, size in enumerate((0.0, 1.0, 2.0, 3.0, math.inf))
    ),
]


def test_members_by_what_they_broke_of_the_images_right_before():
    (line,) = members(frame(ROWS), PART)
    assert (line.budget, line.attack) == ("L∞ ≤ 1/255", "auto")
    assert line.broken == "3 of 4 images"
    assert line.by == [("square", "2"), ("ce", "1")]


def test_an_ensemble_that_broke_nothing():
    (line,) = members(frame([broken(k, False, "ce") for k in range(2)]), PART)
    assert (line.broken, line.by) == ("0 of 2 images", [])


def test_queries_and_smallest_changes():
    square, cw = spent(frame(ROWS), PART)
    assert (square.attack, square.queries, square.smallest) == ("square", "25, at most 4,000", "")
    # the image that was wrong before is left out; of 1, 2, 3 and none found, sizes that occur
    assert (cw.attack, cw.queries, cw.smallest) == ("cw", "", "2/255 [1/255, 3/255]")


def test_a_median_that_was_not_found():
    rows = [answer_row(0, 0, 0, index=k, attack="cw", smallest_eps=size) for k, size in enumerate((0.1, math.inf))]
    rows += [answer_row(0, 0, 0, index=2, attack="cw", smallest_eps=math.inf)]
    (line,) = spent(frame(rows), PART)
    assert line.smallest == "none found [25.5/255, none found]"


def test_sizes_in_the_unit_of_the_budget():
    part = dataclasses.replace(PART, threats=[{"norm": "deformation", "eps": 2.0, "unit": "pixels"}])
    rows = [answer_row(0, 0, 0, index=0, attack="cw", norm="deformation", eps=2.0, smallest_eps=1.25)]
    (line,) = spent(frame(rows), part)
    assert (line.budget, line.smallest) == ("deformation ≤ 2 pixels", "1.25 pixels [1.25 pixels, 1.25 pixels]")


def test_nothing_to_tell():
    records = classifier_records("p")
    assert (spent(records, PART), members(records, PART)) == ([], [])


def test_on_the_page_where_there_is_something(tmp_path):
    rows = [{**row, "loss_before": 0.1} for row in ROWS]
    write_report(frame(rows), run_info({"p": PART}), [], tmp_path / "r.html")
    page = " ".join((tmp_path / "r.html").read_text().split())
    for words in ("<h3>Ensembles</h3>", "3 of 4 images", "<bdi>square</bdi> 2, <bdi>ce</bdi> 1", "25, at most 4,000",
                  "<h3>Queries and smallest changes</h3>", "2/255 [1/255, 3/255]"):  # fmt: skip
        assert words in page, words
    write_report(classifier_records("p"), run_info({"p": PART}), [], tmp_path / "bare.html")
    for words in ("<h3>Ensembles</h3>", "<h3>Queries and smallest changes</h3>"):
        assert words not in (tmp_path / "bare.html").read_text()


def test_a_hostile_member_is_inert(tmp_path):
    rows = [broken(0, True, "<script>alert(1)</script>\u202e")]
    write_report(frame(rows), run_info({"p": PART}), [], tmp_path / "r.html")
    page = (tmp_path / "r.html").read_text()
    assert page.count("<script") == 1
    assert "alert" not in page.split("<script>")[1]
    assert "\u202e" not in page


def limits(attacks) -> str:
    part = dataclasses.replace(PART, attacks=attacks)
    return " ".join(
        threat_wording.limits(part_table(summarise(classifier_records("p"), run_info({"p": part})), "p"), part)
    )


def test_what_limits_say_depends_on_what_ran():
    plain = limits({"pgd": {"attack": "PGD"}})
    assert "No black-box attack" in plain
    assert "ensemble" not in plain
    assert "transfer from other models" in plain
    square = limits({"pgd": {"attack": "PGD"}, "sq": {"attack": "Square"}})
    assert "No black-box attack" not in square
    assert "Attacks without gradients were run as well (square)" in square
    auto = limits({"auto": ENSEMBLE})
    assert "Attacks without gradients were run as well (square)" in auto
    assert "auto (of 2 attacks) is an ensemble: the figure is the worst of the members for every image." in auto
    through = {"attack": "Square via small", "surrogate": "small"}
    transferred = limits({"pgd": {"attack": "PGD"}, "square via small": through})
    assert "No black-box attack" in transferred, "a query attack on a surrogate asks this model nothing"
    assert "transfer from other models" not in transferred


def test_who_sees_the_model():
    table = part_table(summarise(classifier_records("p"), run_info({"p": PART})), "p")

    def first(**attacks) -> str:
        return threat_wording.threat_model(table, dataclasses.replace(PART, attacks=attacks))[0]

    assert first(a={"attack": "PGD"}, b={"attack": "Square"}).startswith(
        "The attacker knows the model, its weights and"
    )
    blind = first(a={"attack": "HopSkipJump"}, b={"attack": "PGD via x", "surrogate": "x"})
    assert blind.startswith("The attacker knows the model’s answers, not the model, and the true answer")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"attack": "PGD", "loss": {"part": "DLR"}, "inputs": [], "momentum": 0.0}, "loss DLR, momentum 0.0"),
        (
            {"inputs": [{"part": "Diversity", "rate": 1.1, "on": True}, {"part": "Scales", "copies": 3}], "step": None},
            "inputs Diversity (rate 1.1, on yes) + Scales (copies 3)",
        ),
        (
            {"members": {"ce": {"part": "APGD", "steps": 9}, "sq": {"part": "Square"}}},
            "members (ce APGD (steps 9), sq Square)",
        ),
    ],
)
def test_parts_in_words(options, words):
    assert attack_wording.options_text(options) == words
