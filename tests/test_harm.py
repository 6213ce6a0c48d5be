"""Costs of wrong answers: how they are written, what they come to, and the attack that looks for the costliest."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch
from synthetic_run import answer_row, classifier_records, frame, label_records, part_info, run_info
from torch import nn

import medrobust as mr
from medrobust.attacks.losses_catalogue import make_loss
from medrobust.attacks.objectives import Iterate
from medrobust.config import RunConfig
from medrobust.errors import InputError
from medrobust.harm import checked_costs, read_harm, referable
from medrobust.jobs import run_config
from medrobust.statistics.harm import HARM_SCHEMA, harm

NAMES = ("no DR", "mild", "severe")
COSTS = ((0.0, 1.0, 2.0), (1.0, 0.0, 4.0), (10.0, 1.0, 0.0))


@pytest.mark.parametrize(
    "written",
    [
        [[0, 1, 2], [1, 0, 4], [10, 1, 0]],
        {"severe -> no DR": 10, "no DR→severe": 2, "mild->severe": 4},
        {"severe": {"no DR": 10}, "no DR": {"severe": 2}, "mild": {"severe": 4}},
        {"severe": {"no DR": 10}, "no DR -> severe": 2, "mild -> severe": 4.0},
    ],
)
def test_ways_to_write_costs(written):
    assert read_harm(written, NAMES, ordered=True) == COSTS


def test_a_table_in_a_file(tmp_path):
    path = tmp_path / "costs.csv"
    path.write_text("truth,severe,no DR,mild\nmild,4,1,0\nno DR,2,0,1\nsevere,0,10,1\n")
    assert read_harm(str(path), NAMES, ordered=False) == COSTS


def test_the_preset_of_referable_grades():
    costs = referable(5)
    assert costs[4] == (5, 5, 0, 0, 0)
    assert costs[1] == (0, 0, 1, 1, 1)
    assert read_harm("referable", "abcde", ordered=True) == costs
    weighed = read_harm({"referable": {"missed": 10, "from_grade": 3}}, "abcde", ordered=True)
    assert weighed == referable(5, missed=10, from_grade=3)
    classes = ("healthy", "referable")  # a class of that name is a class
    assert read_harm({"referable": {"healthy": 3}}, classes, ordered=False) == ((0, 1), (3, 0))


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ({"severe -> no dr": 1}, "unknown class 'no dr': did you mean 'no DR'"),
        ({"severe": 3}, "must name two classes"),
        ({"mild -> mild": 1}, "is right and costs 0"),
        ({"mild -> severe": -1}, "mild -> severe: a cost must be a finite number of at least 0, got -1"),
        ({"mild -> severe": "much"}, "got 'much'"),
        ({"mild -> severe": float("inf")}, "got inf"),
        ([[0, 1], [1, 0]], "a row and a column for each of the 3 classes"),
        ([[1, 1, 1], [1, 0, 1], [1, 1, 0]], "row 1, column 1: a right answer must cost 0"),
        ([[0, 0, 0]] * 3, "no wrong answer costs anything"),
        ("referible", "is no CSV file, and no name but 'referable'"),
        ({"referable": {"mised": 2}}, "did you mean 'missed'"),
        ({"referable": {"from_grade": 3}}, "from_grade must be below the number of classes, 3"),
        (7, "harm must be costs"),
    ],
)
def test_costs_that_cannot_be_used(written, words):
    with pytest.raises(InputError, match=words) as caught:
        read_harm(written, NAMES, ordered=True)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("truth,no DR,mild\nno DR,0,1\n", "has no column 'severe'"),
        ("truth,no DR,mild,severe\nno DR,0,1,1\nmild,1,0,1\n", "has no row 'severe'"),
        (
            "truth,no DR,mild,severe\nno DR,0,1,x\nmild,1,0,1\nsevere,1,1,0\n",
            "row 2, column 'severe': 'x' is no number",
        ),
        (
            "truth,no DR,mild,severe\nno DR,0,1,\nmild,1,0,1\nsevere,1,1,0\n",
            "row 2, column 'severe': the cell is empty",
        ),
        (
            "truth,no DR,mild,severe\nno DR,0,1,1\nno DR,1,0,1\nsevere,1,1,0\n",
            "row 3, column 'truth': 'no DR' is there",
        ),
        ("truth,no DR,mild,severe\nno DR,0,1,1\nmild,1,2,1\nsevere,1,1,0\n", "row 2, column 2: a right answer must"),
        ("truth,no DR,mild,serious\n", "row 1: unknown class 'serious'"),
    ],
)
def test_files_that_cannot_be_used(tmp_path, text, words):
    path = tmp_path / "costs.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=words):
        read_harm(str(path), NAMES, ordered=True)


def test_grades_alone_have_the_preset():
    with pytest.raises(InputError, match="is for ordered grades"):
        read_harm("referable", NAMES, ordered=False)


def iterate(truth: torch.Tensor, sign: int = 1) -> Iterate:
    nothing = torch.zeros(len(truth), 1)
    return Iterate(0, 1, nothing, nothing, truth, sign)


def test_the_gradient_by_hand():
    """Of log Σ C p: p_j·C_j / Σ C p − p_j. Along that of Σ C p itself, p_j·(C_j − Σ C p)."""
    torch.manual_seed(0)
    logits = torch.randn(6, 3, dtype=torch.float64, requires_grad=True)
    truth, costs = torch.tensor([0, 1, 2, 0, 1, 2]), torch.tensor(COSTS, dtype=torch.float64)
    value = mr.ExpectedHarm(COSTS).deviation(mr.Classification(3), logits, iterate(truth))
    probs = logits.detach().softmax(1)
    expected = (probs * costs[truth]).sum(1)
    torch.testing.assert_close(value.exp(), expected)
    (gradient,) = torch.autograd.grad(value.sum(), logits)
    torch.testing.assert_close(gradient, probs * costs[truth] / expected[:, None] - probs)
    plain = probs * (costs[truth] - expected[:, None])
    torch.testing.assert_close(gradient * expected[:, None], plain)


def test_the_gradient_does_not_fade_where_the_model_is_sure():
    logits = torch.tensor([[300.0, 0.0, -5.0]], requires_grad=True)
    value = mr.ExpectedHarm(COSTS).deviation(mr.Classification(3), logits, iterate(torch.tensor([0])))
    (gradient,) = torch.autograd.grad(value.sum(), logits)
    assert value.item() == pytest.approx(-300 + np.log(1 + 2 * np.exp(-5)), rel=1e-5)
    assert gradient[0].tolist() == pytest.approx([-1.0, 0.98670, 0.01330], abs=1e-4)


@pytest.mark.parametrize("width", [1, 2])
def test_two_classes_as_one_logit_or_two(width):
    logit = torch.tensor([0.3, -1.2], requires_grad=True)
    outputs = logit[:, None] if width == 1 else torch.stack([torch.zeros(2), logit], 1)
    value = mr.ExpectedHarm(((0, 1), (5, 0))).deviation(mr.Classification(2), outputs, iterate(torch.tensor([0, 1])))
    expected = [torch.sigmoid(logit[0]).log(), np.log(5) + torch.sigmoid(-logit[1]).log()]
    assert value.tolist() == pytest.approx([one.item() for one in expected], rel=1e-5)


def test_cumulative_grades():
    outputs = torch.tensor([[2.0, -1.0]], requires_grad=True)  # above 0, above 1
    task = mr.Classification(3, ordinal=True, costs=COSTS)
    value = mr.ExpectedHarm().deviation(task, outputs, iterate(torch.tensor([2])))
    above = torch.sigmoid(outputs.detach()[0])
    assert value.exp().item() == pytest.approx((10 * (1 - above[0]) + above[0] - above[1]).item(), rel=1e-5)
    assert torch.autograd.grad(value.sum(), outputs)[0].isfinite().all()


def test_a_class_that_no_error_harms_is_left_alone():
    costs = ((0, 0, 0), (1, 0, 4), (10, 1, 0))
    loss, task = mr.ExpectedHarm(costs), mr.Classification(3)
    logits = torch.randn(2, 3, requires_grad=True)
    here = iterate(torch.tensor([0, 1]))
    assert loss.left(task, logits, here).tolist() == [False, True]
    (gradient,) = torch.autograd.grad(loss.deviation(task, logits, here).sum(), logits)
    assert gradient[0].tolist() == [0, 0, 0]
    assert gradient[1].abs().sum() > 0


@pytest.mark.parametrize(
    ("task", "loss", "sign", "words"),
    [
        (mr.Classification(3), mr.ExpectedHarm(), 1, "needs costs: set harm"),
        (mr.Classification(3), mr.ExpectedHarm(((0, 1), (1, 0))), 1, "costs of 2 classes, the task has 3"),
        (mr.Classification(3), mr.ExpectedHarm(COSTS), -1, "needs targeted=False"),
        (mr.Classification(3, multilabel=True), mr.ExpectedHarm(COSTS), 1, "one answer among classes"),
    ],
)
def test_where_there_is_no_harm_to_look_for(task, loss, sign, words):
    truth = torch.zeros(2, 3, dtype=torch.long) if task.multilabel else torch.tensor([0, 1])
    with pytest.raises(InputError, match=words):
        loss.deviation(task, torch.zeros(2, 3), iterate(truth, sign))


def test_several_labels_have_no_costs():
    with pytest.raises(InputError, match="not of several labels"):
        mr.Classification(3, multilabel=True, costs=COSTS)


class Point(nn.Module):
    """Two pixels, three classes: pixel 0 leads to class 1, more easily than pixel 1 to class 2."""

    def forward(self, x):
        x = x.flatten(1)
        return torch.stack([0 * x[:, 0], 20 * (x[:, 0] - 0.52), 19 * (x[:, 1] - 0.52)], 1)


def test_the_costliest_answer_is_found_where_any_wrong_one_is_not_enough():
    costs = ((0, 1, 50), (1, 0, 1), (1, 1, 0))
    victim = mr.Victim(Point(), mr.Classification(3, costs=costs), bounds=(0.0, 1.0))
    images, truth, threat = torch.full((2, 1, 1, 2), 0.5), torch.tensor([0, 0]), mr.Threat(eps=0.1)
    for attack, answer in ((mr.PGD(), 1), (mr.PGD(loss=mr.ExpectedHarm()), 2), (
        mr.PGD(loss=mr.Stabilized(mr.ExpectedHarm(), a2=0.2)), 2), (mr.MIFGSM(loss=make_loss("harm")), 2)):  # fmt: skip
        result = attack(victim, images, truth, threat)
        assert Point()(result.adversarial).argmax(1).tolist() == [answer] * 2
    named = make_loss({"harm": {"costs": [list(row) for row in costs]}})
    assert named == mr.ExpectedHarm(costs)
    assert mr.PGD(loss=named).describe()["loss"] == {"part": "ExpectedHarm", "costs": [list(row) for row in costs]}


def info(costs=COSTS, part="p"):
    known = part_info("ordinal", NAMES)
    return run_info(
        {part: replace(known, victim={**known.victim, "task_options": {"costs": [list(r) for r in costs]}})}
    )


def test_costs_by_hand_and_the_worst_case_is_by_cost():
    rows = []
    for index, (truth, before, fgsm, pgd) in enumerate([(2, 2, 1, 0), (2, 2, 0, 1), (0, 0, 0, 1), (1, 0, 0, 2)]):
        rows += [answer_row(truth, before, fgsm, index=index, attack="fgsm", loss=3.0, patient=f"p{index}")]
        rows += [answer_row(truth, before, pgd, index=index, attack="pgd", loss=9.0, patient=f"p{index}")]
    table = harm(frame(rows), info())
    assert table.schema == HARM_SCHEMA

    def value(attack: str, metric: str) -> float:
        return table.filter((pl.col("attack") == attack) & (pl.col("metric") == metric))["value"][0]

    assert value("clean", "mean cost") == pytest.approx(1 / 4)
    assert value("fgsm", "mean cost") == pytest.approx((1 + 10 + 0 + 1) / 4)
    assert value("pgd", "mean cost") == pytest.approx((10 + 1 + 1 + 4) / 4)
    # the loss is the higher after pgd everywhere, but the second image pays more after fgsm
    assert value("worst case", "mean cost") == pytest.approx((10 + 10 + 1 + 4) / 4)
    assert value("worst case", "rise of mean cost") == pytest.approx(6.0)
    assert value("fgsm", "costly answers") == pytest.approx(3 / 4)


def test_equal_costs_are_the_share_of_wrong_answers():
    costs = tuple(tuple(float(k != j) for j in range(5)) for k in range(5))
    records, known = classifier_records(), part_info("ordinal", "abcde")
    known = replace(known, victim={"task_options": {"costs": costs}})
    table = harm(records, run_info({"grades": known}), resamples=200)
    worst = table.filter((pl.col("attack") == "worst case") & (pl.col("metric") == "mean cost")).sort("eps")
    wrong = records.group_by("eps", "index").agg(~pl.col("right_after").all()).group_by("eps").mean().sort("eps")
    assert worst["value"].to_list() == pytest.approx(wrong["right_after"].to_list())
    assert (worst["low"] <= worst["value"]).all()


def test_without_costs_there_is_no_table():
    assert harm(classifier_records(), run_info({"grades": part_info("ordinal", "abcde")})).is_empty()
    assert harm(label_records(), run_info({"findings": part_info("multilabel", "abcd")})).is_empty()


@pytest.mark.slow
def test_harm_in_a_configuration():
    config = {
        "data": {"path": "embedded:level", "limit": 6}, "attacks": {"costly": {"attack": "bim", "loss": "harm"}},
        "threat": {"eps": ["2/255"]}, "harm": "referable", "gallery": 0,
    }  # fmt: skip
    run = run_config(RunConfig.model_validate(config))
    (part,) = run.info.parts.values()
    assert part.victim["task_options"]["costs"] == referable(5)
    assert harm(run.records, run.info, resamples=20).height == 2 + 3 + 3
    config["data"] = {"path": "embedded:tissue", "limit": 2}
    config["attacks"] = {"fgsm": {}}
    with pytest.raises(InputError, match=r"harm is for one answer among classes; .* is for segmentation"):
        run_config(RunConfig.model_validate(config))


def test_tables_are_checked_wherever_they_come_from():
    with pytest.raises(InputError, match="a row and a column for each"):
        mr.Classification(3, costs=[[0, 1], [1, 0]])
    assert checked_costs([[0, 1], [2, 0]], 2) == ((0, 1), (2, 0))
