"""The loss of each method, against its formula written out by hand."""

from __future__ import annotations

import json
import re

import pytest
import torch
import torch.nn.functional as F
from learning import Bars, network, victim_of
from torch import Tensor

import medrobust as mr
from medrobust.errors import InputError
from medrobust.training import (
    MART,
    METHODS,
    TRADES,
    AdversarialTraining,
    Control,
    Departure,
    EnsembleTraining,
    FastTraining,
    FreeTraining,
    GaussianTraining,
    SMIATraining,
    Smoothing,
    Step,
    Trainee,
    make_method,
)
from medrobust.transforms import GaussianSmoothing

EPS = 16 / 255
NEEDED = {"gaussian": {"sigma": 0.1}}  # options without a default


def step_on(victim: mr.Victim, data: Bars, normalisation: str = "batch", seed: int = 0) -> Step:
    images, truth, ids = mr.stack([data[place] for place in range(6)])
    raw = Trainee(victim, normalisation)
    return Step(raw, raw, victim, images, truth, ids, mr.Threat(eps=EPS), seed)


@pytest.fixture(params=[False, True], ids=["classes", "masks"])
def step(request) -> Step:
    masks = request.param
    return step_on(victim_of(network(masks=masks, norm=False, dropout=0.0), masks=masks), Bars(masks=masks))


def logits(step: Step, images: Tensor) -> Tensor:
    """With every position a row."""
    return step.victim.model((images - 0.5) / 0.25).movedim(1, -1).reshape(-1, 2)


def moved(step: Step) -> Tensor:
    return (step.images + EPS * torch.sin(torch.arange(step.images.numel()).reshape(step.images.shape))).clamp(0, 1)


def test_control_is_the_cross_entropy(step):
    assert Control().images(step) is step.images
    expected = F.cross_entropy(logits(step, step.images), step.truth.flatten())
    torch.testing.assert_close(Control().loss(step, step.images), expected)


def test_adversarial_training_is_the_cross_entropy_of_attacked_images(step):
    attack = mr.PGD(steps=3)
    method = AdversarialTraining(attack=attack)
    attacked = method.images(step)
    made = attack(step.victim, step.images, step.truth, step.threat, seed=step.seed, ids=step.ids).adversarial
    assert torch.equal(attacked, made)
    hard, easy = (F.cross_entropy(logits(step, images), step.truth.flatten()) for images in (attacked, step.images))
    assert hard > easy
    torch.testing.assert_close(method.loss(step, attacked), hard)
    half = AdversarialTraining(attack=attack, clean=0.25)
    torch.testing.assert_close(half.loss(step, attacked), 0.75 * hard + 0.25 * easy)


def test_gaussian_training_is_the_cross_entropy_under_noise_that_is_not_cut(step):
    method = GaussianTraining(sigma=0.5)
    noisy = method.images(step)
    noise = (noisy - step.images) / 0.5
    assert noise.std().item() == pytest.approx(1, abs=0.15)  # 6 × 64 draws
    assert noise.mean().item() == pytest.approx(0, abs=0.15)
    assert noisy.min() < -0.2
    assert noisy.max() > 1.2
    torch.testing.assert_close(method.loss(step, noisy), F.cross_entropy(logits(step, noisy), step.truth.flatten()))
    assert torch.equal(method.images(step), noisy)
    other = method.images(step_with(step, 1))
    assert (other - noisy).abs().min(dim=0).values.max() > 0.1  # a fresh draw in another epoch
    assert (noise[0] - noise[1]).abs().max() > 0.5  # and for every image


@pytest.mark.parametrize("beta", [0.0, 0.7])
def test_smia_training_holds_the_answer_to_the_smoothed_image(step, beta):
    images = moved(step)
    answers, smoothed = logits(step, images), logits(step, GaussianSmoothing()(images))
    kl = F.kl_div(answers.log_softmax(1), smoothed.softmax(1), reduction="none").sum(1).mean()
    expected = F.cross_entropy(answers, step.truth.flatten()) + beta * kl
    torch.testing.assert_close(SMIATraining(beta=beta).loss(step, images), expected)
    clean = logits(step, step.images)
    kl = F.kl_div(clean.log_softmax(1), logits(step, GaussianSmoothing()(step.images)).softmax(1), reduction="none")
    expected = F.cross_entropy(clean, step.truth.flatten()) + beta * kl.sum(1).mean()
    torch.testing.assert_close(Smoothing(beta=beta).loss(step, step.images), expected)


