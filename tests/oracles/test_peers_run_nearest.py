"""Peers that look for the nearest wrong point find one, and those for dense tasks turn pixels."""

from __future__ import annotations

import pytest
import torch
from oracles.peers import from_adv_lib, from_art, from_autoattack, from_cospgd, from_foolbox, from_torchattacks
from oracles.peers.norms import sizes, start_at

NEAREST = {
    "torchattacks FAB linf": lambda m, x, y: from_torchattacks.fab(m, x, y, steps=10),
    "torchattacks C&W l2": lambda m, x, y: from_torchattacks.carlini_l2(m, x, y, c=5.0, steps=60, rate=0.02),
    "torchattacks DeepFool l2": lambda m, x, y: from_torchattacks.deepfool(m, x, y, steps=20, overshoot=0.5),
    "foolbox DDN l2": lambda m, x, y: from_foolbox.ddn(m, x, y, steps=20),
    "foolbox FMN linf": lambda m, x, y: from_foolbox.fmn(m, x, y, steps=80, max_step=0.05, norm="linf"),
    "foolbox FMN l2": lambda m, x, y: from_foolbox.fmn(m, x, y, steps=80, max_step=0.05, norm="l2"),
    "foolbox FMN l1": lambda m, x, y: from_foolbox.fmn(m, x, y, steps=80, max_step=0.05, norm="l1"),
    "foolbox C&W l2": lambda m, x, y: from_foolbox.carlini_l2(m, x, y, searches=3, steps=40, c=1.0, rate=0.02),
    "foolbox DeepFool l2": lambda m, x, y: from_foolbox.deepfool(m, x, y, steps=40),
    "foolbox DeepFool linf": lambda m, x, y: from_foolbox.deepfool(m, x, y, steps=20, norm="linf"),
    "autoattack FAB linf": lambda m, x, y: from_autoattack.fab(m, x, y, steps=10),
    "autoattack FAB l2": lambda m, x, y: from_autoattack.fab(m, x, y, steps=10, norm="L2"),
    "autoattack FAB l1": lambda m, x, y: from_autoattack.fab(m, x, y, steps=10, norm="L1"),
    "autoattack FAB-T linf": lambda m, x, y: from_autoattack.fab_towards(m, x, y, rank=2, steps=20),
    "adv-lib FAB linf": lambda m, x, y: from_adv_lib.fab(m, x, y, steps=10),
    "adv-lib FAB-T l2": lambda m, x, y: from_adv_lib.fab(m, x, y, steps=10, norm=2, targeted=True),
    "adv-lib DDN l2": lambda m, x, y: from_adv_lib.ddn(m, x, y, steps=20),
    "adv-lib FMN linf": lambda m, x, y: from_adv_lib.fmn(m, x, y, steps=80, max_step=0.05),
    "adv-lib FMN l2": lambda m, x, y: from_adv_lib.fmn(m, x, y, steps=80, max_step=0.05, norm=2),
    "adv-lib C&W l2": lambda m, x, y: from_adv_lib.carlini_l2(m, x, y, searches=3, steps=40, c=1.0, rate=0.02),
    "adv-lib DeepFool l2": lambda m, x, y: from_adv_lib.deepfool(m, x, y, steps=40),
    "ART DeepFool l2": lambda m, x, y: from_art.deepfool(m, x, y, steps=40),
    "ART C&W l2": lambda m, x, y: from_art.carlini_l2(m, x, y, searches=3, steps=10, c=1.0),
}


@pytest.mark.parametrize("name", NEAREST)
def test_nearest_attacks_find_wrong_points_close_by(untouched, name):
    images, truth = untouched.right(16)
    adversarial = NEAREST[name](untouched.model, images, truth).detach()
    wrong = untouched.wrong(adversarial, truth)
    assert float(wrong.float().mean()) >= 0.6
    norm = name.rsplit(" ", 1)[1]
    # a few times the budget at which half of all images fall
    assert float(sizes(images, adversarial, norm)[wrong].median()) < 4 * untouched.eps[norm]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (from_foolbox.ddn, from_adv_lib.ddn),
        (from_foolbox.fmn, from_adv_lib.fmn),
        (from_autoattack.fab, from_torchattacks.fab),
        (from_autoattack.fab, from_adv_lib.fab),
    ],
    ids=["DDN", "FMN", "FAB torchattacks", "FAB adv-lib"],
)
def test_two_libraries_are_the_same_attack(untouched, first, second):
    images, truth = untouched.right(8)
    one, other = (peer(untouched.model, images, truth, steps=10) for peer in (first, second))
    assert float((one - other).abs().max()) <= 1e-4


