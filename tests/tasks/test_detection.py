"""The task of detection on answers written by hand: what is found, what counts as right, which truth is none."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import medrobust as mr
from medrobust.detectors import Detections, DetectorOutputs
from medrobust.errors import InputError
from medrobust.tasks import position_mean

TASK = mr.Detection(2)
OBJECT, FAR = (0.0, 0.0, 10.0, 10.0), (50.0, 50.0, 60.0, 60.0)


class Written:
    """A detector whose answers and scores are given."""

    classes = 2

    def __init__(self, found: list[list[tuple[float, ...]]]) -> None:
        self.found = [torch.tensor(rows).reshape(-1, 6) for rows in found]

    def detect(self, outputs: DetectorOutputs) -> list[Detections]:
        return [Detections(rows[:, :4], rows[:, 4].long(), rows[:, 5]) for rows in self.found]

    def places(self, outputs: DetectorOutputs) -> None:
        return None

    def log_probs(self, outputs: DetectorOutputs, places: None) -> Tensor:
        return outputs.tensors["probs"].log()


def outputs_of(*found: list[tuple[float, ...]]) -> DetectorOutputs:
    """Outputs in which each image has the detections x1, y1, x2, y2, class, score."""
    return DetectorOutputs(Written(list(found)), {"scores": torch.zeros(len(found), 1)}, (64, 64))


def figures(found: list[tuple[float, ...]], objects: list[tuple[float, ...]], task: mr.Detection = TASK) -> list[float]:
    """F1, false positives and misses of one image."""
    truth = mr.pad_boxes([torch.tensor(objects).reshape(-1, 5)])
    metrics = task.image_metrics(outputs_of(found), truth)
    return [float(metrics[name]) for name in ("f1", "false_positives", "misses")]


@pytest.mark.parametrize(
    ("found", "objects", "expected"),
    [
        ([(*OBJECT, 0, 0.9)], [(*OBJECT, 0)], [1, 0, 0]),
        ([], [], [1, 0, 0]),
        ([], [(*OBJECT, 0)], [0, 0, 1]),
        ([(*OBJECT, 0, 0.9)], [], [0, 1, 0]),
        ([(*OBJECT, 1, 0.9)], [(*OBJECT, 0)], [0, 1, 1]),  # another class
        ([(*FAR, 0, 0.9)], [(*OBJECT, 0)], [0, 1, 1]),
        ([(*OBJECT, 0, 0.5)], [(*OBJECT, 0)], [1, 0, 0]),  # the score from which one counts
        ([(*OBJECT, 0, 0.49)], [(*OBJECT, 0)], [0, 0, 1]),
        ([(0.0, 0, 10, 5, 0, 0.9)], [(*OBJECT, 0)], [1, 0, 0]),  # half of it
        ([(0.0, 0, 10, 4.9, 0, 0.9)], [(*OBJECT, 0)], [0, 1, 1]),
        ([(*OBJECT, 0, 0.9), (*OBJECT, 0, 0.8)], [(*OBJECT, 0)], [2 / 3, 1, 0]),  # an object is found once
        ([(*OBJECT, 0, 0.9), (*OBJECT, 0, 0.8)], [(*OBJECT, 0), (0, 0, 10, 9, 0)], [1, 0, 0]),  # the next best is free
        ([(*OBJECT, 0, 0.9)], [(*OBJECT, 0), (*FAR, 1)], [2 / 3, 0, 1]),
    ],
)
def test_what_is_found(found, objects, expected):
    assert figures(found, objects) == pytest.approx(expected)


def test_right_is_an_f1_of_at_least_success_f1():
    truth = mr.pad_boxes([torch.tensor([(*OBJECT, 0), (*FAR, 1)])])
    half = outputs_of([(*OBJECT, 0, 0.9), (20.0, 20, 30, 30, 0, 0.9)])  # one found, one missed, one false: F1 1/2
    assert TASK.fooled(half, truth).tolist() == [False]
    assert mr.Detection(2, success_f1=0.51).fooled(half, truth).tolist() == [True]


def test_answers_and_truth_as_rows():
    outputs = outputs_of([(*OBJECT, 1, 0.9), (*FAR, 0, 0.6), (*FAR, 1, 0.2)], [])
    assert TASK.predict(outputs).tolist() == [[[*OBJECT, 1], [*FAR, 0]], [[0, 0, 0, 0, -1]] * 2]
    answers = TASK.record_answers(outputs)
    assert answers["prediction"] == [[1, 0, 1], []]
    assert answers["scores"][0] == pytest.approx([0.9, 0.6, 0.2])
    many = TASK.record_answers(outputs_of([(*OBJECT, 0, 0.9)] * 101))
    assert [len(many[name][0]) for name in ("prediction", "scores", "boxes")] == [100] * 3
    truth = mr.pad_boxes([torch.tensor([(*OBJECT, 1)]), torch.zeros(0, 5)])
    assert TASK.record_truth(truth, [None] * 2) == {"truth": [[1], []], "truth_boxes": [[list(OBJECT)], []]}


def test_predictions_are_compared_where_either_sees_an_object():
    """At three anchors of two classes: background for both, an object before, an object after; 0.05 is the least."""
    before = torch.tensor([[[0.96, 0.02, 0.02], [0.2, 0.7, 0.1], [0.97, 0.02, 0.01]]]).transpose(1, 2)
    after = torch.tensor([[[0.97, 0.01, 0.02], [0.96, 0.02, 0.02], [0.9, 0.05, 0.05]]]).transpose(1, 2)
    p, q = (DetectorOutputs(Written([[]]), {"probs": probs}, (8, 8)) for probs in (before, after))
    by_anchor = (after * (after / before).log()).sum(1)
    assert TASK.consistency(p, q).tolist() == pytest.approx(by_anchor[:, 1:].mean(1).tolist(), rel=1e-5)
    assert TASK.used_positions(p, torch.zeros(1, 0, 5)).tolist() == [[False, True, False]]
    assert float(position_mean(by_anchor)) != pytest.approx(float(by_anchor[:, 1:].mean()))


@pytest.mark.parametrize(
    ("truth", "message"),
    [
        (torch.zeros(1, 2, 5, dtype=torch.int64), "truth must be float"),
        (torch.zeros(1, 5), "truth must be float"),
        (torch.zeros(1, 2, 4), "truth must be float"),
        ([[0.0] * 5], "truth must be float .* got list"),
        (torch.tensor([[[0.0, 0, float("nan"), 5, 0]]]), "boxes that are not finite"),
        (torch.tensor([[[0.0, 0, 5, 5, 2]]]), "holds class 2; with classes=2 they run from 0 to 1"),
        (torch.tensor([[[0.0, 0, 5, 5, 0.5]]]), "holds class 0.5"),
        (torch.tensor([[[0.0, 0, 5, 5, -2]]]), "holds class -2"),
        (torch.tensor([[[5.0, 0, 5, 5, 0]]]), "box without area"),
        (torch.tensor([[[0.0, 5, 5, 5, 0]]]), "box without area"),
        (torch.tensor([[[6.0, 0, 5, 5, 0]]]), "box without area"),
    ],
)
def test_truth_that_is_none(truth, message):
    with pytest.raises(InputError, match=message):
        TASK.check_truth(truth)


def test_a_truth_of_rows_that_fill_up():
    TASK.check_truth(torch.tensor([[[0.0, 0, 0, 0, -1]]]))
    TASK.check_truth(torch.zeros(2, 0, 5))


@pytest.mark.parametrize("options", [{"score": 0.0}, {"iou": 1.5}, {"success_f1": 0.0}])
def test_options_that_cannot_be(options):
    with pytest.raises(InputError, match=f"{next(iter(options))} must be in"):
        mr.Detection(2, **options)
    with pytest.raises(InputError, match="at least 1 class, got 0"):
        mr.Detection(0)
