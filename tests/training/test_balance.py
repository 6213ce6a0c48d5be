"""Rare classes: by hand-worked weights, and in what is learned."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from learning import Bars, course, network, victim_of
from torch import Tensor

import medrobust as mr
from medrobust.data import DatasetInfo, InMemoryDataset, Sample
from medrobust.errors import InputError
from medrobust.training import MART, Control, Engine, Step, Trainee, make_method
from medrobust.training.balance import class_weights, drawing_chances, weights_at

METHODS = ["control", "pgd-at", "smia-at", "trades", "mart", "fgsm-rs", "free", "smoothing"]


def labelled(truths, task="classification", classes=("a", "b", "c")) -> InMemoryDataset:
    info = DatasetInfo("few", task, classes, channels=1)
    return InMemoryDataset(info, [Sample(str(k), torch.zeros(1, 2, 2), truth) for k, truth in enumerate(truths)])


def test_weights_by_hand():
    """Six images: three of a, two of b, one of c. n / (K · n_k) is 6/9, 6/6, 6/3; over the images their mean is 1."""
    data = labelled([torch.tensor(k) for k in (0, 1, 0, 2, 1, 0)])
    task = mr.Classification(3)
    torch.testing.assert_close(class_weights(task, data), torch.tensor([2 / 3, 1.0, 2.0]))
    chances = drawing_chances(task, data)
    torch.testing.assert_close(chances, torch.tensor([1 / 9, 1 / 6, 1 / 9, 1 / 3, 1 / 6, 1 / 9], dtype=torch.double))
    assert chances[[0, 2, 5]].sum() == pytest.approx(1 / 3)  # every class a third


def test_a_class_that_does_not_occur_is_not_counted():
    """Four images of a and c of three classes: 4/(2 · 1) and 4/(2 · 3)."""
    data = labelled([torch.tensor(k) for k in (0, 2, 2, 2)])
    torch.testing.assert_close(class_weights(mr.Classification(3), data), torch.tensor([2.0, 1.0, 2 / 3]))
    chances = drawing_chances(mr.Classification(3, ordinal=True), data)
    torch.testing.assert_close(chances, torch.tensor([1 / 2, 1 / 6, 1 / 6, 1 / 6], dtype=torch.double))


def test_weights_of_pixels_leave_out_what_is_ignored():
    """Seven known pixels, six background and one lesion: 7/12 and 7/2."""
    masks = [torch.tensor([[0, 0], [9, 0]]), torch.tensor([[0, 1], [0, 0]])]
    data = labelled(masks, "segmentation", ("background", "lesion"))
    task = mr.Segmentation(2, ignore_index=9)
    weights = class_weights(task, data)
    torch.testing.assert_close(weights, torch.tensor([7 / 12, 7 / 2]))
    at = weights_at(weights, masks[1][None])
    torch.testing.assert_close(at, torch.tensor([[[7 / 12, 7 / 2], [7 / 12, 7 / 12]]]))


@pytest.mark.parametrize(
    ("task", "balance", "told"),
    [
        (mr.Segmentation(2), "sampling", "balance 'sampling' is for one class an image, not segmentation: take 'loss'"),
        (mr.Classification(3, multilabel=True), "sampling", "is for one class an image, not multilabel"),
        (mr.Classification(3, multilabel=True), "loss", "is for one class an image or pixel, not multilabel"),
        (mr.Segmentation(2, multilabel=True), "loss", "is for one class an image or pixel, not segmentation"),
        (mr.Detection(2), "loss", "is for one class an image or pixel, not detection"),
        (mr.Detection(2), "sampling", "is for one class an image, not detection"),
    ],
)
def test_what_has_no_class_to_balance_is_told(task, balance, told):
    function = {"sampling": drawing_chances, "loss": class_weights}[balance]
    with pytest.raises(InputError, match=told):
        function(task, labelled([torch.tensor(0)]))


def stepped(masks: bool, weights: Tensor | None) -> Step:
    victim = victim_of(network(masks=masks, norm=False, dropout=0.0), masks=masks)
    images, truth, ids = mr.stack([Bars(masks=masks)[place] for place in range(6)])
    raw = Trainee(victim, "batch")
    return Step(raw, raw, victim, images, truth, ids, mr.Threat(eps=16 / 255), 0, weights)


@pytest.mark.parametrize("masks", [False, True])
def test_the_weighted_loss_is_pytorchs_weighted_sum(masks):
    weights = torch.tensor([0.4, 3.0])
    step = stepped(masks, weights)
    outputs = step.outputs(step.images)
    expected = F.cross_entropy(outputs, step.truth, weight=weights, reduction="none").mean()
    torch.testing.assert_close(step.loss(outputs), expected)
    torch.testing.assert_close(Control().loss(step, step.images), expected)


def test_ordinal_grades_are_weighted_by_the_grade():
    """Cumulative logits: the mean over both questions, times the weight of the grade."""
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 2))
    victim = mr.Victim(model, mr.Classification(3, ordinal=True))
    images, truth = torch.rand(3, 1, 8, 8), torch.tensor([0, 1, 2])
    weights = torch.tensor([1.0, 2.0, 5.0])
    raw = Trainee(victim, "batch")
    step = Step(raw, raw, victim, images, truth, "abc", mr.Threat(eps=0.1), 0, weights)
    outputs = step.outputs(images)
    above = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0]])
    expected = (F.binary_cross_entropy_with_logits(outputs, above, reduction="none").mean(1) * weights).mean()
    torch.testing.assert_close(step.loss(outputs), expected)


@pytest.mark.parametrize("masks", [False, True])
@pytest.mark.parametrize("name", METHODS)
def test_equal_weights_change_nothing_and_attacks_know_of_none(name, masks):
    plain, even, uneven = (stepped(masks, weights) for weights in (None, torch.ones(2), torch.tensor([0.1, 10.0])))
    method = make_method(name)
    images = [method.images(step) for step in (plain, even, uneven)]
    assert torch.equal(images[0], images[1])
    assert torch.equal(images[0], images[2])
    losses = [method.loss(step, images[0]) for step in (plain, even, uneven)]
    torch.testing.assert_close(losses[0], losses[1])
    assert not torch.isclose(losses[0], losses[2], rtol=1e-2)


def test_mart_weighs_both_of_its_terms():
    """With a weight of 0 for one class, it is the loss of the images of the other alone."""
    step = stepped(False, torch.tensor([0.0, 1.0]))
    images = step.images + 0.01
    some = step.truth == 1
    assert 0 < int(some.sum()) < 6
    part = Step(step.raw, step.raw, step.victim, step.images[some], step.truth[some], "x", step.threat, 0)
    whole = MART().loss(step, images)
    torch.testing.assert_close(whole * 6 / some.sum(), MART().loss(part, images[some]))


class Rare(Bars):
    """Bars of which one in sixteen points up; much noise hides them."""

    def __init__(self, count: int, seed: int, every: int) -> None:
        super().__init__(count, seed)
        self.grades = (torch.arange(count) % every == 0).long()
        noise = torch.randn(count, 1, 8, 8, generator=torch.Generator().manual_seed(seed))
        signs = (2 * self.grades - 1)[:, None, None, None]
        self.images = (0.5 + 0.25 * noise + 0.04 * signs).clamp(0, 1)


@pytest.mark.parametrize("balance", ["sampling", "loss"])
def test_a_rare_class_is_found_more_often(balance):
    """Recall of the rare class on new images, against a training that is not balanced."""
    fresh = Rare(128, 1, every=2)
    recalled = {}
    for one in ("none", balance):
        how = {"epochs": 3, "batch_size": 32, "learning_rate": 3e-3, "normalisation": "frozen"}
        made = course(Control(), victim_of(network(norm=False, dropout=0.0)), balance=one, **how)
        object.__setattr__(made, "training", Rare(512, 0, every=16))
        object.__setattr__(made, "validation", Rare(16, 2, every=2))
        Engine(made).run()
        rare = fresh.grades == 1
        recalled[one] = float((made.victim(fresh.images).argmax(1)[rare] == 1).double().mean())
    assert recalled[balance] > recalled["none"] + 0.2
