"""The pairs for masks: SegPGD and CosPGD beside their authors' losses and steps, DAG and ASMA beside adv-lib's."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from typing import Any

import torch
from peer_libraries import Runner, Setting, Twins, adv_lib_module, asked, eps, ours, step
from torch import Tensor, nn

WIDE = 17.0  # times the setting's eps of 8/255: the originals of DAG and ASMA have no ball, what they find is in this
LENGTH = 2 / 255


def dense_twins() -> list[Twins]:
    """All pairs. 1.00: never slower."""
    still = {"step_size": step, "random_start": False}
    dag = ours("dag", step_size=LENGTH)
    asma = _to_other_masks(ours("asma"))
    pairs = [
        Twins("segpgd", "cospgd", ours("segpgd", **still), cospgd("segpgd"), 1.0, long=9, short=1),
        Twins("cospgd", "cospgd", ours("cospgd", **still), cospgd("cospgd"), 1.0, long=9, short=1),
        Twins("dag", "adv-lib", dag, adv_lib_dag, 1.0, long=10, wider=WIDE),
        Twins("asma", "adv-lib", asma, adv_lib_asma, 1.0, long=20, wider=WIDE, wanted=other_masks),
    ]
    return [replace(pair, dense=True) for pair in pairs]


def other_masks(setting: Setting) -> Tensor:
    """For each image the mask of the one before."""
    return setting.truth.roll(1, 0)


def cospgd(name: str) -> Runner:
    """SegPGD or CosPGD by the authors' losses and steps; the package has no loop, it is what they show."""

    def run(setting: Setting, steps: int) -> Tensor:
        peer: Any = import_module("cospgd").functions
        points = setting.images
        for index in range(steps):
            points = points.detach().requires_grad_()
            outputs = setting.model(points)
            pixels = nn.functional.cross_entropy(outputs, setting.truth, reduction="none")
            if name == "segpgd":
                loss = peer.segpgd_scale(outputs, setting.truth, pixels, index, steps)
            else:
                loss = peer.cospgd_scale(outputs, setting.truth, pixels, num_classes=setting.classes)
            (gradient,) = torch.autograd.grad(loss.sum(), points)
            points = peer.step_inf(points, eps(setting), gradient, setting.images, step(setting), targeted=False)
        return asked(setting, points)

    return run


def adv_lib_dag(setting: Setting, steps: int) -> Tensor:
    """The last images that it looks at: it hands in clean ones until a share of the pixels, never reached, is wrong."""
    seen = [setting.images]
    handle = setting.model.register_forward_pre_hook(lambda _, given: seen.append(given[0].detach()))
    try:
        adv_lib_module("attacks.segmentation").dag(
            setting.model, setting.images, setting.truth, max_iter=steps, γ=LENGTH, adv_threshold=1.1, p=float("inf")
        )
    finally:
        handle.remove()
    return asked(setting, seen[-1])


def adv_lib_asma(setting: Setting, steps: int) -> Tensor:
    """Its τ and β go with the raw gradient: they are raised, so that a few steps lead as far as ours."""
    found: Tensor = adv_lib_module("attacks.segmentation").asma(
        setting.model,
        setting.images,
        other_masks(setting),
        targeted=True,
        num_steps=steps,
        τ=2e-5,
        β=2e-4,
        adv_threshold=1.1,
    )
    return asked(setting, found)


def _to_other_masks(runner: Runner) -> Runner:
    return lambda setting, steps: runner(replace(setting, truth=other_masks(setting)), steps)
