"""foolbox 3.3.4. Clips to the bounds of the model, here [0, 1]."""

from __future__ import annotations

from typing import Any

import pytest
from oracles.peers.draws import seeded
from torch import Tensor, nn

foolbox = pytest.importorskip("foolbox", reason="the oracle foolbox is not installed")
eagerpy = pytest.importorskip("eagerpy")

PGD = {
    "linf": foolbox.attacks.LinfProjectedGradientDescentAttack,
    "l2": foolbox.attacks.L2ProjectedGradientDescentAttack,
    "l1": foolbox.attacks.L1ProjectedGradientDescentAttack,
}
FMN = {"linf": foolbox.attacks.LInfFMNAttack, "l2": foolbox.attacks.L2FMNAttack, "l1": foolbox.attacks.L1FMNAttack}
DEEPFOOL = {"linf": foolbox.attacks.LinfDeepFoolAttack, "l2": foolbox.attacks.L2DeepFoolAttack}


def pgd(
    model: nn.Module,
    images: Tensor,
    truth: Tensor,
    *,
    start: Tensor,
    eps: float,
    step_size: float,
    steps: int,
    norm="linf",
):
    """L1 steps along ∇/‖∇‖₁ and comes back into the L1 ball by scaling, not by the nearest point of the ball."""
    attack = PGD[norm](abs_stepsize=step_size, steps=steps, random_start=True)
    attack.get_random_start = lambda images, eps: eagerpy.astensor(start)
    return attack.run(_network(model), images, _untargeted(truth), epsilon=eps)


def ddn(model: nn.Module, images: Tensor, truth: Tensor, *, steps: int, init_eps=1.0, gamma=0.05):
    """The nearest wrong point among the first `steps`; no grey levels. A zero gradient draws a normal direction."""
    attack = foolbox.attacks.DDNAttack(init_epsilon=init_eps, steps=steps, gamma=gamma)
    with seeded():
        return attack.run(_network(model), images, _untargeted(truth))


def fmn(model: nn.Module, images: Tensor, truth: Tensor, *, steps: int, norm="linf", max_step=1.0, gamma=0.05):
    """No oracle in L2: there its projection multiplies by 1, so that δ never comes back to its ball."""
    attack = FMN[norm](steps=steps, max_stepsize=max_step, gamma=gamma)
    return attack.run(_network(model), images, _untargeted(truth))


def carlini_l2(
    model: nn.Module,
    images: Tensor,
    truth: Tensor,
    *,
    searches: int,
    steps: int,
    rate=0.01,
    kappa=0.0,
    c=1e-3,
):
    """Binary search over c from `c`. Never stops early here (that would look at the whole batch). Zeros if it fails."""
    attack = foolbox.attacks.L2CarliniWagnerAttack(
        binary_search_steps=searches, steps=steps, stepsize=rate, confidence=kappa, initial_const=c, abort_early=False
    )
    return attack.run(_network(model), images, _untargeted(truth))


def deepfool(model: nn.Module, images: Tensor, truth: Tensor, *, steps=50, overshoot=0.02, norm="l2"):
    """All classes; overshoots the sum of the steps from the clean image; counts from the clean *prediction*."""
    attack = DEEPFOOL[norm](steps=steps, overshoot=overshoot, candidates=None)
    return attack.run(_network(model), images, _untargeted(truth))


def hop_skip_jump(
    model: nn.Module, images: Tensor, truth: Tensor, *, start: Tensor, steps: int, norm="l2", queries=100, seed=0
):
    """From wrong images `start`, one image at a time, for it divides a step by the norm over the whole batch."""
    attack = foolbox.attacks.HopSkipJumpAttack(steps=steps, initial_gradient_eval_steps=queries, constraint=norm)
    network = _network(model)
    results = images.clone()
    with seeded(seed):
        for index in range(len(images)):
            one = slice(index, index + 1)
            results[one] = attack.run(network, images[one], _untargeted(truth[one]), starting_points=start[one])
    return results


def _network(model: nn.Module) -> Any:
    return foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu")


def _untargeted(truth: Tensor) -> Any:
    return foolbox.criteria.Misclassification(truth)
