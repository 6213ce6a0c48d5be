"""What report and terminal tell of groups, classes, costs, confidence and numbers of images."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import jsonschema
import polars as pl
import pytest
from synthetic_run import (
    SyntheticRun,
    answer_row,
    classifier_records,
    detection_run,
    frame,
    label_records,
    part_info,
    run_info,
    segmenter_records,
    two_part_run,
)

from medrobust.harm import referable
from medrobust.report import write_report
from medrobust.report.confusion import label_flows, turned
from medrobust.report.sample_size import size_sentences
from medrobust.report.subgroups import group_tables
from medrobust.report.told import Told
from medrobust.run import Run
from medrobust.statistics import Tables, confusion, sample_size, subgroups, summarise

HOSTILE = "<script>alert(1)</script>"
GRADES = ["no DR", "mild", HOSTILE, "severe", "proliferative"]


def grouped(records: pl.DataFrame, of) -> pl.DataFrame:
    groups = [[{"column": "site", "group": of(index)}] for index in records["index"]]
    return records.with_columns(groups=pl.Series(groups, dtype=records.schema["groups"]))


def whole() -> SyntheticRun:
    known = part_info("ordinal", GRADES)
    parts = {
        "grades": replace(known, victim={**known.victim, "task_options": {"costs": referable(5)}}),
        "findings": part_info("multilabel", "abcd"),
        "tissue": part_info("segmentation", ["background", "grey", "white", "fluid"]),
    }
    grades = grouped(classifier_records(), lambda index: {0: "Dr. Rare"}.get(index % 20, HOSTILE if index % 2 else "B"))
    return SyntheticRun(pl.concat([grades, label_records(), segmenter_records()]), run_info(parts), [])


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> str:
    run, path = whole(), tmp_path_factory.mktemp("page") / "report.html"
    write_report(run.records, run.info, [], path, summary=summarise(run.records, run.info, resamples=50))
    return path.read_text()


def test_every_section_is_there_and_inert(page):
    for heading in (
        "Groups of patients",
        "Which class turns into which",
        "Which label turns",
        "Clinical harm",
        "Confidence",
    ):
        assert f"<h3>{heading}</h3>" in page
    assert HOSTILE not in page
    assert "Dr. Rare" not in page
    assert "Left out by site: 1 group of fewer than 6 patients (3 images, 1 patient), too few for a figure." in page
    assert "the records hold no probability of each pixel" in page
    assert page.count("<h3>Clinical harm</h3>") == 1


def test_evidence_of_groups_and_confidence_leads_to_their_tables(page):
    run = whole()
    told = Told(
        run.records, run.info, [], summarise(run.records, run.info, resamples=50), Tables(run.records, run.info)
    )
    lines = {line.asks: line.found for framework in told.evidence for line in framework.lines}
    (groups,) = lines["Performance in subgroups of patients, sites and devices"]
    assert (groups.part, groups.anchor) == ("grades", "part-1-group-1")
    assert groups.figure == "2 groups by site"
    confidence = lines["How far the confidence of outputs can be relied on"]
    assert [found.part for found in confidence] == ["grades", "findings"]
    for found in (groups, *confidence):
        assert f'id="{found.anchor}"' in page


@pytest.mark.slow
def test_the_json_and_the_markdown_hold_the_tables(tmp_path):
    run = whole()
    made = {"summary": summarise(run.records, run.info, resamples=50), "tables": Tables(run.records, run.info)}
    write_report(run.records, run.info, [], tmp_path / "report.json", **made)
    text = (tmp_path / "report.json").read_text()
    assert "Dr. Rare" not in text
    jsonschema.validate(
        json.loads(text), json.loads((Path(__file__).parents[2] / "docs/report.schema.json").read_text())
    )
    grades, findings, tissue = (part["tables"] for part in json.loads(text)["parts"])
    assert len(grades["subgroups"]) == len(subgroups(run.records, run.info))
    assert sum(row["count"] for row in grades["confusion"] if row["attack"] == "clean") == 60
    assert {row["metric"] for row in findings["calibration"]} >= {"ECE"}
    assert grades["harm"]
    assert tissue["harm"] == tissue["confusion"] == []
    write_report(run.records, run.info, [], tmp_path / "report.md", **made)
    text = (tmp_path / "report.md").read_text()
    assert "### Groups of patients" in text
    assert "Dr. Rare" not in text
    assert HOSTILE not in text


def test_the_terminal_tells_the_same_in_short():
    run = whole()
    table = repr(Run(run.records, run.info).table())
    assert "site" in table
    assert "B" in table
    assert "Dr. Rare" not in table
    assert "An answer costs" in table
    assert "± 2 would take about" in table


def told(rows, classes=("no", "yes")) -> list[str]:
    part = part_info("classification", classes)
    (table,) = group_tables(subgroups(rows, run_info({"p": part}), resamples=300), part)
    return table.sentences


def sites(second: int) -> pl.DataFrame:
    """Site 0 falls in 1 of 10 images, site 1 in `second` of 10."""
    rows = [
        answer_row(1, 1, int((index // 2) % 10 >= (second if index % 2 else 1)), index=index, patient=f"p{index}")
        for index in range(80)
    ]
    return grouped(frame(rows), lambda index: f"s{index % 2}")


def test_a_gap_is_called_shown_only_where_it_is():
    assert told(sites(8)) == [
        "By site, accuracy in the worst case differs: best less worst group 0.70 "
        f"{told_interval(sites(8))}, p < 0.001 at L∞ ≤ 1/255."
    ]
    assert told(sites(2)) == ["By site, no difference of accuracy in the worst case is shown."]


def told_interval(rows: pl.DataFrame) -> str:
    table = subgroups(rows, run_info({"p": part_info("classification", ["no", "yes"])}), resamples=300)
    gap = table.filter(
        (pl.col("kind") == "gap") & (pl.col("attack") == "worst case") & (pl.col("metric") == "accuracy")
    )
    return f"[{gap['low'][0]:.2f}, {gap['high'][0]:.2f}]"


def test_flows_in_words():
    rows = [answer_row(0, 0, after, index=index) for index, after in enumerate([0, 1, 1, 2])]
    rows += [answer_row(1, 1, 1, index=4)]
    part = part_info("classification", ["a", "b", "c"])
    (found,) = turned(confusion(frame(rows), run_info({"p": part})), part)
    assert found.sentence == "3 of 5 answers turn, most often a → b 2 of 4 and a → c 1 of 4."
    assert found.counts[0] == ["1 (25%)", "2 (50%)", "1 (25%)"]
    assert found.counts[2] == ["0", "0", "0"]
    assert found.svg is not None
    still = frame([answer_row(0, 0, 0)])
    (found,) = turned(confusion(still, run_info({"p": part})), part)
    assert found.sentence == "None of 1 answer turns into another."


def test_many_classes_have_words_but_no_figure():
    part = part_info("classification", [f"class {k}" for k in range(20)])
    rows = frame([answer_row(0, 0, 7)])
    (found,) = turned(confusion(rows, run_info({"p": part})), part)
    assert found.svg is None
    assert found.sentence == "1 of 1 answer turns, most often class 0 → class 7 1 of 1."


def test_labels_by_hand():
    records = label_records()
    part = part_info("multilabel", "abcd")
    flows = label_flows(confusion(records, run_info({"findings": part})), part)
    assert len(flows) == 3 * 4
    assert {flow.label for flow in flows} == set("abcd")
    assert all(" of " in flow.lost and " of " in flow.found for flow in flows)


def test_advice_only_where_the_figure_is_not_sure_enough():
    part = part_info("ordinal", "abcde")
    info = run_info({"grades": part})
    records = classifier_records()
    first, second = size_sentences(sample_size(records, info), "grades", part)
    assert "points; ± 2 would take about" in first
    assert "patients" in first
    assert "design effect of images of one patient" in first
    assert second.startswith("Its drop, paired image by image, would take about")
    assert size_sentences(sample_size(records, info, half_width=0.3), "grades", part) == []
    (alone, _) = size_sentences(sample_size(classifier_records(patients=None), info), "grades", part)
    assert "patient" not in alone


@pytest.mark.parametrize("make", [whole, pytest.param(two_part_run, marks=pytest.mark.slow), detection_run])
def test_the_markdown_report_tells_all_that_the_page_tells_but_its_images(make, tmp_path):
    run = make()
    summary = summarise(run.records, run.info, resamples=50)
    for name in ("report.html", "report.md"):
        write_report(run.records, run.info, run.gallery, tmp_path / name, summary=summary)
    on_page = set(re.findall(r"<h3[^>]*>([^<]*)</h3>", (tmp_path / "report.html").read_text())) - {""}
    in_text = set(re.findall(r"^### (.*)$", (tmp_path / "report.md").read_text(), re.MULTILINE))
    assert len(on_page) > 10
    assert on_page - in_text <= {"Images", "More curves"}