def test_trades_is_that_of_its_authors(step):
    """Their `trades_loss`: nn.KLDivLoss, summed over classes, mean over the batch."""
    images = moved(step)
    natural, attacked = logits(step, step.images), logits(step, images)
    robust = torch.nn.KLDivLoss(reduction="sum")(F.log_softmax(attacked, 1), F.softmax(natural, 1)) / len(natural)
    expected = F.cross_entropy(natural, step.truth.flatten()) + 6.0 * robust
    torch.testing.assert_close(TRADES().loss(step, images), expected)


def test_the_gradient_of_trades_flows_through_both_answers(step):
    weight = next(step.victim.model.parameters())
    images = moved(step)
    (found,) = torch.autograd.grad(TRADES(beta=2.0).loss(step, images), weight)
    natural, attacked = logits(step, step.images), logits(step, images)
    kl = F.kl_div(attacked.log_softmax(1), natural.softmax(1), reduction="none").sum(1).mean()
    (expected,) = torch.autograd.grad(F.cross_entropy(natural, step.truth.flatten()) + 2.0 * kl, weight)
    torch.testing.assert_close(found, expected)


def test_mart_is_that_of_its_authors(step):
    """Their `mart_loss`, with the small numbers that they add."""
    images, truth = moved(step), step.truth.flatten()
    natural, attacked = logits(step, step.images), logits(step, images)
    probabilities = F.softmax(attacked, 1)
    second = torch.argsort(probabilities, 1)[:, -2:]
    other = torch.where(second[:, -1] == truth, second[:, -2], second[:, -1])
    boosted = F.cross_entropy(attacked, truth) + F.nll_loss(torch.log(1.0001 - probabilities + 1e-12), other)
    clean = F.softmax(natural, 1)
    true = clean.gather(1, truth[:, None]).squeeze(1)
    kl = F.kl_div(torch.log(probabilities + 1e-12), clean, reduction="none").sum(1)
    expected = boosted + 5.0 * (kl * (1.0000001 - true)).mean()
    torch.testing.assert_close(MART().loss(step, images), expected, rtol=1e-4, atol=1e-5)


def test_what_trades_attacks_is_the_distance_from_the_clean_answer(step):
    """Written out: one step from a fixed random start, along the sign of the gradient of the divergence."""
    attack = mr.PGD(steps=1, step_size=0.01, loss=Departure())
    made = attack(step.victim, step.images, step.truth, step.threat, seed=3, ids=step.ids).adversarial
    start = step.threat.space(step.images, (0.0, 1.0)).random_start(mr.threat.sample_generators(3, step.ids, "start 0"))
    start = start.detach().requires_grad_()
    kl = F.kl_div(logits(step, start).log_softmax(1), logits(step, step.images).softmax(1), reduction="none").sum()
    (gradient,) = torch.autograd.grad(kl, start)
    low, high = (step.images - EPS).clamp(0, 1), (step.images + EPS).clamp(0, 1)
    expected = (start + 0.01 * gradient.sign()).clamp(low, high)
    torch.testing.assert_close(made, expected.detach())


def test_fast_training_takes_one_step_of_one_and_a_quarter_eps(step):
    method = FastTraining()
    assert method.single_step
    attacked = method.images(step)
    start = step.threat.space(step.images, (0.0, 1.0)).random_start(mr.threat.sample_generators(0, step.ids, "start 0"))
    start = start.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(F.cross_entropy(logits(step, start), step.truth.flatten()), start)
    low, high = (step.images - EPS).clamp(0, 1), (step.images + EPS).clamp(0, 1)
    expected = (start + 1.25 * EPS * gradient.sign()).clamp(low, high)
    torch.testing.assert_close(attacked, expected.detach())


