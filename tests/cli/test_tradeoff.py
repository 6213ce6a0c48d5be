"""`medrobust tradeoff`: several models side by side, as table, page and figure."""

from __future__ import annotations

from dataclasses import replace

import polars as pl
import pytest
from defusedxml.ElementTree import fromstring
from synthetic_run import classifier_records, part_info, run_info

import medrobust as mr

HOSTILE = "<script>alert(1)</script>|`x`"


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    records, part = (
        classifier_records(attacks=("pgd",)),
        part_info("ordinal", "abcde", attacks={"pgd": {"attack": "PGD"}}),
    )
    hard = records.with_columns(
        right_after="right_before", prediction_after="prediction_before", scores_after="scores_before"
    )
    for name, one in (("before", records), ("after", hard)):
        mr.Run(one, run_info({"grades": part})).save(folder / name)
    return folder / "before", folder / "after"


def test_a_table_a_page_and_a_figure(medrobust, runs, tmp_path):
    code, shown, said = medrobust("tradeoff", runs[0], f"{HOSTILE}={runs[1]}", "--out", "costs")
    assert code == 0, said
    table = pl.read_csv(tmp_path / "costs" / "tradeoff.csv")
    assert table["model"].unique(maintain_order=True).to_list() == ["before", HOSTILE]
    hard = table.filter(pl.col("model") == HOSTILE)
    assert hard["attacked"].to_list() == hard["clean"].to_list()
    assert "0.80 [" in shown
    page = (tmp_path / "costs" / "tradeoff.md").read_text()
    assert "<script>" not in page
    assert "secret" not in page + shown
    picture = (tmp_path / "costs" / "tradeoff.svg").read_text()
    assert "<script>" not in picture
    fromstring(picture)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("{0}", "x/before"), "two runs are called 'before'"),
        (("{0}", "nowhere"), "nowhere"),
        (("{0}", "--out", "{0}"), "before holds another run"),
    ],
)
def test_what_is_wrong_is_told_in_a_line(medrobust, runs, arguments, told):
    code, _, said = medrobust("tradeoff", *(one.format(runs[0]) for one in arguments))
    assert (code, said.count("\n")) == (2, 1)
    assert told in said


def test_each_norm_has_its_figure(runs):
    run = mr.load_run(runs[0])
    part = run.info.parts["grades"]
    threats = [*part.threats, *({**threat, "norm": "l2"} for threat in part.threats)]
    records = pl.concat([run.records, run.records.with_columns(norm=pl.lit("l2"))])
    found = mr.tradeoff({"one": mr.Run(records, replace(run.info, parts={"grades": replace(part, threats=threats)}))})
    assert sorted(found.figures()) == ["tradeoff-1.svg", "tradeoff-2.svg"]
