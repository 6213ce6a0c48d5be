"""The Adversarial Robustness Toolbox 1.20.1, on a network of plain logits with bounds [0, 1]."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from oracles.peers.draws import seeded
from torch import Tensor, nn

pytest.importorskip("art", reason="the oracle adversarial-robustness-toolbox is not installed")

from art.attacks import evasion
from art.estimators.classification import PyTorchClassifier

NORMS: dict[str, Any] = {"linf": np.inf, "l2": 2, "l1": 1}


def pgd(model: nn.Module, images: Tensor, truth: Tensor, *, eps: float, step_size: float, steps: int, norm="linf"):
    """From the clean image; clips before it projects. L1 projects by scaling."""
    attack = evasion.ProjectedGradientDescent(
        _classifier(model, images),
        norm=NORMS[norm],
        eps=eps,
        eps_step=step_size,
        max_iter=steps,
        num_random_init=0,
        verbose=False,
    )
    return _run(attack, images, truth)


def auto_pgd(model: nn.Module, images: Tensor, truth: Tensor, *, eps: float, steps: int, norm="linf", seed=0):
    """The last point if wrong, else its random start. Counts a rise only above the best loss so far."""
    attack = evasion.AutoProjectedGradientDescent(
        _classifier(model, images),
        norm=NORMS[norm],
        eps=eps,
        eps_step=2 * eps,
        max_iter=steps,
        nb_random_init=1,
        batch_size=len(images),
        loss_type="cross_entropy",
        verbose=False,
    )
    return _run(attack, images, truth, seed)


def square(model: nn.Module, images: Tensor, truth: Tensor, *, eps: float, queries: int, seed=0):
    """Linf. The stripes are kept only where they lower the loss of the clean image; one square for the whole batch."""
    attack = evasion.SquareAttack(
        _classifier(model, images), norm=np.inf, eps=eps, max_iter=queries, p_init=0.8, nb_restarts=1, verbose=False
    )
    return _run(attack, images, truth, seed)


def deepfool(model: nn.Module, images: Tensor, truth: Tensor, *, steps=50, overshoot=0.02):
    """L2; steps without overshoot, then the whole change lengthened once. Counts from the clean prediction."""
    attack = evasion.DeepFool(
        _classifier(model, images),
        max_iter=steps,
        epsilon=overshoot,
        nb_grads=1000,
        batch_size=len(images),
        verbose=False,
    )
    return _run(attack, images, truth)


def carlini_l2(model: nn.Module, images: Tensor, truth: Tensor, *, searches: int, steps: int, c=0.01):
    """Line search along the gradient in place of Adam."""
    attack = evasion.CarliniL2Method(
        _classifier(model, images),
        max_iter=steps,
        binary_search_steps=searches,
        initial_const=c,
        batch_size=len(images),
        verbose=False,
    )
    return _run(attack, images, truth)


def universal(
    model: nn.Module, images: Tensor, truth: Tensor, *, eps: float, rounds: int, norm="linf", share=0.8, seed=0
):
    """One δ (1, C, H, W) from DeepFool steps, image after image in a random order, until `share` of them are wrong."""
    attack = evasion.UniversalPerturbation(
        _classifier(model, images),
        attacker="deepfool",
        delta=1 - share,
        max_iter=rounds,
        eps=eps,
        norm=NORMS[norm],
        verbose=False,
        attacker_params={"max_iter": 20, "verbose": False},
    )
    _run(attack, images, truth, seed)
    return torch.from_numpy(np.asarray(attack.noise, dtype=np.float32))


def hop_skip_jump(
    model: nn.Module, images: Tensor, truth: Tensor, *, start: Tensor, steps: int, norm="l2", queries=100, seed=0
):
    """From wrong images `start`. The last step is not brought back to the boundary. Counts from the prediction."""
    attack = evasion.HopSkipJump(
        _classifier(model, images), norm=NORMS[norm], max_iter=steps, init_eval=queries, verbose=False
    )
    with seeded(seed):
        result = attack.generate(images.numpy(), y=truth.numpy(), x_adv_init=start.numpy().copy())
    return torch.from_numpy(result)


def _classifier(model: nn.Module, images: Tensor) -> PyTorchClassifier:
    classes = model(images[:1]).shape[1]
    return PyTorchClassifier(
        _Float32(model).eval(),
        nn.CrossEntropyLoss(),
        tuple(images.shape[1:]),
        classes,
        clip_values=(0.0, 1.0),
        device_type="cpu",
    )


def _run(attack: Any, images: Tensor, truth: Tensor, seed: int = 0) -> Tensor:
    with seeded(seed):
        return torch.from_numpy(np.asarray(attack.generate(images.numpy().copy(), y=truth.numpy())))


class _Float32(nn.Module):
    """Some of its attacks compute in float64."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        return self.model(images.float())
