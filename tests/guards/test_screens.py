"""What screens say of an image: squeezing beside its formula, and attacks that know a screen."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import softmax
from tiny_detectors import tiny_detector
from torch import Tensor
from victims import CASES, build
from watched import Rim, brightness, flat

import medrobust as mr
from medrobust.errors import InputError
from medrobust.guards import Alarm
from medrobust.guards.evasive import _Weights


def said(screen: mr.Screen, victim: mr.Victim, images: Tensor) -> Tensor:
    with victim.evaluating():
        return screen(victim, images, victim.forward(images))


def test_squeezing_is_the_largest_l1_distance_of_the_probabilities():
    """As in the authors' detector: max over squeezers of np.sum(np.abs(f(x) - f(squeezed x)), axis=1)."""
    victim, images, _ = build(CASES["1 channel"])
    squeezers = (mr.BitDepth(1), mr.MedianFilter(3), mr.Smooth(3, 1.0))
    found = said(mr.Squeezing(squeezers), victim, images).detach()
    with torch.no_grad():
        clean = softmax(victim(images).numpy(), axis=1)
        each = [softmax(victim(squeeze(images, (0.0, 1.0))).numpy(), axis=1) for squeeze in squeezers]
    expected = np.max([np.sum(np.abs(clean - one), axis=1) for one in each], axis=0)
    assert found.numpy() == pytest.approx(expected, abs=1e-6)
    assert len({int(np.argmax(column)) for column in np.array([np.abs(clean - one).sum(1) for one in each]).T}) > 1
    alone = torch.cat([said(mr.Squeezing(squeezers), victim, image[None]) for image in images]).detach()
    torch.testing.assert_close(found, alone)


def test_squeezing_of_masks_is_the_mean_over_pixels():
    victim, images, _ = build(CASES["segmentation"])
    found = said(mr.Squeezing(["median"]), victim, images)
    p, q = (victim(one).softmax(1) for one in (images, mr.MedianFilter()(images, (0.0, 1.0))))
    torch.testing.assert_close(found, (p - q).abs().sum(1).flatten(1).mean(1))


@pytest.mark.parametrize("family", ["retinanet", "faster_rcnn"])
def test_squeezing_of_boxes_compares_the_scores_of_the_same_places(family):
    victim = mr.Victim(tiny_detector(family), mr.Detection(3))
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    leaf = images.clone().requires_grad_()
    found = said(mr.Squeezing(), victim, leaf)
    assert bool((found > 0).all())
    assert bool((found <= 2).all())
    (gradient,) = torch.autograd.grad(found.sum(), leaf)
    assert bool((gradient.flatten(1).abs().sum(1) > 0).all())
    nothing = said(mr.Squeezing([mr.BitDepth(16)]), victim, images).detach()
    assert bool((nothing < 0.1 * found.detach()).all())


@pytest.mark.parametrize("name", [name for name in CASES if "16" not in name])
def test_squeezing_is_differentiable_for_every_kind_of_model(name):
    victim, images, _ = build(CASES[name])
    leaf = images.clone().requires_grad_()
    found = said(mr.Squeezing(), victim, leaf)
    assert found.shape == (len(images),)
    assert bool(((found >= 0) & (found <= 2)).all())
    (gradient,) = torch.autograd.grad(found.sum(), leaf)
    assert bool((gradient.flatten(1).abs().sum(1) > 0).all())


def test_squeezers_that_draw_or_are_none_are_refused():
    with pytest.raises(InputError, match="Noise draws"):
        mr.Squeezing([mr.Noise(0.1)])
    with pytest.raises(InputError, match="at least one squeezer"):
        mr.Squeezing([])
    with pytest.raises(InputError, match="unknown transform 'blur'"):
        mr.Squeezing(["blur"])


ALARM = Alarm(Rim(), threshold=0.47, scale=0.01)


