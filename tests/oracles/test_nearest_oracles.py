"""Our minimum-norm attacks beside those of foolbox, adv-lib and pyautoattack, on the same network.

Where the algorithm is the same the points are, without our bisection at the end (`refine=0`). An eps beyond any change
hands in whatever was found.
"""

from __future__ import annotations

import pytest
import torch
from oracles.peers import from_adv_lib, from_autoattack, from_foolbox, from_torchattacks
from oracles.peers.norms import sizes

from medrobust.attacks.carlini_wagner import CarliniWagner
from medrobust.attacks.ddn import DDN
from medrobust.attacks.deepfool import DeepFool
from medrobust.attacks.fab import FAB
from medrobust.attacks.fmn import FMN
from medrobust.threat import Threat

POWER = {"linf": float("inf"), "l2": 2, "l1": 1}
UNLIMITED = 1e4


def ours(attack, peer, images, truth, norm):
    return attack(peer.victim, images, truth, Threat(eps=UNLIMITED, norm=norm))


def assert_no_farther(result, peer, images, truth, norm, theirs, slack=1.02):
    """Found for as many images, and half of them as near."""
    wrong = peer.wrong(theirs, truth)
    their_sizes = torch.where(wrong, sizes(images, theirs, norm), torch.inf)
    assert int(result.success.sum()) >= int(wrong.sum())
    assert float(result.smallest.median()) <= slack * float(their_sizes.median())


SAME = {
    "DeepFool l2": (
        DeepFool(candidates=None, refine=0),
        "l2",
        lambda m, x, y: from_foolbox.deepfool(m, x, y, norm="l2"),
    ),
    "DeepFool linf": (
        DeepFool(candidates=None, refine=0),
        "linf",
        lambda m, x, y: from_foolbox.deepfool(m, x, y, norm="linf"),
    ),
    "DDN foolbox": (DDN(steps=30, refine=0), "l2", lambda m, x, y: from_foolbox.ddn(m, x, y, steps=30)),
    "DDN adv-lib": (DDN(steps=30, refine=0), "l2", lambda m, x, y: from_adv_lib.ddn(m, x, y, steps=30)),
    "DDN other options": (
        DDN(steps=20, init_eps=0.3, gamma=0.1, refine=0),
        "l2",
        lambda m, x, y: from_foolbox.ddn(m, x, y, steps=20, init_eps=0.3, gamma=0.1),
    ),
    "FMN foolbox": (FMN(steps=30, refine=0), "linf", lambda m, x, y: from_foolbox.fmn(m, x, y, steps=30)),
    "FMN adv-lib": (
        FMN(steps=40, max_step=0.5, gamma=0.1, refine=0),
        "linf",
        lambda m, x, y: from_adv_lib.fmn(m, x, y, steps=40, max_step=0.5, gamma=0.1),
    ),
    "FAB linf": (FAB(steps=12, refine=0), "linf", lambda m, x, y: from_autoattack.fab(m, x, y, steps=12)),
    "FAB l2": (FAB(steps=12, refine=0), "l2", lambda m, x, y: from_autoattack.fab(m, x, y, steps=12, norm="L2")),
    "FAB l1": (FAB(steps=12, refine=0), "l1", lambda m, x, y: from_autoattack.fab(m, x, y, steps=12, norm="L1")),
    "FAB torchattacks": (FAB(steps=12, refine=0), "linf", lambda m, x, y: from_torchattacks.fab(m, x, y, steps=12)),
    "FAB adv-lib": (FAB(steps=12, refine=0), "l2", lambda m, x, y: from_adv_lib.fab(m, x, y, steps=12, norm=2)),
    "FAB-T": (
        FAB(steps=12, targets=1, refine=0),
        "linf",
        lambda m, x, y: from_autoattack.fab_towards(m, x, y, rank=2, steps=12),
    ),
}


@pytest.mark.parametrize("name", SAME)
def test_the_same_points_as_the_peers(untouched, name):
    attack, norm, peer = SAME[name]
    images, truth = untouched.right(16)
    theirs = peer(untouched.model, images, truth).detach()
    result = ours(attack, untouched, images, truth, norm)
    wrong = untouched.wrong(theirs, truth)
    # where theirs found nothing they give the clean image, ours its last iterate, taken farther out
    assert int(wrong.sum()) >= 12
    alike = (result.adversarial - theirs).flatten(1).abs().amax(1) <= 1e-4
    # a step that ends on a boundary to the last digit turns on rounding, and the way from there with it
    assert float(alike[wrong].float().mean()) >= 0.85
    assert torch.allclose(result.smallest[wrong & alike], sizes(images, theirs, norm)[wrong & alike], rtol=1e-3)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_fab_over_single_classes_is_adv_libs_minimum_over_targets(untouched, norm):
    images, truth = untouched.right(12)
    theirs = from_adv_lib.fab(untouched.model, images, truth, steps=12, norm=POWER[norm], targeted=True).detach()
    result = ours(FAB(steps=12, targets=4, refine=0), untouched, images, truth, norm)
    assert torch.allclose(result.smallest, sizes(images, theirs, norm), rtol=1e-3)


