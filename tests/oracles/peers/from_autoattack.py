"""pyautoattack 0.2.0: the AutoAttack of its authors under the name it has on PyPI. Clips to [0, 1]."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

import pytest
import torch
from oracles.peers.draws import seeded
from torch import Tensor, nn

pytest.importorskip("pyautoattack", reason="the oracle pyautoattack is not installed")

from pyautoattack import AutoAttack
from pyautoattack.autopgd_base import APGDAttack, APGDAttack_targeted, L1_projection
from pyautoattack.fab_pt import FABAttack_PT
from pyautoattack.square import SquareAttack

LOGGER = logging.getLogger("pyautoattack")


def apgd(
    model: nn.Module, images: Tensor, truth: Tensor, *, start: Tensor, eps: float, steps: int, norm="Linf", loss="ce"
):
    """One run from `start` on all images: the point of the highest loss. L1 needs start ≠ images."""
    attack = APGDAttack(model, n_iter=steps, norm=norm, eps=eps, loss=loss, logger=LOGGER)
    attack.init_hyperparam(images)
    return attack.attack_single_run(images, truth, x_init=start)[0].detach()


def apgd_towards(
    model: nn.Module,
    images: Tensor,
    truth: Tensor,
    wanted: Tensor,
    *,
    start: Tensor,
    eps: float,
    steps: int,
    norm="Linf",
):
    """As `apgd`, on the targeted DLR loss to the classes `wanted` (B,); needs four classes."""
    attack = APGDAttack_targeted(model, n_iter=steps, norm=norm, eps=eps, logger=LOGGER)
    attack.init_hyperparam(images)
    attack.y_target = wanted
    return attack.attack_single_run(images, truth, x_init=start)[0].detach()


def apgd_standard(
    model: nn.Module,
    images: Tensor,
    truth: Tensor,
    *,
    eps: float,
    steps: int,
    norm="Linf",
    loss="ce",
    restarts=1,
    seed=0,
):
    """From its own random starts: wrong points, clean images where there is none. L1 over balls of 3, 2 and 1 eps."""
    attack = APGDAttack(
        model,
        n_iter=steps,
        norm=norm,
        eps=eps,
        loss=loss,
        n_restarts=restarts,
        seed=seed,
        use_largereps=norm == "L1",
        logger=LOGGER,
    )
    with seeded(seed):
        return attack.perturb(images, truth).detach()


def apgd_targeted_standard(
    model: nn.Module, images: Tensor, truth: Tensor, *, eps: float, steps: int, classes: int, norm="Linf", seed=0
):
    """One run towards each of the wrong classes, the likeliest first, on what still stands."""
    attack = APGDAttack_targeted(
        model, n_iter=steps, norm=norm, eps=eps, n_target_classes=classes - 1, seed=seed, logger=LOGGER
    )
    with seeded(seed):
        return attack.perturb(images, truth).detach()


def fab(model: nn.Module, images: Tensor, truth: Tensor, *, steps: int, norm="Linf"):
    """From the clean image: the nearest wrong point, whatever its distance; the clean image if there is none."""
    attack = FABAttack_PT(model, norm=norm, n_iter=steps, device="cpu")
    return attack.attack_single_run(images, truth)


def fab_towards(model: nn.Module, images: Tensor, truth: Tensor, *, rank: int, steps: int, norm="Linf"):
    """As `fab`, along the border to the class of the given rank (2 the likeliest wrong) of the clean prediction."""
    attack = FABAttack_PT(model, norm=norm, n_iter=steps, device="cpu")
    attack.target_class = rank
    return attack.attack_single_run(images, truth, is_targeted=True)


def square(
    model: nn.Module,
    images: Tensor,
    truth: Tensor,
    *,
    eps: float,
    queries: int,
    norm="Linf",
    loss="margin",
    rescale=True,
    seed=0,
):
    """Places and signs are drawn once for the whole batch. `rescale`: squares shrink as over 10 000 queries."""
    attack = SquareAttack(
        model, norm=norm, eps=eps, n_queries=queries, loss=loss, resc_schedule=rescale, seed=seed, device="cpu"
    )
    with seeded(seed):
        return attack.perturb(images, truth).detach()


def square_replayed(
    model: nn.Module,
    images: Tensor,
    truth: Tensor,
    *,
    stripes: Tensor,
    corners: Iterable[tuple[int, int]],
    signs: Iterable[Tensor],
    eps: float,
    queries: int,
    rescale=True,
):
    """Linf with given draws, the same for every image.

    Args:
        stripes: (B, C, 1, W) of ±1.
        corners: top row and left column for each query.
        signs: (C, 1, 1) of ±1 for each query.
    """
    attack = SquareAttack(model, norm="Linf", eps=eps, n_queries=queries, resc_schedule=rescale, device="cpu")
    choices = iter([stripes, *signs])
    places = iter([torch.tensor([number]) for corner in corners for number in corner])
    attack.random_choice = lambda shape: next(choices)
    attack.random_int = lambda low, high: next(places)
    attack.init_hyperparam(images)
    return attack.attack_single_run(images, truth)[1]


def autoattack(
    model: nn.Module,
    images: Tensor,
    truth: Tensor,
    *,
    eps: float,
    classes: int,
    norm="Linf",
    steps=100,
    queries=5000,
    seed=0,
):
    """The standard version: APGD-CE, targeted APGD, targeted FAB, Square, on what still stands."""
    ensemble: Any = AutoAttack(model, eps=eps, norm=norm, seed=seed)
    ensemble.apgd.n_iter = ensemble.apgd_targeted.n_iter = ensemble.fab.n_iter = steps
    ensemble.square.n_queries = queries
    for part in (ensemble.apgd_targeted, ensemble.fab):
        part.n_target_classes = min(part.n_target_classes, classes - 1)
    with seeded(seed):
        return ensemble.run_standard_evaluation(images, truth, batch_size=len(images))[0]


def l1_projection(images: Tensor, delta: Tensor, *, eps: float) -> Tensor:
    """The perturbation nearest to `delta` (B, …) with ‖·‖₁ ≤ eps and images + · in [0, 1]."""
    return delta + L1_projection(images, delta, eps)
