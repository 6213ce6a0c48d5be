import dataclasses

import numpy as np
import polars as pl
import pytest
from synthetic_run import detection_row, detector_records, frame, part_info, run_info

from medrobust.statistics import Judgement, judgement, summarise
from medrobust.statistics.conditions import conditions_of
from medrobust.statistics.metrics import metrics_of
from medrobust.statistics.task_traits import TASK_TRAITS

PART = part_info("detection", ["polyp", "artefact"])
INFO = run_info({"p": PART})
BOX, OTHER = (0, 0, 10, 10), (50, 50, 60, 60)


def figure(summary: pl.DataFrame, attack: str, metric: str) -> dict:
    return summary.filter(attack=attack, metric=metric).row(0, named=True)


@pytest.fixture(scope="module")
def by_hand() -> pl.DataFrame:
    """Two polyps and an artefact in three images of three patients, and an image without; one polyp is lost to a."""
    polyp, artefact = (0, *BOX), (1, *OTHER)
    found, sure, wrong = (*polyp, 0.8), (*polyp, 0.9), (1, *BOX, 0.95)
    answers = {  # truth, before, after a, after b
        0: ([polyp], [sure], [], [sure]),
        1: ([polyp], [found], [found], [found, wrong]),
        2: ([artefact], [(*artefact, 0.7)], [(*artefact, 0.7)], [(*artefact, 0.7)]),
        3: ([], [], [], []),
    }
    return summarise(
        frame(
            detection_row(truth, before, after, index=index, attack=attack, patient="wxyz"[index])
            for index, (truth, before, *attacked) in answers.items()
            for attack, after in zip("ab", attacked, strict=True)
        ),
        INFO,
    )


@pytest.mark.parametrize(
    ("attack", "metric", "value", "n"),
    [
        ("clean", "mAP", 1.0, 4),
        ("clean", "F1", 1.0, 4),
        ("a", "mAP", (51 / 101 + 1) / 2, 4),  # half of the polyps, so 51 of 101 recalls
        ("a", "mAP: polyp", 51 / 101, 2),
        ("a", "mAP: artefact", 1.0, 1),
        ("a", "drop of mAP", 50 / 101 / 2, 4),
        ("a", "misses", 1 / 4, 4),
        ("a", "F1", 3 / 4, 4),
        ("a", "success", 1 / 4, 4),
        ("b", "mAP: polyp", 1.0, 2),
        ("b", "mAP: artefact", 1 / 2, 2),  # the surer one is wrong
        ("b", "mAP@.5", 3 / 4, 4),
        ("b", "false positives", 1 / 4, 4),
        ("worst case", "mAP", (51 / 101 + 1 / 2) / 2, 4),
        ("worst case", "F1", (0 + 2 / 3 + 1 + 1) / 4, 4),
    ],
)
def test_by_hand(by_hand, attack, metric, value, n):
    found = figure(by_hand, attack, metric)
    assert found["value"] == pytest.approx(value)
    assert found["n"] == n
    if found["low"] is not None:
        assert found["low"] <= value + 1e-6
        assert value - 1e-6 <= found["high"]


def test_a_figure_of_one_image_has_no_interval(by_hand):
    assert figure(by_hand, "b", "mAP: artefact")["clusters"] == 2
    assert figure(by_hand, "a", "mAP: artefact")["low"] is None


def test_estimate_and_statistic_are_the_same_figure():
    for condition in conditions_of(detector_records("p"), PART):
        n = len(condition.rows)
        names = []
        for metric in metrics_of(condition, PART, np.arange(n), n):
            names.append(metric.name)
            if metric.value is not None:
                drawn = metric.statistic.draws(np.ones((n, 1), np.float32))
                assert drawn == pytest.approx([metric.value], abs=1e-9 if "mAP" in metric.name else 1e-5), metric.name
        assert names[:5] == list(TASK_TRAITS["detection"].metrics)


def test_the_drop_is_of_the_same_resamples():
    records = detector_records("p")
    same = records.with_columns(
        pl.col(f"{name}_before").alias(f"{name}_after") for name in ("prediction", "scores", "boxes", "f1")
    )
    found = figure(summarise(same, INFO, resamples=50), "pgd", "drop of mAP")
    assert (found["value"], found["low"]) == (0, None)  # it varies in no resample, though clean mAP does
    found = figure(summarise(records, INFO, resamples=200), "pgd", "drop of mAP")
    assert 0 < found["low"] < found["value"] < found["high"]


def test_the_drop_is_of_the_images_that_the_attack_had():
    rows = [detection_row([(0, *BOX)], [(0, *BOX, 0.9)], [], index=0, attack="a")]
    rows += [
        detection_row([(0, *BOX)], before, before, index=index, attack="b")
        for index, before in enumerate([[(0, *BOX, 0.9)], []])
    ]
    summary = summarise(frame(rows), INFO)
    assert figure(summary, "clean", "mAP")["value"] == pytest.approx(51 / 101)
    assert figure(summary, "a", "drop of mAP")["value"] == 1
    assert figure(summary, "b", "drop of mAP")["value"] == 0


def test_where_nothing_is_there_to_find_map_is_undefined():
    rows = [detection_row([], [], [(0, *BOX, 0.9)], index=index) for index in range(3)]
    summary = summarise(frame(rows), INFO)
    for metric in ("mAP", "mAP@.5", "drop of mAP"):
        found = figure(summary, "pgd", metric)
        assert (found["value"], found["low"], found["n"]) == (None, None, 0)
    assert figure(summary, "pgd", "false positives")["value"] == 1
    assert figure(summary, "pgd", "success")["value"] == 1


def test_patients_are_resampled_with_all_their_images():
    records = detector_records("p")
    wide = figure(summarise(records, INFO), "pgd", "mAP")
    alone = figure(summarise(records.with_columns(patient=pl.lit(None)), INFO), "pgd", "mAP")
    assert (wide["clusters"], wide["resampled"]) == (10, "patients")
    assert (alone["clusters"], alone["resampled"]) == (30, "images")
    assert wide["value"] == alone["value"]
    assert wide["low"] != alone["low"]


@pytest.mark.parametrize(
    ("victim", "expected"),
    [
        ({}, Judgement(0.5, 0.5, 0.5)),
        ({"task_options": {"task": "detection", "score": 0.3, "iou": 0.4, "success_f1": 1}}, Judgement(0.3, 0.4, 1.0)),
    ],
)
def test_how_images_were_judged_is_what_the_run_kept(victim, expected):
    assert judgement(dataclasses.replace(PART, victim=victim)) == expected
