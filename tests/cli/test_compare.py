import polars as pl
import pytest
from synthetic_run import classifier_records, part_info, run_info, segmenter_records

import medrobust as mr
from medrobust.statistics.run_comparison import RUNS_SCHEMA

HOSTILE = "<script>alert(1)</script>|`x`"


def saved(folder, records, **parts):
    run = mr.Run(records, run_info(parts))
    run.save(folder)
    return run


@pytest.fixture
def two_runs(tmp_path):
    records, part = classifier_records(), part_info("ordinal", "abcde")
    hardened = records.with_columns(
        right_after=pl.col("right_before"), prediction_after="prediction_before", scores_after="scores_before"
    )
    saved(tmp_path / "before", records, grades=part)
    saved(tmp_path / "after", hardened, grades=part)
    return tmp_path / "before", tmp_path / "after"


def test_before_and_after(medrobust, two_runs, tmp_path):
    code, shown, said = medrobust("compare", *two_runs, "--out", "compared", "--resamples", "300")
    assert code == 0
    assert "after is better" in shown
    assert "On clean images: 0.80 in before, 0.80 in after; no difference shown" in " ".join(shown.split())
    assert "compare.csv" in said
    table = pl.read_csv(tmp_path / "compared" / "compare.csv")
    assert table.columns == list(RUNS_SCHEMA)
    page = (tmp_path / "compared" / "compare.md").read_text()
    assert page.startswith("# before and after compared")
    assert "secret" not in page + shown + str(table.rows())


def test_a_folder_that_is_taken_is_told_before_any_work(medrobust, two_runs):
    code, _, said = medrobust("compare", *two_runs, "--out", two_runs[0])
    assert (code, said.count("\n")) == (2, 1)
    assert "holds another run" in said


def test_runs_that_do_not_agree(medrobust, two_runs, tmp_path):
    saved(tmp_path / "masks", segmenter_records("grades"), grades=part_info("segmentation", "abcd", evaluated=40))
    code, shown, said = medrobust("compare", two_runs[0], tmp_path / "masks")
    assert (code, shown, said.count("\n")) == (2, "", 1)
    assert "grades: the runs cannot be compared, their task differ: ordinal and segmentation" in said


def test_no_run(medrobust, tmp_path):
    code, _, said = medrobust("compare", tmp_path, tmp_path)
    assert code == 2
    assert "is no run" in said


def test_in_python(two_runs, tmp_path):
    first, second = map(mr.load_run, two_runs)
    compared = mr.compare(first, second, names=("plain", HOSTILE), resamples=200)
    assert "plain" in repr(compared)
    assert "<script>" not in compared.markdown()
    assert mr.compare(*two_runs, resamples=200).names == ("before", "after")
    with pytest.raises(mr.InputError, match="confidence"):
        mr.compare(first, second, confidence=2)
    compared.save(tmp_path / "kept")
    with pytest.raises(mr.InputError, match="not an empty folder"):
        compared.save(tmp_path / "kept")


def test_runs_of_one_folder_name_are_told_apart(two_runs, tmp_path):
    other = tmp_path / "elsewhere" / "before"
    mr.load_run(two_runs[0]).save(other)
    assert mr.compare(two_runs[0], other, resamples=50).names == ("before (A)", "before (B)")
