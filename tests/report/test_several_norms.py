"""A run over several norms: what heads the page, and what counts as evidence, is the worst of them."""

from __future__ import annotations

import re

import pytest
from synthetic_run import SyntheticRun, answer_row, frame, part_info, run_info

from medrobust.report import write_report
from medrobust.report.evidence import evidence
from medrobust.report.sections import sections_of
from medrobust.statistics import Tables, summarise

CONTRAST = "contrast"
# share of 20 images that still hold: after attack "a", after "b" (the worst case is less than either)
HOLD = {("linf", 1): 18, ("linf", 4): 12, ("linf", 8): 2, (CONTRAST, 0.05): 19, (CONTRAST, 0.2): 16}


@pytest.fixture(scope="module")
def run() -> SyntheticRun:
    rows, attacks = [], {"a": {"attack": "PGD"}, "b": {"attack": "SMIA"}}
    for (norm, size), hold in HOLD.items():
        eps = size / 255 if norm == "linf" else size
        for index in range(20):
            for attack, shift in (("a", 0), ("b", 1)):
                falls = (index + shift) % 20 >= hold
                answer = (index + falls) % 5
                rows.append(
                    answer_row(index % 5, index % 5, answer, part="p", index=index, attack=attack, norm=norm, eps=eps)
                )
    return SyntheticRun(frame(rows), run_info({"p": part_info("ordinal", "abcde", evaluated=20, attacks=attacks)}), [])


@pytest.fixture(scope="module")
def section(run):
    summary = summarise(run.records, run.info, resamples=50)
    (only,) = sections_of(run.records, run.info, [], summary, Tables(run.records, run.info))
    return only


def test_the_answer_tells_the_largest_budget_of_each(section):
    first, second = section.answer
    assert re.search(r"0\.05 \[[^]]*\] at L∞ ≤ 8/255", first)
    assert re.search(r"0\.75 \[[^]]*\] at contrast ≤", first)
    assert second.startswith("At L∞ ≤ 8/255 the lowest accuracy")


def test_the_large_numbers_are_those_of_the_worst(run, tmp_path):
    write_report(run.records, run.info, [], tmp_path / "report.html", summary=summarise(run.records, run.info))
    page = (tmp_path / "report.html").read_text()
    assert re.search(r"worst case at L∞ ≤ 8/255</dt><dd>0\.05", page)


def test_evidence_of_any_attack_is_the_worst_case_of_each_norm(section):
    asked = {line.clause: line for framework in evidence([section]) for line in framework.lines}
    figures = [found.figure for found in asked["AML.T0015"].found]
    assert [re.sub(r" \[.*", "", figure) for figure in figures] == [
        "accuracy in the worst case at L∞ ≤ 8/255 0.05",
        next(one for one in figures if "contrast" in one).partition(" [")[0],
    ]
    assert "0.75" in figures[1]
    single = [found.figure for found in asked["AML.T0043.000"].found]
    assert len(single) == 2
    assert re.match(r"accuracy under [ab] at L∞ ≤ 8/255 0\.10 ", single[0])
