import dataclasses
import math
import time

import numpy as np
import polars as pl
import pytest
import torch
from scipy.integrate import trapezoid
from synthetic_run import (
    SyntheticRun,
    answer_row,
    classifier_records,
    frame,
    label_records,
    part_info,
    row,
    run_info,
    segmenter_records,
    two_part_run,
)
from torchmetrics.functional.classification import (
    multiclass_accuracy,
    multiclass_auroc,
    multiclass_cohen_kappa,
)

from medrobust.errors import InputError
from medrobust.statistics import SUMMARY_SCHEMA, summarise
from medrobust.statistics.conditions import conditions_of
from medrobust.statistics.metrics import metrics_of

BINARY = run_info({"p": part_info("classification", ["healthy", "ill"])})


def figure(summary: pl.DataFrame, attack: str, metric: str, eps: float | None = None) -> dict:
    rows = summary.filter((pl.col("attack") == attack) & (pl.col("metric") == metric))
    if eps is not None:
        rows = rows.filter(pl.col("eps") == eps)
    return rows.row(0, named=True)


@pytest.fixture(scope="module")
def by_hand() -> pl.DataFrame:
    """Four images; clean 3 of 4 right; a leaves 2, b leaves 2, together they leave 1."""
    answers = {"a": [0, 1, 1, 0], "b": [1, 0, 1, 0]}
    truth, before = [0, 0, 1, 1], [0, 0, 1, 0]
    rows = [
        answer_row(
            truth[i],
            before[i],
            after[i],
            index=i,
            attack=attack,
            loss=float(truth[i] != after[i]),
            patient="xxyy"[i],
        )
        for attack, after in answers.items()
        for i in range(4)
    ]
    return summarise(frame(rows), BINARY)


@pytest.mark.parametrize(
    ("attack", "metric", "value", "n"),
    [
        ("clean", "accuracy", 3 / 4, 4),
        ("a", "accuracy", 2 / 4, 4),
        ("b", "accuracy", 2 / 4, 4),
        ("worst case", "accuracy", 1 / 4, 4),
        ("a", "drop of accuracy", 1 / 4, 4),
        ("worst case", "drop of accuracy", 2 / 4, 4),
        ("a", "success", 1 / 3, 3),
        ("worst case", "success", 2 / 3, 3),
        ("a", "linf", 1 / 255, 4),
        ("a", "psnr", 40.0, 4),
    ],
)
def test_by_hand(by_hand, attack, metric, value, n):
    found = figure(by_hand, attack, metric)
    assert found["value"] == pytest.approx(value)
    assert found["n"] == n
    assert (found["clusters"], found["resampled"]) == (2, "patients")
    if found["low"] is None:  # the same in both patients
        assert (attack, metric) in {("a", "accuracy"), ("b", "accuracy"), ("a", "linf"), ("a", "psnr")}
        return
    assert found["low"] < found["high"]
    assert found["low"] <= value + 1e-6
    assert value - 1e-6 <= found["high"]


@pytest.mark.parametrize(
    ("attack", "metric", "value"),
    [
        ("a", "area under accuracy", (3 / 4 + 2 / 4) / 2),  # one budget: a straight line from clean
        ("worst case", "area under accuracy", (3 / 4 + 1 / 4) / 2),
        ("worst case", "accuracy of the strongest attack", 2 / 4),
    ],
)
def test_figures_over_conditions_by_hand(by_hand, attack, metric, value):
    assert figure(by_hand, attack, metric)["value"] == pytest.approx(value)


def test_the_area_is_scipys_trapezoid_over_the_range():
    """Budgets that are not evenly spaced."""
    records, info = classifier_records("p"), run_info({"p": part_info("ordinal", "abcde")})
    summary = summarise(records, info, resamples=200)
    for metric in ("accuracy", "AUROC", "quadratic-weighted kappa"):
        heights = [figure(summary, "clean", metric)["value"]]
        heights += [figure(summary, "pgd", metric, eps / 255)["value"] for eps in (1, 2, 4)]
        found = figure(summary, "pgd", f"area under {metric}")
        assert found["eps"] == 4 / 255
        assert found["value"] == pytest.approx(trapezoid(heights, [0, 1, 2, 4]) / 4)
        assert found["low"] < found["value"] < found["high"]


