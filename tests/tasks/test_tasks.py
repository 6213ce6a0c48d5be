"""Tasks against hand-worked values, torch's own losses and torchmetrics."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torchmetrics.functional.segmentation import mean_iou

from medrobust.errors import InputError
from medrobust.tasks import Classification, Segmentation, kl_divergence, position_mean


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def test_softmax_loss_is_torch_cross_entropy():
    outputs, truth = torch.randn(6, 4), torch.randint(0, 4, (6,))
    expected = F.cross_entropy(outputs, truth, reduction="none")
    assert torch.allclose(Classification(4).loss(outputs, truth), expected)


@pytest.mark.parametrize("shape", [(6,), (6, 1)])
def test_one_logit_is_binary_cross_entropy(shape):
    outputs, truth = torch.randn(shape), torch.randint(0, 2, (6,))
    task = Classification(2)
    expected = F.binary_cross_entropy_with_logits(outputs.reshape(6), truth.float(), reduction="none")
    assert torch.allclose(task.loss(outputs, truth), expected)
    assert task.predict(outputs).tolist() == (outputs.reshape(6) > 0).long().tolist()
    assert torch.allclose(task.scores(outputs)[:, 1], outputs.reshape(6).sigmoid())


def test_one_logit_equals_two_logits():
    logit, truth = torch.randn(6, 1), torch.randint(0, 2, (6,))
    two = torch.cat([torch.zeros_like(logit), logit], 1)
    task = Classification(2)
    assert torch.allclose(task.loss(logit, truth), task.loss(two, truth), atol=1e-6)
    moved = logit + 1
    pair = torch.cat([torch.zeros_like(moved), moved], 1)
    for divergence in ("kl", "ce", "hard", "mse"):
        a, b = task.consistency(logit, moved, divergence), task.consistency(two, pair, divergence)
        assert torch.allclose(a, b, atol=1e-6)


def test_multilabel_is_mean_binary_cross_entropy_over_known_labels():
    outputs = torch.randn(3, 4)
    truth = torch.tensor([[1, 0, -1, 1], [0, 0, 0, 0], [-1, -1, -1, -1]])
    task = Classification(4, multilabel=True, ignore_index=-1)
    each = F.binary_cross_entropy_with_logits(outputs, truth.clamp_min(0).float(), reduction="none")
    loss = task.loss(outputs, truth)
    assert loss[0] == pytest.approx(float(each[0, [0, 1, 3]].mean()), rel=1e-6)
    assert loss[1] == pytest.approx(float(each[1].mean()), rel=1e-6)
    assert loss[2] == 0
    # right when all known labels are; nothing known cannot be wrong
    right = torch.where(truth == 1, 1.0, -1.0)
    assert task.fooled(right, truth).tolist() == [False, False, False]
    right[0, 2] *= -1
    assert not task.fooled(right, truth)[0]
    right[0, 0] *= -1
    assert task.fooled(right, truth)[0]


def test_cumulative_ordinal_head_by_hand():
    """Logits of "above 0", "above 1": .8 and .3 as probabilities; grades 0.2, 0.5, 0.3."""
    logit = lambda p: math.log(p / (1 - p))  # noqa: E731
    outputs = torch.tensor([[logit(0.8), logit(0.3)]])
    task = Classification(3, ordinal=True)
    assert task.scores(outputs)[0].tolist() == pytest.approx([0.2, 0.5, 0.3], abs=1e-6)
    assert task.predict(outputs).tolist() == [1]
    # truth 1 is above 0 and not above 1
    expected = -(math.log(0.8) + math.log(0.7)) / 2
    assert float(task.loss(outputs, torch.tensor([1]))) == pytest.approx(expected, rel=1e-6)


def test_cumulative_scores_of_a_head_that_is_not_monotone_are_probabilities():
    scores = Classification(4, ordinal=True).scores(torch.tensor([[-2.0, 3.0, 1.0]]))
    assert float(scores.min()) >= 0
    assert float(scores.sum()) == pytest.approx(1)


def test_divergences_by_hand():
    """p = (.5, .5), q = (.8, .2)."""
    outputs, target = torch.zeros(1, 2), torch.tensor([[math.log(4.0), 0.0]])
    task = Classification(2)
    expected = {
        "kl": 0.8 * math.log(0.8 / 0.5) + 0.2 * math.log(0.2 / 0.5),
        "ce": math.log(2),
        "hard": math.log(2),
        "mse": 0.3**2 + 0.3**2,
    }
    for divergence, value in expected.items():
        assert float(task.consistency(outputs, target, divergence)) == pytest.approx(value, rel=1e-6)


def test_kl_agrees_with_torch_and_survives_zero_probability():
    log_p, log_q = torch.randn(5, 4, 3).log_softmax(1), torch.randn(5, 4, 3).log_softmax(1)
    expected = F.kl_div(log_q, log_p, log_target=True, reduction="none").sum(1)
    assert torch.allclose(kl_divergence(log_p, log_q), expected, atol=1e-6)
    certain = torch.tensor([[0.0, -torch.inf]])
    assert kl_divergence(certain, certain).tolist() == [0.0]
    assert kl_divergence(certain, torch.tensor([[math.log(0.5), math.log(0.5)]])).tolist() == pytest.approx(
        [math.log(2)]
    )


def test_position_mean():
    values = torch.tensor([[1.0, 3.0], [5.0, torch.inf]])
    assert position_mean(values[:1]).tolist() == [2.0]
    used = torch.tensor([[True, True], [True, False]])
    assert position_mean(values, used).tolist() == [2.0, 5.0]
    assert position_mean(values, torch.zeros(2, 2, dtype=torch.bool)).tolist() == [0.0, 0.0]
    assert position_mean(torch.tensor([1.0, 2.0])).tolist() == [1.0, 2.0]


@pytest.mark.parametrize("spatial", [(5, 6), (3, 4, 5)])
def test_dense_loss_is_the_mean_over_pixels(spatial):
    outputs, truth = torch.randn(2, 3, *spatial), torch.randint(0, 3, (2, *spatial))
    truth[0, 0] = 255
    task = Segmentation(3, ignore_index=255)
    each = F.cross_entropy(outputs, truth, ignore_index=255, reduction="none")
    expected = torch.stack([each[k][truth[k] != 255].mean() for k in range(2)])
    assert torch.allclose(task.loss(outputs, truth), expected, rtol=1e-5)


def test_an_image_without_a_used_pixel():
    task = Segmentation(2, ignore_index=9)
    outputs = torch.randn(1, 2, 3, 3, requires_grad=True)
    truth = torch.full((1, 3, 3), 9)
    loss = task.loss(outputs, truth)
    assert loss.tolist() == [0.0]
    (gradient,) = torch.autograd.grad(loss.sum(), outputs)
    assert torch.equal(gradient, torch.zeros_like(gradient))
    assert task.image_metrics(outputs.detach(), truth)["dice"].tolist() == [1.0]


def test_dice_and_iou_by_hand():
    """Class 1: 2 of 3 pixels found, 1 too many; class 2: in the truth, missed; class 3: in neither."""
    truth = torch.tensor([[[1, 1, 1, 0], [2, 0, 0, 0]]])
    answer = torch.tensor([[[1, 1, 0, 1], [0, 0, 0, 0]]])
    outputs = F.one_hot(answer, 4).movedim(-1, 1).float()
    metrics = Segmentation(4).image_metrics(outputs, truth)
    assert metrics["dice_by_class"][0].tolist() == pytest.approx([2 / 3, 0.0, math.nan], nan_ok=True)
    assert metrics["iou_by_class"][0].tolist() == pytest.approx([2 / 4, 0.0, math.nan], nan_ok=True)
    assert float(metrics["dice"]) == pytest.approx(1 / 3)
    assert float(metrics["iou"]) == pytest.approx(1 / 4)


def test_iou_agrees_with_torchmetrics():
    outputs, truth = torch.randn(4, 3, 12, 12), torch.randint(0, 3, (4, 12, 12))
    answer = outputs.argmax(1)
    expected = mean_iou(answer, truth, num_classes=3, include_background=False, per_class=True, input_format="index")
    assert torch.allclose(Segmentation(3).image_metrics(outputs, truth)["iou_by_class"], expected, atol=1e-6)


def test_ignored_pixels_do_not_count_in_dice():
    truth, answer = torch.tensor([[[1, 1, 255, 255]]]), torch.tensor([[[1, 1, 1, 0]]])
    outputs = F.one_hot(answer, 2).movedim(-1, 1).float()
    assert Segmentation(2, ignore_index=255).image_metrics(outputs, truth)["dice"].tolist() == [1.0]


def test_multilabel_segmentation_counts_every_mask_by_itself():
    truth = torch.tensor([[[[1, 1], [0, 0]], [[1, 0], [0, 0]]]])
    outputs = torch.where(truth == 1, 3.0, -3.0)
    outputs[0, 1, 0, 0] = -3.0  # the second mask is missed
    task = Segmentation(2, multilabel=True)
    assert task.image_metrics(outputs, truth)["dice_by_class"][0].tolist() == [1.0, 0.0]
    assert task.predict(outputs).shape == truth.shape


def test_fooled_by_the_dice_threshold():
    truth = torch.tensor([[[1, 1, 1, 1]]])
    outputs = F.one_hot(torch.tensor([[[1, 0, 0, 0]]]), 2).movedim(-1, 1).float()  # Dice 2/5
    assert Segmentation(2).fooled(outputs, truth).tolist() == [True]
    assert Segmentation(2, success_dice=0.4).fooled(outputs, truth).tolist() == [False]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Classification(1), "at least 2 classes"),
        (lambda: Classification(0, multilabel=True), "at least 1 label"),
        (lambda: Classification(3, multilabel=True, ordinal=True), "not both"),
        (lambda: Classification(3, ignore_index=-1), "multi-label"),
        (lambda: Segmentation(1), "at least 2 classes"),
        (lambda: Segmentation(2, success_dice=0), "success_dice"),
        (lambda: Classification(3).loss(torch.zeros(2, 4), torch.zeros(2).long()), r"\(B, 3\), got \(2, 4\)"),
        (lambda: Classification(3).loss(torch.zeros(2, 2), torch.zeros(2).long()), r"\(B, 3\)"),
        (lambda: Classification(3).loss(torch.zeros(2, 3), torch.zeros(3).long()), r"truth of shape \(2,\)"),
        (lambda: Classification(3).check_truth(torch.tensor([0, 3])), "label 3; with classes=3"),
        (lambda: Classification(3).check_truth(torch.tensor([0.0])), "integers"),
        (lambda: Classification(3, multilabel=True).check_truth(torch.tensor([[0, 2, 0]])), "label 2"),
        (lambda: Segmentation(2).check_truth(torch.tensor([[[-1]]])), "label -1"),
        (
            lambda: Segmentation(3).loss(torch.zeros(1, 2, 4, 4), torch.zeros(1, 4, 4).long()),
            r"\(B, 3, \*spatial\)",
        ),
        (
            lambda: Segmentation(2).loss(torch.zeros(1, 2, 4, 4), torch.zeros(1, 5, 4).long()),
            r"truth of shape",
        ),
    ],
)
def test_what_does_not_fit_is_told(make, message):
    with pytest.raises(InputError, match=message):
        make()