def test_an_attack_that_knows_the_screen_leaves_alone_what_it_watches():
    """At 0.1 the images of 0.45 and 0.42 are fooled through three rows of four, that of 0.38 with the rim alone."""
    victim, (images, truth) = brightness(), flat([0.45, 0.42, 0.38, 0.2])
    threat, pgd = mr.Threat(0.1), mr.PGD(steps=20)
    plain = pgd(victim, images, truth, threat)
    assert plain.success.tolist() == [True, True, False, False]
    assert (Rim()(victim, plain.adversarial, None)[:2] > ALARM.threshold).all()
    attack = mr.Evasive(attack=pgd, alarm=ALARM)
    found = attack(victim, images, truth, threat)
    assert found.success.tolist() == [True, True, False, False]
    assert ((found.adversarial - images).abs() <= 0.1 + 1e-6).all()
    through = found.success
    assert (victim.task.fooled(victim(found.adversarial), truth)[through]).all()
    assert (Rim()(victim, found.adversarial, None)[through] <= ALARM.threshold).all()
    assert attack.describe()["attack"] == "PGD that knows the screen"
    alone = attack(victim, images[1:2], truth[1:2], threat, ids=[1])
    torch.testing.assert_close(found.adversarial[1:2], alone.adversarial)


def test_where_the_weight_is_too_large_it_shrinks_and_where_too_small_it_grows():
    victim, (images, truth) = brightness(), flat([0.45])
    for weight in (1e-4, 1e4):
        one, many = (
            mr.Evasive(attack=mr.PGD(steps=20), alarm=ALARM, rounds=rounds, weight=weight)(
                victim, images, truth, mr.Threat(0.1)
            )
            for rounds in (1, 8)
        )
        assert not (weight < 1 and bool(one.success))
        assert bool(many.success)
    weights = _Weights(1.0, images)
    rows = torch.tensor([0])
    seen = []
    for too_small in (True, True, False, True, False):
        weights.learn(rows, torch.tensor([too_small]))
        seen.append(round(float(weights.now), 3))
    # 1 → 10 → 100, between 10 and 100, above 31.6, below 56.2
    assert seen == [10.0, 100.0, 31.623, 56.234, 42.17]
    weights = _Weights(1.0, images)
    weights.learn(rows, torch.tensor([False]))
    assert float(weights.now) == pytest.approx(0.1)


def test_an_image_that_no_weight_brings_through_is_no_success_but_fools():
    """The rim is all that the model looks at: wrong or unnoticed, not both."""
    victim = brightness(rows=1)
    images, truth = flat([0.45])
    found = mr.Evasive(attack=mr.PGD(steps=20), alarm=ALARM)(victim, images, truth, mr.Threat(0.1))
    assert not bool(found.success)
    assert bool(victim.task.fooled(found.outputs, truth))
    assert int(found.steps_used) == 6 * 20


@pytest.mark.parametrize(
    "attack", [mr.SMIA(steps=3), mr.APGD(steps=5), mr.MIFGSM(steps=3)], ids=lambda one: type(one).__name__
)
@pytest.mark.parametrize("name", ["3-D", "one logit", "HU", "segmentation", "multi-label unknown"])
def test_any_attack_in_the_loop_can_be_told_on_any_task(name, attack):
    case = CASES[name]
    victim, images, truth = build(case)
    screen = mr.Squeezing()
    with torch.no_grad():
        threshold = float(said(screen, victim, images).median())
    told = mr.Evasive(attack=attack, alarm=Alarm(screen, threshold, 0.1), rounds=2)
    found = told(victim, images, truth, mr.Threat(case.eps))
    with torch.no_grad():
        quiet = said(screen, victim, found.adversarial) <= threshold + 1e-6
    assert bool(quiet[found.success].all())
    assert bool(victim.task.fooled(victim(found.adversarial), truth)[found.success].all())


def test_what_cannot_be_told_of_a_screen():
    with pytest.raises(InputError, match="only untargeted attacks in the loop"):
        mr.Evasive(attack=mr.Square(), alarm=ALARM)
    with pytest.raises(InputError, match="only untargeted attacks in the loop"):
        mr.Evasive(attack=mr.PGD(targeted=True), alarm=ALARM)
    with pytest.raises(InputError, match="by the gradient"):
        mr.Evasive(attack=mr.PGD(estimate="nes"), alarm=ALARM)
    images, truth = flat([0.2])
    with pytest.raises(InputError, match="SegPGD needs an answer"):
        mr.Evasive(attack=mr.SegPGD(), alarm=ALARM)(brightness(), images, truth, mr.Threat(0.1))