def test_an_attack_that_lacks_a_budget_has_no_area():
    records = classifier_records("p").filter((pl.col("attack") != "fgsm") | (pl.col("eps") < 3 / 255))
    summary = summarise(records, run_info({"p": part_info("ordinal", "abcde")}), resamples=50)
    having = summary.filter(metric="area under accuracy")["attack"].to_list()
    assert having == ["pgd", "smia", "worst case"]


def test_which_attack_is_the_strongest_may_change_with_the_resample():
    """Two attacks that each break half of the images: either looks the stronger in a resample, which costs width."""
    rows = [
        answer_row(0, 0, int(i % 2 == side), index=i, attack=attack)
        for side, attack in enumerate("ab")
        for i in range(60)
    ]
    summary = summarise(frame(rows), BINARY)
    alone, chosen = figure(summary, "a", "accuracy"), figure(summary, "worst case", "accuracy of the strongest attack")
    assert chosen["value"] == alone["value"] == 0.5
    assert chosen["high"] <= alone["high"]
    assert figure(summary, "worst case", "accuracy")["value"] == 0


def test_one_attack_alone_is_not_called_the_strongest():
    summary = summarise(classifier_records("p", attacks=("pgd",)), run_info({"p": part_info("ordinal", "abcde")}))
    assert summary.filter(pl.col("metric").str.contains("strongest")).is_empty()


def test_what_kind_each_interval_is():
    info = run_info({"p": part_info("ordinal", "abcde")})
    summary = summarise(classifier_records("p", patients=None), info, resamples=100)
    assert figure(summary, "pgd", "accuracy", 1 / 255)["interval"] == "Wilson"
    assert figure(summary, "pgd", "AUROC", 1 / 255)["interval"] == "BCa bootstrap"
    by_patient = summarise(classifier_records("p"), info, resamples=100)
    assert figure(by_patient, "pgd", "accuracy", 1 / 255)["interval"] == "BCa bootstrap"
    for table in (summary, by_patient):
        assert (table["interval"].is_null() == table["low"].is_null()).all()
        assert (table.filter(interval="exact")["value"].is_in([0.0, 1.0])).all()


def test_columns_are_as_documented(by_hand):
    assert by_hand.schema == pl.Schema(SUMMARY_SCHEMA)


def test_classifier_figures_are_torchmetrics():
    records = classifier_records("p")
    summary = summarise(records, run_info({"p": part_info("ordinal", "abcde")}), resamples=50)
    rows = records.filter((pl.col("attack") == "pgd") & (pl.col("eps") == 2 / 255)).sort("index")
    truth, answer = (torch.tensor(rows[c].list.first().to_list()) for c in ("truth", "prediction_after"))
    scores = torch.tensor(rows["scores_after"].to_list())
    for metric, expected in {
        "accuracy": multiclass_accuracy(answer, truth, 5, average="micro"),
        "AUROC": multiclass_auroc(scores, truth, 5),
        "quadratic-weighted kappa": multiclass_cohen_kappa(answer, truth, 5, weights="quadratic"),
    }.items():
        assert figure(summary, "pgd", metric, 2 / 255)["value"] == pytest.approx(float(expected), abs=1e-6)


@pytest.mark.parametrize(
    ("task", "records"),
    [
        ("ordinal", classifier_records("p")),
        ("multilabel", label_records("p")),
        ("segmentation", segmenter_records("p")),
    ],
)
def test_estimate_and_statistic_are_the_same_figure(task, records):
    part = part_info(task, ["a", "b", "c", "d", "e"][: 4 if task == "multilabel" else 5])
    for condition in conditions_of(records, part):
        n = len(condition.rows)
        for metric in metrics_of(condition, part, np.arange(n), n):
            if metric.value is not None:
                drawn = metric.statistic.draws(np.ones((n, 1), np.float32))
                assert drawn == pytest.approx([metric.value], abs=1e-5), metric.name


