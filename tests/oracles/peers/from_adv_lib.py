"""adv-lib 0.2.8. Clips to [0, 1]. Except APGD, the point after the last step is never tested."""

from __future__ import annotations

import sys
import types

import pytest
from oracles.peers.draws import seeded
from torch import Tensor, nn

# its logger imports visdom, a plotting server; it is used only through a callback that nobody passes here
sys.modules.setdefault("visdom", types.ModuleType("visdom"))
pytest.importorskip("adv_lib", reason="the oracle adv-lib is not installed")

from adv_lib import attacks  # noqa: E402
from adv_lib.attacks import segmentation  # noqa: E402
from adv_lib.attacks.auto_pgd import _apgd  # noqa: E402

INFINITY = float("inf")


def apgd(
    model: nn.Module,
    images: Tensor,
    truth: Tensor,
    *,
    start: Tensor,
    eps: float,
    steps: int,
    norm: float = INFINITY,
    loss="ce",
):
    """The point of the highest loss. From the second check on it halves the step at least at every other check."""
    radius = images.new_full((len(images),), eps)
    return _apgd(model, images, truth, radius, norm, x_init=start, n_iter=steps, loss_function=loss)[0].detach()


def apgd_targeted(
    model: nn.Module, images: Tensor, truth: Tensor, *, eps: float, steps: int, norm: float = INFINITY, seed=0
):
    """Towards each wrong class; wrong points, clean images where there is none."""
    with seeded(seed):
        return attacks.apgd_targeted(model, images, truth, eps, norm, n_iter=steps)


def ddn(model: nn.Module, images: Tensor, truth: Tensor, *, steps: int, init_eps=1.0, gamma=0.05):
    """Its rounding to 256 grey levels is switched off."""
    with seeded():
        return attacks.ddn(model, images, truth, steps=steps, γ=gamma, init_norm=init_eps, levels=None)


def fmn(
    model: nn.Module, images: Tensor, truth: Tensor, *, steps: int, norm: float = INFINITY, max_step=1.0, gamma=0.05
):
    """In L2 δ is put on the sphere of the radius eps, not into its ball."""
    return attacks.fmn(model, images, truth, norm, steps=steps, α_init=max_step, γ_init=gamma)


def fab(model: nn.Module, images: Tensor, truth: Tensor, *, steps: int, norm: float = INFINITY, targeted=False):
    """From the clean image; `targeted`: the nearest over the borders to all wrong classes."""
    return attacks.fab(model, images, truth, norm, n_iter=steps, targeted_restarts=targeted)


def deepfool(model: nn.Module, images: Tensor, truth: Tensor, *, steps=50, overshoot=0.02, norm: float = 2):
    """Overshoots at every step, from the point it stands on; clean images where it fails."""
    return attacks.df(model, images, truth, steps=steps, overshoot=overshoot, norm=norm)


def carlini_l2(
    model: nn.Module, images: Tensor, truth: Tensor, *, searches: int, steps: int, rate=0.01, kappa=0.0, c=1e-3
):
    """Binary search over c; the distance is to the image itself. Clean images where it fails."""
    return attacks.carlini_wagner_l2(
        model,
        images,
        truth,
        confidence=kappa,
        learning_rate=rate,
        initial_const=c,
        binary_search_steps=searches,
        max_iterations=steps,
        abort_early=False,
    )


def dag(model: nn.Module, images: Tensor, truth: Tensor, *, step_size: float, steps: int, share: float):
    """Descends the margin of the pixels still right. An image with fewer wrong pixels than `share` comes back clean."""
    return segmentation.dag(model, images, truth, max_iter=steps, γ=step_size, adv_threshold=share)


def asma(model: nn.Module, images: Tensor, wanted: Tensor, *, steps: int, tau: float, beta: float, share: float):
    """To the mask `wanted` (B, H, W). The IoU in the step size is the batch's: give one image to compare exactly."""
    return segmentation.asma(model, images, wanted, targeted=True, num_steps=steps, τ=tau, β=beta, adv_threshold=share)


def pdgd(model: nn.Module, images: Tensor, truth: Tensor, *, steps: int, share: float):
    """The smallest L2 change with `share` of the pixels wrong."""
    return segmentation.pdgd(model, images, truth, num_steps=steps, adv_threshold=share)
