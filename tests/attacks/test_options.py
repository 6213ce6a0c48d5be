"""Options of attacks: what is refused, and the catalogue."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import medrobust as mr
from medrobust.attacks import ATTACKS, make_attack
from medrobust.errors import InputError


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps must be a whole number of at least 1, got 0"),
        ({"steps": 2.5}, "steps must be a whole number"),
        ({"steps": True}, "steps must be a whole number"),
        ({"restarts": 0}, "restarts"),
        ({"step_size": 0}, "step_size must be a finite number above 0"),
        ({"step_size": float("inf")}, "step_size"),
        ({"step_size": "big"}, "step_size"),
        ({"keep": "first"}, "keep must be one of last, best, got 'first'"),
        ({"momentum": -1}, "momentum must be a finite number, at least 0"),
        ({"a1": -1}, "a1"),
        ({"a2": float("nan")}, "a2"),
        ({"kernel_size": 4}, "kernel_size must be odd"),
        ({"kernel_size": "3"}, "kernel_size must be a whole number"),
        ({"kernel_size": 2.5}, "kernel_size must be a whole number"),
        ({"sigma": 1e-200}, "sigma must be at least 0.01"),
        ({"through_target": "no"}, "through_target must be true or false, got 'no'"),
        ({"targeted": "no"}, "targeted must be true or false"),
        ({"random_start": 1}, "random_start must be true or false"),
        ({"sigma": -1}, "sigma"),
        ({"smooth": "output"}, "smooth must be one of input, perturbation"),
        ({"divergence": "js"}, "divergence must be one of kl, ce, hard, mse"),
        ({"variant": "mine"}, "variant must be one of paper, released"),
        ({"stabilize": "never"}, "stabilize must be one of always, once_fooled"),
    ],
)
def test_refused_with_the_name_of_the_attack(options, message):
    with pytest.raises(InputError, match=message) as caught:
        make_attack("smia", options)
    assert str(caught.value).startswith("attack smia: ")


def test_step_sizes_when_none_is_given():
    eps = 8 / 255
    assert mr.FGSM().default_step_size(eps) == eps
    assert mr.BIM().default_step_size(eps) == pytest.approx(2 / 255)
    assert mr.BIM(steps=40).default_step_size(eps) == pytest.approx(2 / 255)
    assert mr.MIFGSM().default_step_size(eps) == pytest.approx(0.8 / 255)
    assert mr.PGD().default_step_size(eps) == mr.SMIA().default_step_size(eps) == pytest.approx(2 / 255)
    assert mr.SMIA(steps=40).default_step_size(eps) == pytest.approx(0.5 / 255)


@pytest.mark.parametrize("name", ATTACKS)
def test_catalogue(name):
    entry = ATTACKS[name]
    attack = make_attack(name)
    assert type(attack) is entry.attack
    assert attack.describe()["attack"] == entry.attack.__name__
    assert entry.reference.startswith("arXiv:")
    assert entry.attack.__doc__


def test_fgsm_takes_no_steps():
    with pytest.raises(InputError, match="unknown option of attack fgsm 'steps'"):
        make_attack("fgsm", {"steps": 3})


def test_batches_that_do_not_fit(trained):
    victim, images, truth = trained
    with pytest.raises(InputError, match="16 images, 3 truths and 16 ids"):
        mr.PGD()(victim, images, truth[:3], mr.Threat(eps=0.1))
    with pytest.raises(InputError, match="16 images, 16 truths and 2 ids"):
        mr.PGD()(victim, images, truth, mr.Threat(eps=0.1), ids=["a", "b"])
    with pytest.raises(InputError, match="label 9"):
        mr.PGD()(victim, images, truth * 0 + 9, mr.Threat(eps=0.1))
    with pytest.raises(InputError, match="outside the bounds"):
        mr.PGD()(victim, images * 255, truth, mr.Threat(eps=0.1))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda v, x, y: mr.PGD()(v, x, y, 0.1), "threat must be a Threat"),
        (lambda v, x, y: mr.PGD()(v, x.numpy(), y, mr.Threat(0.1)), "images must be a float tensor .* got ndarray"),
        (lambda v, x, y: mr.PGD()(v, x, y.numpy(), mr.Threat(0.1)), "truth must be an integer tensor, got ndarray"),
        (lambda v, x, y: mr.PGD()(v, x, y.tolist(), mr.Threat(0.1)), "truth must be an integer tensor, got list"),
        (lambda v, x, y: mr.PGD()(v, x[0], y[:1], mr.Threat(0.1)), r"images must be \(B, C, H, W\)"),
        (lambda v, x, y: mr.Victim("resnet18", v.task), "model must be a torch.nn.Module, got str"),
        (lambda v, x, y: mr.Threat(torch.tensor(0.1)), "eps must be a finite number"),
    ],
)
def test_wrong_kinds_are_told(trained, call, message):
    with pytest.raises(InputError, match=message):
        call(*trained)


def test_numpy_numbers_are_numbers(trained):
    assert mr.SMIA(steps=np.int64(3), sigma=np.float32(0.8)).steps == 3
    assert mr.Threat(np.float64(0.1)).eps == 0.1


def test_every_public_name_is_there():
    for name in mr.__all__:
        assert getattr(mr, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'Nonsense'"):
        _ = mr.Nonsense


def test_an_attack_of_single_pixels_is_told_so_by_its_name(trained):
    victim, images, truth = trained
    for attack in (mr.NIFGSM(), mr.VNIFGSM(), mr.TIFGSM(), mr.TranslationSMIA()):
        with pytest.raises(InputError, match=f"{type(attack).__name__} is for changes of single pixels"):
            attack(victim, images, truth, mr.Contrast(0.1))
        assert attack(victim, images[:1], truth[:1], mr.BandNoise(0.01)).delta.abs().max() > 0


def test_a_model_that_is_not_wrapped_is_told(trained):
    victim, images, truth = trained
    with pytest.raises(InputError, match=r"victim must be a Victim, e.g. Victim\(model, Classification\(5\)\)"):
        mr.PGD()(victim.model, images, truth, mr.Threat(0.1))