def test_multilabel_leaves_unknown_labels_out():
    rows = [
        row(
            truth=[1, -1],
            prediction_before=[1, 1],
            prediction_after=[0, 1],
            right_before=True,
            right_after=False,
        ),
        row(
            truth=[0, 1],
            prediction_before=[0, 0],
            prediction_after=[0, 0],
            right_before=False,
            right_after=False,
            index=1,
        ),
    ]
    summary = summarise(frame(rows), run_info({"p": part_info("multilabel", "ab")}))
    assert figure(summary, "clean", "exact match")["value"] == 0.5
    assert figure(summary, "clean", "label accuracy")["value"] == pytest.approx(2 / 3)
    assert figure(summary, "pgd", "label accuracy")["value"] == pytest.approx(1 / 3)
    assert figure(summary, "clean", "AUROC")["value"] is None


def test_auroc_is_the_mean_over_classes_that_occur():
    scores = [[0.6, 0.3, 0.1], [0.3, 0.6, 0.1], [0.5, 0.4, 0.1], [0.55, 0.35, 0.1]]
    rows = [
        answer_row(truth, 0, 0, index=index, scores_before=scores[index], scores_after=scores[index])
        for index, truth in enumerate([0, 1, 0, 1])
    ]
    summary = summarise(frame(rows), run_info({"p": part_info("classification", "abc")}))
    # class 0 beats 3 of 4 pairs, so does class 1; class 2 does not occur
    assert figure(summary, "clean", "AUROC")["value"] == pytest.approx(0.75)


def test_auroc_is_null_when_only_one_class_occurs():
    rows = [answer_row(0, 0, 1, index=i, scores_before=[0.9, 0.1], scores_after=[0.1, 0.9]) for i in range(3)]
    found = figure(summarise(frame(rows), BINARY), "clean", "AUROC")
    assert (found["value"], found["low"], found["n"]) == (None, None, 0)


def test_success_is_null_when_nothing_was_right_before():
    found = figure(summarise(frame([answer_row(0, 1, 1, index=i) for i in range(3)]), BINARY), "pgd", "success")
    assert (found["value"], found["low"], found["high"], found["n"]) == (None, None, None, 0)


def test_one_image_has_no_interval():
    found = figure(summarise(frame([answer_row(0, 0, 1)]), BINARY), "clean", "accuracy")
    assert (found["value"], found["low"], found["high"]) == (1.0, None, None)


def test_a_share_of_all_images_is_still_uncertain():
    found = figure(summarise(frame([answer_row(0, 0, 1, index=i) for i in range(30)]), BINARY), "pgd", "accuracy")
    assert (found["value"], found["low"]) == (0.0, 0.0)
    assert found["high"] == pytest.approx(1 - 0.025 ** (1 / 30))


def test_one_patient_is_told_apart():
    records = frame([answer_row(0, 0, i % 2, index=i, patient="only") for i in range(10)])
    found = figure(summarise(records, BINARY), "pgd", "accuracy")
    assert (found["resampled"], found["clusters"]) == ("images of one patient", 10)
    assert found["low"] < found["high"]


def test_success_of_a_targeted_attack_is_its_goal_and_of_the_worst_case_any_wrong_answer():
    rows = [answer_row(0, 0, 1, index=0), answer_row(0, 0, 2, index=1)]
    rows[1]["success"] = False  # the wrong answer, but not the wanted one
    summary = summarise(frame(rows), BINARY)
    assert figure(summary, "pgd", "success")["value"] == 0.5
    assert figure(summary, "worst case", "success")["value"] == 1.0


def test_psnr_of_unchanged_images_is_left_out():
    rows = [answer_row(0, 0, 1, index=0, psnr=math.inf), answer_row(0, 0, 1, index=1, psnr=30.0)]
    found = figure(summarise(frame(rows), BINARY), "pgd", "psnr")
    assert (found["value"], found["n"]) == (30.0, 1)


def test_segmentation_by_class():
    records = segmenter_records("p")
    summary = summarise(records, run_info({"p": part_info("segmentation", ["background", "a", "b", "c"])}))
    clean = records.unique("index")
    assert figure(summary, "clean", "dice")["value"] == pytest.approx(clean["dice_before"].mean())
    fluid = np.array(clean["dice_by_class_before"].to_list())[:, 2]
    found = figure(summary, "clean", "dice: c")
    assert found["value"] == pytest.approx(np.nanmean(fluid))
    assert found["n"] == int(np.isfinite(fluid).sum()) < 40
    assert figure(summary, "pgd", "drop of dice", 4 / 255)["value"] > 0


