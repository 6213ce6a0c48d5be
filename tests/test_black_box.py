"""A model of which the answers alone are seen: the same figures as of the network behind it, and clear errors."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from medrobust.attacks import SMIA, make_attack
from medrobust.black_box import BlackBox
from medrobust.errors import InputError
from medrobust.tasks import Classification, Detection, Segmentation
from medrobust.threat import Threat
from medrobust.transforms import JPEG
from medrobust.transforms.preprocessed import defended
from medrobust.victim import Victim

IMAGES = torch.linspace(0, 1, 5 * 2 * 16).reshape(5, 2, 4, 4)


def network(outputs: int = 3) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(32, 8), nn.BatchNorm1d(8), nn.Linear(8, outputs)).eval()


def test_a_function_answers_as_the_network_behind_it():
    model = network()
    victim = BlackBox(lambda images: model(images), Classification(3))
    assert not victim.differentiable
    outputs = victim(IMAGES.clone().requires_grad_())
    assert torch.equal(outputs, model(IMAGES))
    assert not outputs.requires_grad
    described = victim.describe()
    assert described["black_box"] is True
    assert described["bounds"] == [0.0, 1.0]


def test_what_the_function_is_given():
    seen = []

    def predict(images):
        seen.append(images)
        return np.zeros((len(images), 3))

    victim = BlackBox(predict, Classification(3), (-1024, 3071), mean=[100, 0], std=50, numpy=True, batch_size=2)
    victim(torch.full((5, 2, 4, 4), 200.0, dtype=torch.float64))
    assert [len(part) for part in seen] == [2, 2, 1]
    assert all(part.dtype == np.float32 for part in seen)
    assert seen[0][0, 0, 0, 0] == 2
    assert seen[0][0, 1, 0, 0] == 4
    BlackBox(lambda images: seen.append(images) or torch.zeros(len(images), 3), Classification(3))(IMAGES.half())
    assert isinstance(seen[-1], Tensor)
    assert seen[-1].dtype == torch.float32


def test_a_network_as_a_black_box_runs_in_eval_mode_and_is_left_as_it_was():
    model = network().train()
    victim = BlackBox(model, Classification(3))
    assert torch.equal(victim(IMAGES), Victim(model, Classification(3))(IMAGES))
    assert model.training
    assert victim(IMAGES.double()).dtype == torch.float32
    double = BlackBox(network().double(), Classification(3))
    assert double(IMAGES).dtype == torch.float64


def test_probabilities_become_the_logits_that_they_are_of():
    model = network()
    classes = BlackBox(lambda images: model(images).softmax(1), Classification(3), probabilities=True)
    logits = classes(IMAGES)
    assert torch.allclose(logits.log_softmax(1), model(IMAGES).log_softmax(1), atol=1e-5)
    labels = BlackBox(lambda images: model(images).sigmoid(), Classification(3, multilabel=True), probabilities=True)
    assert torch.allclose(labels(IMAGES), model(IMAGES), atol=1e-5)
    one = network(1)
    yes = BlackBox(lambda images: one(images).sigmoid(), Classification(2), probabilities=True)
    assert torch.allclose(yes(IMAGES), one(IMAGES), atol=1e-5)
    flat = BlackBox(lambda images: one(images).sigmoid().squeeze(1), Classification(2), probabilities=True)
    assert torch.allclose(flat(IMAGES), one(IMAGES).squeeze(1), atol=1e-5)


def test_certain_probabilities_are_finite_logits():
    certain = BlackBox(lambda x: torch.tensor([[0.0, 1.0, 0.0]] * len(x)), Classification(3), probabilities=True)
    assert torch.isfinite(certain(IMAGES)).all()
    assert certain(IMAGES).argmax(1).tolist() == [1] * 5
    yes = BlackBox(lambda x: torch.ones(len(x), 1), Classification(2), probabilities=True)
    assert 10 < float(yes(IMAGES)[0, 0]) < 100
    pixels = BlackBox(lambda x: torch.zeros(len(x), 1, 4, 4), Segmentation(2), probabilities=True)
    assert torch.isfinite(pixels(IMAGES)).all()


@pytest.mark.parametrize(
    ("predict", "options", "words"),
    [
        (lambda x: torch.zeros(3, 3), {}, r"predict gave scores of shape \(3, 3\) for 5 images: one row an image"),
        (lambda x: torch.zeros(()), {}, r"shape \(\) for 5 images"),
        (lambda x: [[0, 1, 2]] * len(x), {}, "predict gave a list: it must return a tensor or a NumPy array"),
        (lambda x: np.array(["a"] * len(x)), {}, "array of <U1: it must hold numbers"),
        (lambda x: torch.full((len(x), 3), torch.nan), {}, "predict gave NaN or infinite scores"),
        (lambda x: np.full((len(x), 3), np.inf), {}, "predict gave NaN or infinite scores"),
        (lambda x: torch.full((len(x), 3), 7.0), {"probabilities": True}, r"in \[0, 1\], got 7 to 7: of logits"),
        (lambda x: torch.zeros(len(x), 4), {}, r"needs model outputs \(B, 3\), got \(5, 4\)"),
    ],
)
def test_answers_that_are_none(predict, options, words):
    victim = BlackBox(predict, Classification(3), **options)
    with pytest.raises(InputError, match=words):
        victim.task.loss(victim(IMAGES), torch.zeros(5, dtype=torch.int64))


def test_what_the_function_raises_is_its_own():
    def predict(images):
        raise ConnectionError("the service is away")

    with pytest.raises(ConnectionError, match="the service is away"):
        BlackBox(predict, Classification(3))(IMAGES)


@pytest.mark.parametrize(
    ("arguments", "options", "words"),
    [
        ((5, Classification(3)), {}, "predict must be a function from images to scores, got int"),
        ((print, Classification(3)), {"batch_size": 0}, "batch_size must be a whole number of at least 1"),
        ((print, Classification(3)), {"numpy": "yes"}, "numpy must be true or false"),
        ((print, Classification(3), (1, 0)), {}, "bounds must be finite and ascending"),
        ((print, Detection(3)), {}, "a black box gives scores, a detector"),
    ],
)
def test_arguments_that_do_not_do(arguments, options, words):
    with pytest.raises(InputError, match=words):
        BlackBox(*arguments, **options)


@pytest.mark.parametrize("attack", [make_attack("pgd"), SMIA(), make_attack("mi")])
def test_a_gradient_attack_says_what_to_use_instead(attack):
    victim = BlackBox(network(), Classification(3))
    for asked in (victim, defended(victim, JPEG())):
        assert not asked.differentiable
        with pytest.raises(InputError, match=r"needs gradients, and a black box gives none: use square, nes or hopsk"):
            attack(asked, IMAGES, torch.zeros(5, dtype=torch.int64), Threat(eps=0.1))


@pytest.mark.parametrize("task", [Classification(3), Classification(3, multilabel=True)])
def test_no_images_have_no_probabilities(task):
    box = BlackBox(lambda images: torch.full((len(images), 3), 1 / 3), task, probabilities=True)
    assert box(torch.zeros(0, 1, 4, 4)).shape == (0, 3)
