"""Options of attacks: what is refused, and the catalogue."""

from __future__ import annotations

import pytest

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
        ({"step_size": 0}, "step_size must be finite and positive"),
        ({"step_size": float("inf")}, "step_size"),
        ({"step_size": "big"}, "step_size"),
        ({"keep": "first"}, "keep must be one of last, best, got 'first'"),
        ({"momentum": -1}, "momentum must be finite and not negative"),
        ({"a1": -1}, "a1"),
        ({"a2": float("nan")}, "a2"),
        ({"kernel_size": 4}, "kernel_size must be odd"),
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


def test_every_public_name_is_there():
    for name in mr.__all__:
        assert getattr(mr, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'Nonsense'"):
        _ = mr.Nonsense