def test_all_conditions_see_the_same_resamples():
    records = classifier_records("p", attacks=("pgd",))
    twin = pl.concat([records, records.with_columns(attack=pl.lit("twin"))])
    summary = summarise(twin, run_info({"p": part_info("ordinal", "abcde")}))
    columns = ["eps", "metric", "value", "low", "high"]
    both = [summary.filter(pl.col("attack") == label).select(columns) for label in ("pgd", "twin")]
    assert both[0].equals(both[1])


def test_the_seed_decides():
    records, info = classifier_records("p"), run_info({"p": part_info("ordinal", "abcde")})
    first, again, other = (summarise(records, info, resamples=100, seed=seed) for seed in (0, 0, 1))
    assert first.equals(again)
    assert not first.equals(other)


def test_rows_may_come_in_any_order():
    run = two_part_run()
    shuffled = run.records.sample(fraction=1.0, shuffle=True, seed=0)
    wanted, found = (
        summarise(records, run.info).sort("part", "eps", "attack", "metric") for records in (run.records, shuffled)
    )
    for column in ("value", "low", "high"):
        assert found[column].to_numpy() == pytest.approx(wanted[column].to_numpy(), abs=1e-5, nan_ok=True)


def test_no_records_give_an_empty_table():
    summary = summarise(frame([]), BINARY)
    assert summary.is_empty()
    assert summary.schema == pl.Schema(SUMMARY_SCHEMA)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"resamples": 1}, "resamples must be at least 2"),
        ({"confidence": 1.0}, "confidence must be between 0 and 1"),
    ],
)
def test_bad_options(options, words):
    with pytest.raises(InputError, match=words):
        summarise(frame([answer_row(0, 0, 1)]), BINARY, **options)


@pytest.mark.parametrize("label", ["clean", "worst case"])
def test_labels_with_another_meaning(label):
    with pytest.raises(InputError, match="rename it"):
        summarise(frame([answer_row(0, 0, 1, attack=label)]), BINARY)


@pytest.mark.slow
def test_speed():
    images, attacks, budgets = 10_000, 20, 4
    n = images * attacks * budgets
    rng = np.random.default_rng(0)
    index = np.tile(np.arange(images), attacks * budgets)
    records = pl.DataFrame(
        {
            "part": pl.repeat("p", n, eager=True),
            "index": index,
            "attack": np.repeat([f"a{k}" for k in range(attacks)], images * budgets),
            "norm": pl.repeat("linf", n, eager=True),
            "eps": np.tile(np.repeat(np.arange(1, budgets + 1) / 255, images), attacks),
            "patient": (index % 5000).astype(str),
            "right_before": index % 5 > 0,
            "right_after": rng.random(n) < 0.5,
            "dice_before": np.full(n, 0.9),
            "dice_after": rng.random(n),
        }
        | {name: rng.random(n) for name in ("linf", "l2", "psnr", "ssim", "iou_before", "iou_after")}
    )
    missing = [pl.lit(None).alias(name) for name in frame([]).columns if name not in records.columns]
    records = records.with_columns(missing).select(frame([]).columns).cast(dict(frame([]).schema))
    started = time.perf_counter()
    summarise(records, run_info({"p": part_info("segmentation", ["background", "a"])}))
    assert time.perf_counter() - started < 10  # 2 s on two idle cores; the aim is 5


SIX = [
    answer_row(i % 2, i % 2, 1 - i % 2, index=i, scores_before=[1.0 - i % 2, i % 2 + 0.0], scores_after=[0.5, 0.5])
    for i in range(6)
]


