"""`medrobust report` in its formats, and what `medrobust view` refuses."""

import json

import pytest
from synthetic_run import detection_run

import medrobust as mr


@pytest.fixture
def saved(tmp_path):
    run = detection_run()
    mr.Run(run.records, run.info, run.gallery).save(tmp_path / "run")
    return tmp_path / "run"


def test_several_formats_at_once(medrobust, saved):
    (saved / "report.html").unlink()
    code, out, err = medrobust("report", saved, "--format", "html,json", "--format", "model-card")
    assert code == 0
    assert "worst case" in out
    assert [line.partition(":")[0] for line in err.splitlines()] == ["report", "json", "model-card"]
    assert (saved / "report.html").read_text().startswith("<!doctype html>")
    assert json.loads((saved / "report.json").read_text())["parts"][0]["name"] == "organs"
    assert (saved / "model-card.md").exists()
    assert not (saved / "summary.csv").exists()
    mr.load_run(saved)  # what lies beside it does not harm the run


def test_into_another_folder(medrobust, saved, tmp_path):
    code, _, err = medrobust("report", saved, "--format", "markdown", "--out", tmp_path / "new" / "place")
    assert code == 0
    assert (tmp_path / "new" / "place" / "markdown" / "report.md").exists()
    assert "markdown: " in err
    assert not (saved / "markdown").exists()


def test_a_format_that_there_is_not_is_told_before_anything_is_read(medrobust, tmp_path):
    code, _, err = medrobust("report", tmp_path / "nothing", "--format", "html,docx")
    assert code == 2
    assert err.strip() == ("error: no report format 'docx'; there are html, markdown, latex, json, csv, model-card")


def test_a_place_that_cannot_be_written(medrobust, saved, tmp_path):
    (tmp_path / "file").write_text("")
    code, _, err = medrobust("report", saved, "--out", tmp_path / "file" / "x")
    assert code == 2
    assert "cannot be made" in err


def test_view_of_what_is_no_run(medrobust, tmp_path):
    code, _, err = medrobust("view", tmp_path)
    assert code == 2
    assert "is no run" in err
