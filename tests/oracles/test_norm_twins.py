"""PGD in L1 against foolbox's sparse steps, from the same start, and one change for all images against ART's."""

from __future__ import annotations

import eagerpy
import pytest
import torch
from oracles.networks import HalfContrast
from oracles.peers import from_art, from_autoattack, from_foolbox
from oracles.peers.norms import sizes, start_at
from torch import Tensor, nn

from medrobust.attacks import PGD, Universal
from medrobust.attacks.case import opened
from medrobust.attacks.loop import run_plan
from medrobust.tasks import Classification
from medrobust.threat import Threat
from medrobust.victim import Victim


def sparse_steps(model: nn.Module, images: Tensor, truth: Tensor, start: Tensor, eps: float, step: float) -> Tensor:
    """foolbox's, of the largest twentieth of the gradient."""
    attack = from_foolbox.foolbox.attacks.SparseL1DescentAttack(
        quantile=0.99, abs_stepsize=step, steps=10, random_start=True
    )
    attack.get_random_start = lambda images, eps: eagerpy.astensor(start)
    network = from_foolbox.foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu")
    return attack.run(network, images, from_foolbox.foolbox.criteria.Misclassification(truth), epsilon=eps)


def ours(model: nn.Module, images: Tensor, truth: Tensor, start: Tensor, eps: float, step: float) -> Tensor:
    with opened(
        Victim(model, Classification(5)), images, truth, Threat(eps, norm="l1"), 0, None, targeted=False
    ) as case:
        return run_plan(PGD(step_size=step).plan(case), case, start).candidate.image


def test_sparse_steps_are_foolboxs(untouched):
    """Far from the bounds and from the surface of the ball, where no projection acts."""
    images, truth = untouched.right(32)
    images, model, step = 0.25 + images / 2, HalfContrast(untouched.model).eval(), untouched.eps["l1"] / 8
    start = start_at(images, untouched.eps["l1"] / 2, "l1")
    theirs = sparse_steps(model, images, truth, start, 100.0, step)
    assert float(sizes(start, theirs, "l1").min()) > step
    apart = (ours(model, images, truth, start, 100.0, step) - theirs).abs().flatten(1).amax(1)
    assert float((apart <= 1e-5).float().mean()) >= 0.9


def test_the_projection_stays_within_the_ball(untouched):
    """On purpose: foolbox takes the first value that vanishes for the last that stays, and ends outside of the ball.

    It is ours and the authors of APGD's that are the nearest point of the ball cut to the bounds.
    """
    images, truth = untouched.right(64)
    eps = untouched.eps["l1"]
    start = start_at(images, eps, "l1")
    theirs = sparse_steps(untouched.model, images, truth, start, eps, eps / 2)
    assert float(sizes(images, theirs, "l1").max()) > eps * 1.01
    mine = ours(untouched.model, images, truth, start, eps, eps / 2)
    assert float(sizes(images, mine, "l1").max()) <= eps * (1 + 1e-5)
    delta = torch.randn(images.shape, generator=torch.Generator().manual_seed(0)) / 20
    nearest = images + delta
    Threat(eps, norm="l1").space(images, (0.0, 1.0)).project_(nearest)
    torch.testing.assert_close(
        nearest, images + from_autoattack.l1_projection(images, delta, eps=eps), rtol=0, atol=1e-5
    )


def test_sparse_steps_climb_higher_than_dense_ones(untouched):
    """On purpose: foolbox's PGD in L1 steps along the whole gradient and comes back by scaling."""
    images, truth = untouched.right(64)
    eps = untouched.eps["l1"]
    start = start_at(images, eps, "l1")
    dense = from_foolbox.pgd(
        untouched.model, images, truth, start=start, eps=eps, step_size=eps / 4, steps=10, norm="l1"
    )
    assert untouched.loss(ours(untouched.model, images, truth, start, eps, eps / 4), truth) > untouched.loss(
        dense, truth
    )


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_one_change_fools_at_least_as_many_as_arts(untouched, norm):
    """By effect: ART adds up steps of DeepFool image after image, ours climbs the mean gradient."""
    images, truth, eps = untouched.images, untouched.truth, 3 * untouched.eps[norm]
    change = from_art.universal(untouched.model, images[:60], truth[:60], eps=eps, rounds=1, norm=norm, share=0.99)
    theirs = untouched.accuracy((images + change).clamp(0, 1))
    attack = Universal().fit(untouched.victim, images[:60], truth[:60], Threat(eps, norm=norm))
    result = attack(untouched.victim, images, truth, Threat(eps, norm=norm))
    assert float(sizes(images, result.adversarial, norm).max()) <= eps * (1 + 1e-5)
    assert theirs < untouched.accuracy(images) - 0.02
    assert untouched.accuracy(result.adversarial) <= theirs + 0.01