def test_free_training_moves_the_images_along_the_gradient_of_its_own_loss(step):
    method = FreeTraining(replays=3)
    attacked = method.images(step)
    assert (attacked - step.images).abs().max() <= EPS + 1e-6
    method.loss(step, attacked).backward()
    expected = attacked.detach() + EPS * attacked.grad.sign()
    low, high = (step.images - EPS).clamp(0, 1), (step.images + EPS).clamp(0, 1)
    again = method.again(step, attacked)
    torch.testing.assert_close(again.detach(), expected.clamp(low, high))
    assert again.requires_grad
    assert again.grad is None


def test_ensemble_training_attacks_each_model_in_turn(step):
    masks = step.task.dense
    other = victim_of(network(masks=masks, norm=False), masks=masks)
    with torch.no_grad():
        for weight in other.model.parameters():
            weight.neg_()
    method = EnsembleTraining(others=[other], attack=mr.FGSM())
    made = {
        name: mr.FGSM()(victim, step.images, step.truth, step.threat, seed=seed, ids=step.ids).adversarial
        for seed in range(1)
        for name, victim in (("own", step.victim), ("other", other))
    }
    assert not torch.equal(made["own"], made["other"])
    names = []
    for seed in range(20):
        attacked = method.images(step_with(step, seed))
        (name,) = [name for name, images in made.items() if torch.equal(images, attacked)]
        names.append(name)
    assert 4 <= names.count("own") <= 16
    hard, easy = (F.cross_entropy(logits(step, images), step.truth.flatten()) for images in (attacked, step.images))
    torch.testing.assert_close(method.loss(step, attacked), (hard + easy) / 2)


def step_with(step: Step, seed: int) -> Step:
    return Step(step.trainee, step.raw, step.victim, step.images, step.truth, step.ids, step.threat, seed)


@pytest.mark.parametrize("name", [name for name in METHODS if name != "ensemble"])
def test_every_method_leaves_unknown_pixels_out(name):
    """An ignored pixel's value in the truth changes nothing, nor does what the model says there."""
    model = network(masks=True, norm=False)
    victim = mr.Victim(model, mr.Segmentation(2, ignore_index=9), mean=0.5, std=0.25)
    step = step_on(victim, Bars(masks=True))
    unknown = step.truth.clone()
    unknown[:, :2] = 9
    blind = Step(step.raw, step.raw, victim, step.images, unknown, step.ids, step.threat, 0)
    method = make_method(name, **NEEDED.get(name, {}))
    images = moved(step)

    def flipped(inputs: Tensor) -> Tensor:
        outputs = Trainee(victim, "batch")(inputs)
        return torch.cat([outputs[:, :, :2].flip(1) * 3, outputs[:, :, 2:]], 2)

    other = Step(flipped, step.raw, victim, step.images, unknown, step.ids, step.threat, 0)
    torch.testing.assert_close(method.loss(blind, images), method.loss(other, images))


@pytest.mark.parametrize(
    ("name", "options", "told"),
    [
        ("pgd", {}, "unknown method 'pgd'"),
        ("trades", {"beta": -1}, "method trades: beta must be a finite number"),
        ("pgd-at", {"clean": 1.0}, "clean must be in [0, 1), got 1"),
        ("free", {"replays": 1}, "replays must be a whole number of at least 2"),
        ("ensemble", {}, "method ensemble needs its option others"),
        ("ensemble", {"others": []}, "give surrogates"),
        ("control", {"beta": 1}, "takes no options"),
        ("gaussian", {}, "method gaussian needs its option sigma"),
        ("gaussian", {"sigma": 0}, "sigma must be a finite number above 0"),
    ],
)
def test_wrong_methods_are_told(name, options, told):
    with pytest.raises(InputError, match=re.escape(told)):
        make_method(name, **options)


@pytest.mark.parametrize("name", METHODS)
def test_methods_describe_themselves(name):
    needed = {"others": [victim_of(network())]} if name == "ensemble" else NEEDED.get(name, {})
    told = make_method(name, **needed).describe()
    assert told["method"] == METHODS[name].make.__name__
    assert json.dumps(told)
