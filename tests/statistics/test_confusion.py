"""Which class turns into which, against sklearn."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import confusion_matrix, recall_score
from synthetic_run import classifier_records, label_records, part_info, run_info, segmenter_records

from medrobust.statistics import summarise
from medrobust.statistics.conditions import worst_rows
from medrobust.statistics.confusion import CONFUSION_SCHEMA, confusion

GRADES = ["no DR", "mild", "moderate", "severe", "proliferative"]


def grades_info():
    return run_info({"grades": part_info("ordinal", GRADES)})


def matrix(table: pl.DataFrame, attack: str, counted_by: str, eps: float = 0.0, label: str | None = None) -> np.ndarray:
    chosen = table.filter(
        (pl.col("attack") == attack) & (pl.col("counted_by") == counted_by) & (pl.col("eps") == eps)
    )  # fmt: skip
    if label is not None:
        chosen = chosen.filter(pl.col("label") == label)
    size = chosen["from_class"].n_unique()
    assert chosen["from_class"].to_list()[::size] == chosen["to_class"].to_list()[:size]
    return chosen["count"].to_numpy().reshape(size, size)


def column(rows: pl.DataFrame, name: str) -> np.ndarray:
    return rows[name].list.first().to_numpy()


@pytest.mark.parametrize("attack", ["clean", "smia", "worst case"])
def test_classes_against_sklearn(attack):
    records, eps = classifier_records(), 2 / 255
    table = confusion(records, grades_info())
    assert table.schema == CONFUSION_SCHEMA
    at = records.filter(pl.col("eps") == eps)
    rows = worst_rows(at, "ordinal") if attack == "worst case" else at.filter(pl.col("attack") == "smia").sort("index")
    answer = column(rows, "prediction_before" if attack == "clean" else "prediction_after")
    found = matrix(table, attack, "truth", 0.0 if attack == "clean" else eps)
    assert (found == confusion_matrix(column(rows, "truth"), answer, labels=range(5))).all()
    if attack != "clean":
        turned = matrix(table, attack, "clean answer", eps)
        assert (turned == confusion_matrix(column(rows, "prediction_before"), answer, labels=range(5))).all()
    summary = summarise(records, grades_info(), resamples=20)
    at_eps = 0.0 if attack == "clean" else eps
    recalls = summary.filter(
        pl.col("metric").str.starts_with("recall") & (pl.col("attack") == attack) & (pl.col("eps") == at_eps)
    )
    assert recalls["metric"].to_list() == [f"recall: {name}" for name in GRADES]
    theirs = recall_score(column(rows, "truth"), answer, labels=range(5), average=None)
    assert recalls["value"].to_list() == pytest.approx(theirs.tolist())
    assert (table["share"].drop_nulls() <= 1).all()


def test_labels_against_sklearn():
    records = label_records()
    names = ["a", "b", "c", "d"]
    info = run_info({"findings": part_info("multilabel", names)})
    rows = records.filter((pl.col("attack") == "pgd") & (pl.col("eps") == 4 / 255)).sort("index")
    truth, answer = (np.array(rows[name].to_list()) for name in ("truth", "prediction_after"))
    table = confusion(records, info)
    summary = summarise(records, info, resamples=20).filter((pl.col("attack") == "pgd") & (pl.col("eps") == 4 / 255))
    for place, name in enumerate(names):
        known = truth[:, place] >= 0
        theirs = confusion_matrix(truth[known, place], answer[known, place], labels=[0, 1])
        assert (matrix(table, "pgd", "truth", 4 / 255, name) == theirs).all()
        recall = summary.filter(pl.col("metric") == f"recall: {name}").row(0, named=True)
        assert recall["value"] == pytest.approx(theirs[1, 1] / theirs[1].sum())
        assert recall["n"] == theirs[1].sum()


def test_a_class_without_an_image_has_no_share():
    records = classifier_records().filter(pl.col("truth").list.first() < 4)
    table = confusion(records, grades_info())
    assert table.filter(pl.col("from_class") == "proliferative", counted_by="truth")["share"].null_count() > 0
    assert table.filter(pl.col("from_class") == "proliferative", counted_by="truth")["count"].sum() == 0
    recall = summarise(records, grades_info(), resamples=20).filter(pl.col("metric") == "recall: proliferative")
    assert recall["value"].null_count() == recall.height


def test_masks_have_no_confusion():
    assert confusion(segmenter_records(), run_info({"tissue": part_info("segmentation", "abcd")})).is_empty()
