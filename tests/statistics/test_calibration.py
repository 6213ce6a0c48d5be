"""Calibration against torchmetrics, by hand, and by simulation."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
import torch
from scipy.stats import binomtest
from synthetic_run import (
    answer_row,
    classifier_records,
    detection_run,
    frame,
    label_records,
    part_info,
    run_info,
    segmenter_records,
)
from torchmetrics.functional.classification import binary_calibration_error, multiclass_calibration_error

from medrobust.statistics.calibration import CALIBRATION_SCHEMA, RELIABILITY_SCHEMA, calibration, reliability
from medrobust.statistics.conditions import worst_rows

INFO = run_info({"grades": part_info("ordinal", "abcde")})
LABELS = run_info({"findings": part_info("multilabel", "abcd")})
TWO = run_info({"p": part_info("classification", ["no", "yes"])})


def value(table: pl.DataFrame, metric: str, attack: str = "clean", eps: float = 0.0, label: str | None = None) -> float:
    of_label = pl.col("label").is_null() if label is None else pl.col("label") == label
    at = (pl.col("attack") == attack) & (pl.col("eps") == eps) & (pl.col("metric") == metric)
    (found,) = table.filter(at & of_label)["value"]
    return found


@pytest.mark.parametrize("attack", ["clean", "pgd", "worst case"])
def test_classes_against_torchmetrics(attack):
    records, eps = classifier_records(), 0.0 if attack == "clean" else 2 / 255
    table = calibration(records, INFO, resamples=50)
    assert table.schema == CALIBRATION_SCHEMA
    at = records.filter(pl.col("eps") == 2 / 255)
    rows = worst_rows(at, "ordinal") if attack == "worst case" else at.filter(pl.col("attack") == "pgd")
    when = "before" if attack == "clean" else "after"
    scores = torch.tensor(rows[f"scores_{when}"].to_list())
    truth = torch.tensor(rows["truth"].list.first().to_list())
    theirs = multiclass_calibration_error(scores, truth, 5, n_bins=15, norm="l1")
    assert value(table, "ECE", attack, eps) == pytest.approx(float(theirs), abs=1e-6)
    wrong = scores.argmax(1) != truth
    given = scores.amax(1)
    if wrong.any():
        assert value(table, "confidence of wrong answers", attack, eps) == pytest.approx(float(given[wrong].mean()))
        assert value(table, "sure of wrong answers", attack, eps) == pytest.approx(
            float((given[wrong] >= 0.9).double().mean())
        )
    over = float(given.mean() - (~wrong).double().mean())
    assert value(table, "overconfidence", attack, eps) == pytest.approx(over)


def test_labels_against_torchmetrics():
    records = label_records()
    table = calibration(records, LABELS, resamples=20)
    rows = records.filter((pl.col("attack") == "smia") & (pl.col("eps") == 4 / 255)).sort("index")
    truth, scores = (torch.tensor(rows[name].to_list()) for name in ("truth", "scores_after"))
    known = truth >= 0

    def theirs(known: torch.Tensor) -> float:
        p = scores[known]
        return float(multiclass_calibration_error(torch.stack([1 - p, p], 1), truth[known], 2, n_bins=15))

    assert value(table, "ECE", "smia", 4 / 255) == pytest.approx(theirs(known), abs=1e-5)
    second = known & (torch.arange(4) == 1)
    scores = torch.tensor(rows["scores_before"].to_list())
    assert value(table, "ECE", label="b") == pytest.approx(theirs(second), abs=1e-5)


def sure_rows(confidence: np.ndarray, right: np.ndarray) -> pl.DataFrame:
    rows = []
    for index, (given, good) in enumerate(zip(confidence, right, strict=True)):
        scores = [1 - float(given), float(given)]
        rows.append(answer_row(int(good), 1, 1, index=index, scores_before=scores, scores_after=scores))
    return frame(rows)


def test_by_hand():
    """Bins of 1/15: 0.81 and 0.84 in one of them, 0.98 and 1 apart, as certainty is a bin of its own."""
    table = calibration(sure_rows(np.array([0.81, 0.84, 0.98, 1.0]), np.array([1, 0, 0, 1])), TWO, resamples=20)
    assert value(table, "ECE") == pytest.approx((abs(1 - 1.65) + 0.98 + 0.0) / 4, abs=1e-6)
    assert value(table, "confidence of wrong answers") == pytest.approx((0.84 + 0.98) / 2)
    assert value(table, "sure of wrong answers") == 0.5


def test_an_interval_holds_its_value_and_starts_at_0():
    table = calibration(classifier_records(), INFO, resamples=300)
    errors = table.filter(pl.col("metric") == "ECE")
    assert (errors["low"] >= 0).all()
    assert (errors["high"] <= 1).all()
    assert table.filter(pl.col("metric") == "overconfidence", pl.col("low") > pl.col("value")).is_empty()


def test_only_wrong_answers_are_trials_of_a_share_of_wrong_answers():
    """200 images, 5 answered wrong, 3 of these with confidence: three hits in five trials, not in 200."""
    given, right = np.full(200, 0.95), np.ones(200)
    right[:5], given[:2] = 0, 0.6
    table = calibration(sure_rows(given, right), TWO, resamples=50).filter(attack="clean")
    rows = {row["metric"]: row for row in table.iter_rows(named=True)}
    sure = rows["sure of wrong answers"]
    wilson = binomtest(3, 5).proportion_ci(method="wilson")
    assert (sure["value"], sure["low"], sure["high"]) == pytest.approx((0.6, wilson.low, wilson.high))
    assert (sure["n"], sure["clusters"]) == (5, 5)
    assert (rows["confidence of right answers"]["n"], rows["confidence of wrong answers"]["n"]) == (195, 5)
    assert rows["overconfidence"]["n"] == 200
    given[:5], right[2:5] = 0.6, 1
    table = calibration(sure_rows(given, right), TWO, resamples=50)
    none = table.filter(attack="clean", metric="sure of wrong answers").row(0, named=True)
    exact = binomtest(0, 2).proportion_ci(method="exact")
    assert (none["value"], none["low"], none["high"]) == pytest.approx((0, exact.low, exact.high))
    assert (none["n"], none["clusters"]) == (2, 2)


def test_several_answers_of_an_image_are_no_trials_of_their_own():
    table = calibration(label_records(), LABELS, resamples=200).filter(metric="sure of wrong answers", attack="smia")
    row = table.filter(pl.col("eps") == 4 / 255, pl.col("label").is_null()).row(0, named=True)
    wilson = binomtest(round(row["value"] * row["n"]), row["n"]).proportion_ci(method="wilson")
    assert row["low"] != pytest.approx(wilson.low, abs=1e-6)


@pytest.mark.parametrize(("given", "right"), [([0.95] * 20, [1] * 20), ([1.0] * 20, [1] * 20)])
def test_an_error_that_does_not_vary_has_no_interval(given, right):
    row = (
        calibration(sure_rows(np.array(given), np.array(right)), TWO, resamples=50)
        .filter(metric="ECE")
        .row(0, named=True)
    )
    assert row["value"] == pytest.approx(1 - given[0], abs=1e-6)
    assert (row["low"], row["high"]) == (None, None)


def test_few_answers_of_a_calibrated_model():
    """What "ECE if calibrated" says is the mean over such models: as torchmetrics measures it."""
    rng = np.random.default_rng(0)
    given = rng.uniform(0.5, 1, 80)
    found = [
        float(binary_calibration_error(torch.from_numpy(given), torch.from_numpy(rng.random(80) < given).long(), 15))
        for _ in range(300)
    ]
    table = calibration(sure_rows(given, rng.random(80) < given), TWO, resamples=20)
    assert value(table, "ECE if calibrated") == pytest.approx(np.mean(found), rel=0.05)


@pytest.mark.slow
def test_coverage_of_the_interval():
    """An overconfident model, 0.2 off everywhere: 95 % intervals of 200 images."""
    rng, held, trials = np.random.default_rng(1), 0, 200
    for trial in range(trials):
        given = rng.uniform(0.5, 1, 200)
        records = sure_rows(given, rng.random(200) < given - 0.2).filter(pl.col("attack") == "pgd")
        table = calibration(records, TWO, resamples=300, seed=trial)
        row = table.filter((pl.col("attack") == "clean") & (pl.col("metric") == "ECE")).row(0, named=True)
        held += row["low"] <= 0.2 <= row["high"]
    assert 0.88 <= held / trials <= 0.99


def test_bins_add_up():
    records = classifier_records()
    table = reliability(records, INFO)
    assert table.schema == RELIABILITY_SCHEMA
    clean = table.filter(pl.col("attack") == "clean")
    assert (clean.height, clean["answers"].sum()) == (15, 60)
    assert clean["right"].sum() == records.filter(pl.col("attack") == "pgd", pl.col("eps") == 1 / 255)[
        "right_before"].sum()  # fmt: skip
    filled = clean.filter(pl.col("answers") > 0)
    assert ((filled["confidence"] >= filled["low"]) & (filled["confidence"] <= filled["high"])).all()
    error = (filled["right"] - filled["answers"] * filled["confidence"]).abs().sum() / 60
    assert error == pytest.approx(value(calibration(records, INFO, resamples=20), "ECE"), abs=1e-6)


def test_masks_and_boxes_have_none():
    assert calibration(segmenter_records(), run_info({"tissue": part_info("segmentation", "abcd")})).is_empty()
    boxes = detection_run()
    assert calibration(boxes.records, boxes.info).is_empty()
    assert reliability(boxes.records, boxes.info).is_empty()