@pytest.mark.slow
def test_deepfool_crosses_where_one_that_cuts_every_step_creeps(untouched):
    """torchattacks' cuts to the bounds at every step, which eats the overshoot where pixels are black."""
    images, truth = untouched.right(32)
    theirs = from_torchattacks.deepfool(untouched.model, images, truth, steps=40).detach()
    result = ours(DeepFool(steps=40), untouched, images, truth, "l2")
    assert bool(result.success.all())
    assert not bool(untouched.wrong(theirs, truth).all())
    assert float(result.smallest.median()) <= 1.06 * float(sizes(images, theirs, "l2").median())


def test_fmn_in_l2_is_no_farther_than_adv_libs_that_stays_on_the_sphere(untouched):
    """Ours cuts into the ball, as the paper says; theirs puts δ on the sphere, from which many never come over."""
    images, truth = untouched.right(16)
    theirs = from_adv_lib.fmn(untouched.model, images, truth, steps=60, norm=2, max_step=0.05).detach()
    result = ours(FMN(steps=60, refine=0), untouched, images, truth, "l2")
    assert_no_farther(result, untouched, images, truth, "l2", theirs)


@pytest.mark.parametrize("peer", [from_foolbox.fmn, from_adv_lib.fmn], ids=["foolbox", "adv-lib"])
def test_fmn_in_l1_is_no_farther(untouched, peer):
    """Ours projects on ball and bounds together, theirs on one after the other."""
    images, truth = untouched.right(16)
    norm = "l1" if peer is from_foolbox.fmn else 1
    theirs = peer(untouched.model, images, truth, steps=60, norm=norm, max_step=0.05).detach()
    result = ours(FMN(steps=60, max_step=0.05, refine=0), untouched, images, truth, "l1")
    assert_no_farther(result, untouched, images, truth, "l1", theirs)


@pytest.mark.slow
@pytest.mark.parametrize("peer", [from_foolbox.carlini_l2, from_adv_lib.carlini_l2], ids=["foolbox", "adv-lib"])
def test_carlini_wagner_is_no_farther(untouched, peer):
    """Theirs keeps black pixels black, so ours is nearer; it also leaves a search that makes no progress."""
    images, truth = untouched.right(16)
    theirs = peer(untouched.model, images, truth, searches=6, steps=100, rate=0.01, c=0.1).detach()
    result = ours(CarliniWagner(searches=6, steps=100, rate=0.01, c=0.1, refine=0), untouched, images, truth, "l2")
    assert_no_farther(result, untouched, images, truth, "l2", theirs, slack=1.0)


@pytest.mark.slow
def test_carlini_wagner_without_black_pixels_is_theirs_to_two_percent(untouched):
    """Away from the bounds the two tanh differ by a stretch, which Adam's steps follow."""
    images, truth = untouched.right(12)
    images = 0.1 + 0.8 * images
    right = ~untouched.wrong(images, truth)
    images, truth = images[right], truth[right]
    assert len(images) >= 4
    options = {"searches": 5, "steps": 60, "rate": 0.02, "c": 0.5}
    theirs = from_foolbox.carlini_l2(untouched.model, images, truth, **options).detach()
    result = ours(CarliniWagner(**options, refine=0), untouched, images, truth, "l2")
    assert_no_farther(result, untouched, images, truth, "l2", theirs)


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_all_of_them_agree_on_how_near_it_is(untouched, norm):
    """Each is within a few percent of the best of all, at the median image."""
    images, truth = untouched.right(32)
    attacks = [FAB(steps=40), FMN(steps=100), *([DDN(), CarliniWagner(), DeepFool()] if norm == "l2" else [])]
    found = torch.stack([ours(attack, untouched, images, truth, norm).smallest for attack in attacks])
    best = found.amin(0)
    assert bool(torch.isfinite(found).all())
    assert float((found / best).median(1).values.max()) < 1.08


def test_robust_accuracy_over_eps_is_that_of_the_peers(untouched):
    images, truth = untouched.right(64)
    eps = untouched.eps["linf"]
    theirs = from_autoattack.fab(untouched.model, images, truth, steps=12).detach()
    their_share = float((untouched.wrong(theirs, truth) & (sizes(images, theirs, "linf") <= eps)).float().mean())
    result = FAB(steps=12, refine=0)(untouched.victim, images, truth, Threat(eps=eps))
    # an image beyond eps is projected, and may be adversarial still
    assert their_share - 1e-6 <= float(result.success.float().mean()) <= their_share + 0.05
