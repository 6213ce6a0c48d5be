"""The peers' own implementations, run side by side on a trained network from the same start."""

from __future__ import annotations

import warnings

import pytest
import torch

from medrobust.attacks import BIM, FGSM, MIFGSM, PGD
from medrobust.tasks import Classification
from medrobust.threat import Threat
from medrobust.victim import Victim

torchattacks = pytest.importorskip("torchattacks", reason="the oracle torchattacks is not installed")
foolbox = pytest.importorskip("foolbox", reason="the oracle foolbox is not installed")

EPS = 4 / 255
STEP = 1 / 255


@pytest.fixture(scope="module")
def plain(trained):
    """The trained network read as a plain classifier, as the peers read it."""
    victim, images, truth = trained
    return Victim(victim.model, Classification(5)), images, truth


def agree(ours: torch.Tensor, theirs: torch.Tensor, clean: torch.Tensor) -> None:
    assert float((theirs - clean).abs().max()) > 0.5 / 255, "the peer did not attack"
    assert float((ours - theirs).abs().max()) <= 1e-5


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (FGSM(), lambda m: torchattacks.FGSM(m, eps=EPS)),
        (BIM(step_size=STEP), lambda m: torchattacks.BIM(m, eps=EPS, alpha=STEP, steps=10)),
        (
            PGD(step_size=STEP, random_start=False),
            lambda m: torchattacks.PGD(m, eps=EPS, alpha=STEP, steps=10, random_start=False),
        ),
        (MIFGSM(step_size=STEP), lambda m: torchattacks.MIFGSM(m, eps=EPS, alpha=STEP, steps=10, decay=1.0)),
        (
            MIFGSM(step_size=STEP, momentum=0.5),
            lambda m: torchattacks.MIFGSM(m, eps=EPS, alpha=STEP, steps=10, decay=0.5),
        ),
    ],
    ids=["FGSM", "BIM", "PGD", "MI-FGSM", "MI-FGSM decay 0.5"],
)
def test_linf_agrees_with_torchattacks(plain, ours, theirs):
    victim, images, truth = plain
    result = ours(victim, images, truth, Threat(eps=EPS))
    agree(result.adversarial, theirs(victim.model)(images, truth), images)


def test_l2_pgd_agrees_with_torchattacks(plain):
    victim, images, truth = plain
    theirs = torchattacks.PGDL2(victim.model, eps=1.0, alpha=0.25, steps=10, random_start=False)(images, truth)
    ours = PGD(step_size=0.25, random_start=False)(victim, images, truth, Threat(eps=1.0, norm="l2"))
    agree(ours.adversarial, theirs, images)


@pytest.mark.parametrize(
    ("ours", "theirs", "norm", "eps"),
    [
        (FGSM(), lambda: foolbox.attacks.LinfFastGradientAttack(random_start=False), "linf", EPS),
        (
            BIM(step_size=STEP),
            lambda: foolbox.attacks.LinfBasicIterativeAttack(abs_stepsize=STEP, steps=10, random_start=False),
            "linf",
            EPS,
        ),
        (
            PGD(step_size=STEP, random_start=False),
            lambda: foolbox.attacks.LinfProjectedGradientDescentAttack(abs_stepsize=STEP, steps=10, random_start=False),
            "linf",
            EPS,
        ),
        (FGSM(), lambda: foolbox.attacks.L2FastGradientAttack(random_start=False), "l2", 1.0),
        (
            PGD(step_size=0.25, random_start=False),
            lambda: foolbox.attacks.L2ProjectedGradientDescentAttack(abs_stepsize=0.25, steps=10, random_start=False),
            "l2",
            1.0,
        ),
    ],
    ids=["FGSM", "BIM", "PGD", "FGM L2", "PGD L2"],
)
def test_agrees_with_foolbox(plain, ours, theirs, norm, eps):
    victim, images, truth = plain
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = foolbox.PyTorchModel(victim.model, bounds=(0, 1), device="cpu")
        _, clipped, _ = theirs()(model, images, truth, epsilons=eps)
    result = ours(victim, images, truth, Threat(eps=eps, norm=norm))
    agree(result.adversarial, clipped, images)


def test_mi_fgsm_differs_from_foolbox_on_purpose(plain):
    """foolbox divides by another norm before it accumulates; the paper, torchattacks and we by the mean of |∇|."""
    victim, images, truth = plain
    model = foolbox.PyTorchModel(victim.model, bounds=(0, 1), device="cpu")
    peer = foolbox.attacks.LinfMomentumIterativeFastGradientMethod(abs_stepsize=STEP, steps=10, random_start=False)
    _, theirs, _ = peer(model, images, truth, epsilons=EPS)
    ours = MIFGSM(step_size=STEP)(victim, images, truth, Threat(eps=EPS))
    assert float((ours.adversarial - theirs).abs().max()) > STEP / 2