@pytest.mark.parametrize(
    ("attack", "metric", "value", "low", "high"),
    [
        ("clean", "accuracy", 1, 0.025 ** (1 / 6), 1),  # a share: exact
        ("clean", "AUROC", 1, None, None),
        ("clean", "quadratic-weighted kappa", 1, None, None),
        ("pgd", "AUROC", 0.5, None, None),
        ("pgd", "drop of accuracy", 1, 0.025 ** (1 / 6), 1),  # all were right and all fell: a share
        ("pgd", "success", 1, 0.025 ** (1 / 6), 1),
        ("pgd", "linf", 1 / 255, None, None),
    ],
)
def test_what_does_not_vary_is_not_called_certain(attack, metric, value, low, high):
    found = figure(summarise(frame(SIX), run_info({"p": part_info("ordinal", "ab")})), attack, metric)
    assert found["value"] == pytest.approx(value)
    for end, wanted in (("low", low), ("high", high)):
        assert found[end] is None if wanted is None else found[end] == pytest.approx(wanted)


def test_a_drop_that_is_no_share_has_no_exact_interval():
    rows = [answer_row(0, i % 2, i % 2, index=i) for i in range(8)]  # none falls, half were wrong before
    found = figure(summarise(frame(rows), BINARY), "pgd", "drop of accuracy")
    assert (found["value"], found["low"], found["high"]) == (0, None, None)
    rows = [answer_row(0, 0, 0, index=i) for i in range(8)]
    found = figure(summarise(frame(rows), BINARY), "pgd", "drop of accuracy")
    assert (found["value"], found["low"]) == (0, 0)
    assert found["high"] == pytest.approx(1 - 0.025 ** (1 / 8))


def test_no_interval_is_without_width():
    for run in (two_part_run(), SyntheticRun(frame(SIX), run_info({"p": part_info("ordinal", "ab")}), [])):
        summary = summarise(run.records, run.info).drop_nulls("low")
        assert (summary["low"] < summary["high"]).all()


def label_row(index: int, truth: list[int], before: list[int], after: list[int], **values) -> dict:
    known = [place for place, value in enumerate(truth) if value in (0, 1)]
    right = [all(answer[k] == truth[k] for k in known) for answer in (before, after)]
    given = {"right_before": right[0], "right_after": right[1], "success": not right[1]}
    return row(index=index, truth=truth, prediction_before=before, prediction_after=after, **given | values)


def test_an_image_of_which_nothing_is_known_is_neither_right_nor_fooled():
    rows = [
        label_row(0, [1, -1], [1, 1], [0, 1]),
        label_row(1, [0, 1], [0, 0], [0, 0]),
        label_row(2, [-1, -1], [0, 0], [1, 1]),
    ]
    summary = summarise(frame(rows), run_info({"p": part_info("multilabel", "ab")}))
    for attack, metric, value, n in (
        ("clean", "exact match", 1 / 2, 2),
        ("clean", "label accuracy", 2 / 3, 2),
        ("pgd", "exact match", 0, 2),
        ("pgd", "drop of exact match", 1 / 2, 2),
        ("pgd", "success", 1, 1),
        ("worst case", "success", 1, 1),
        ("pgd", "linf", 1 / 255, 3),
    ):
        found = figure(summary, attack, metric)
        assert (found["value"], found["n"]) == (pytest.approx(value), n), metric


def test_when_no_label_at_all_is_known():
    rows = [label_row(i, [-1, -1], [0, 0], [1, 1]) for i in range(3)]
    summary = summarise(frame(rows), run_info({"p": part_info("multilabel", "ab")}))
    for metric in ("exact match", "label accuracy", "AUROC", "drop of exact match", "success"):
        found = figure(summary, "pgd", metric)
        assert (found["value"], found["low"], found["n"]) == (None, None, 0)


def test_the_value_that_means_unknown_is_the_data_sets():
    part = part_info("multilabel", "ab")
    info = dataclasses.replace(part.dataset, ignore_index=0)
    scores = {"scores_before": [0.9, 0.1], "scores_after": [0.9, 0.1]}
    rows = [
        label_row(0, [1, 0], [1, 0], [1, 0], **scores),
        label_row(1, [0, 1], [1, 0], [1, 0], **scores),
        label_row(2, [0, 0], [1, 1], [1, 1], **scores),
    ]
    summary = summarise(frame(rows), run_info({"p": dataclasses.replace(part, dataset=info)}))
    found = figure(summary, "clean", "label accuracy")
    assert (found["value"], found["n"]) == (0.5, 2)
    assert figure(summary, "clean", "AUROC")["value"] is None  # no known label is a 0