@pytest.mark.parametrize("peer", [from_foolbox.hop_skip_jump, from_art.hop_skip_jump], ids=["foolbox", "ART"])
def test_hop_skip_jump_comes_nearer_and_stays_wrong(untouched, peer):
    images, truth = untouched.right(6)
    start = torch.rand(images.shape, generator=torch.Generator().manual_seed(0))
    usable = untouched.wrong(start, truth)
    images, truth, start = images[usable], truth[usable], start[usable]
    assert len(images), "no start is wrong"
    adversarial = peer(untouched.model, images, truth, start=start, steps=3, queries=50)
    assert bool(untouched.wrong(adversarial, truth).all())
    assert float((sizes(images, adversarial, "l2") / sizes(images, start, "l2")).max()) < 0.7


def test_arts_universal_perturbation_turns_many_with_one_change(untouched):
    images, truth = untouched.right(16)
    eps = 6 * untouched.eps["linf"]
    delta = from_art.universal(untouched.model, images, truth, eps=eps, rounds=2, share=0.5)
    assert delta.shape == (1, *images.shape[1:])
    assert float(delta.abs().max()) <= eps * (1 + 1e-4)
    by_noise = int(untouched.wrong(start_at(images, eps), truth).sum())
    assert int(untouched.wrong((images + delta).clamp(0, 1), truth).sum()) >= by_noise + 3


@pytest.mark.parametrize("peer", [from_cospgd.seg_pgd, from_cospgd.cos_pgd, from_cospgd.cos_pgd_l2])
def test_dense_attacks_turn_pixels_within_the_budget(oracle_segmenter, peer):
    norm = "l2" if peer is from_cospgd.cos_pgd_l2 else "linf"
    images, truth, eps = oracle_segmenter.images, oracle_segmenter.truth, oracle_segmenter.eps[norm]
    start = start_at(images, eps, norm)
    adversarial = peer(oracle_segmenter.model, images, truth, start=start, eps=eps, step_size=eps / 4, steps=6)
    assert float(sizes(images, adversarial, norm).max()) <= eps * (1 + 1e-4)
    clean = min(oracle_segmenter.accuracy(images), oracle_segmenter.accuracy(start))
    assert oracle_segmenter.accuracy(adversarial) < clean - 0.05


@pytest.mark.parametrize(
    "peer",
    [
        lambda m, x, y: from_adv_lib.dag(m, x, y, step_size=4 / 255, steps=30, share=0.15),
        lambda m, x, y: from_adv_lib.pdgd(m, x, y, steps=30, share=0.15),
    ],
    ids=["DAG", "PDGD"],
)
def test_adv_libs_dense_attacks_turn_the_share_asked_for(oracle_segmenter, peer):
    adversarial = peer(oracle_segmenter.model, oracle_segmenter.images, oracle_segmenter.truth).detach()
    wrong = oracle_segmenter.wrong(adversarial, oracle_segmenter.truth).flatten(1).float().mean(1)
    assert float((wrong >= 0.15).float().mean()) > 0.7
    assert oracle_segmenter.accuracy(oracle_segmenter.images) > 0.9


def test_adv_libs_asma_moves_towards_the_mask(oracle_segmenter):
    image, wanted = oracle_segmenter.images[:1], oracle_segmenter.truth[:1].roll(3, dims=1)
    moved = from_adv_lib.asma(oracle_segmenter.model, image, wanted, steps=30, tau=1e-4, beta=1e-3, share=0.99)
    before, after = (float(oracle_segmenter.wrong(points, wanted).float().mean()) for points in (image, moved))
    assert after < before - 0.02
