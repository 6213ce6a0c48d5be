"""Within a deformation the loss rises and falls from pixel to pixel: steps shorten, and those of masks are short."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import medrobust as mr
from medrobust.attacks.case import opened
from medrobust.attacks.steps import Walk
from medrobust.models.randomness import seeded


def noise(task: mr.Task, network: nn.Module) -> tuple[mr.Victim, torch.Tensor, torch.Tensor]:
    """Four images whose neighbouring pixels have nothing in common, and the network's own answers to them."""
    images = 0.1 + 0.8 * torch.rand(4, 1, 16, 16, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return mr.Victim(network.eval(), task), images, network(images).argmax(1)


def dense() -> nn.Module:
    """Random, of large weights."""
    with seeded(0):
        network = nn.Sequential(nn.Conv2d(1, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 3, 3, padding=1))
    for weight in network.parameters():
        weight.data *= 2
    return network


class Edges(nn.Module):
    """Class 1 where two neighbours differ much, as in noise, and less so once they are blurred."""

    def forward(self, x):
        edges = 20 * (x.diff(dim=-1).abs().mean((1, 2, 3)) - 0.2)
        return torch.stack([-edges, edges], 1)


@pytest.mark.parametrize("steps", [2, 4, 6])
@pytest.mark.parametrize("eps", [1.0, 1.5, 2.0])
@pytest.mark.parametrize(("task", "network"), [(mr.Segmentation(3), dense()), (mr.Classification(2), Edges())])
def test_no_image_comes_back_unchanged(task, network, eps, steps):
    """The clean image is a peak of the objective, from which equal steps went away and came back."""
    victim, images, truth = noise(task, network)
    result = mr.SMIA(steps=steps)(victim, images, truth, mr.Deformation(eps))
    assert bool((result.delta.flatten(1).abs().amax(1) > 0).all())


class Brightness(nn.Module):
    """Class 1 where a pixel is above a half."""

    def forward(self, x):
        return torch.cat([-20 * (x - 0.5), 20 * (x - 0.5)], 1)


@pytest.mark.parametrize("attack", [mr.BIM(), mr.SMIA()])
def test_a_larger_budget_of_masks_is_no_weaker(attack):
    """A segmenter that is right wherever the anatomy is: its loss is highest half a pixel out of register."""
    images = torch.randn(8, 1, 40, 40, generator=torch.Generator().manual_seed(0))
    for _ in range(2):
        images = nn.functional.avg_pool2d(images, 5, 1, 2, count_include_pad=False)
    images = torch.sigmoid(5 * images)
    truth, victim = (images[:, 0] > 0.5).long(), mr.Victim(Brightness(), mr.Segmentation(2))
    one, two, four = (float(attack(victim, images, truth, mr.Deformation(eps)).loss.mean()) for eps in (1.0, 2.0, 4.0))
    assert two > 0.97 * one
    assert four > 0.97 * one


def test_steps_shorten_and_those_of_masks_are_short():
    """2 px in 4 steps: 1.25 px each, so a cosine from 2.5; masks from a quarter; neither where the user says how."""
    images, maps, labels = torch.rand(2, 1, 8, 8), torch.zeros(2, 8, 8, dtype=torch.int64), torch.zeros(2).long()

    def planned(attack, threat, truth=maps):
        task = mr.Segmentation(3) if truth.ndim == 3 else mr.Classification(2)
        victim = mr.Victim(dense() if truth.ndim == 3 else Edges(), task)
        with opened(victim, images, truth, threat, 0, None, targeted=attack.targeted) as case:
            plan = attack.plan(case)
        return plan.step, plan.step_size

    threat, falling = mr.Deformation(2.0), Walk(schedule="cosine")
    assert planned(mr.BIM(steps=4), mr.Deformation(0.2)) == (falling, pytest.approx(0.1))
    assert planned(mr.SMIA(steps=4), threat, labels) == (falling, 2.5)
    assert planned(mr.SMIA(steps=4), threat) == (falling, 0.25)
    assert planned(mr.SMIA(steps=4, targeted=True), threat) == (falling, 2.5)
    _, each = planned(mr.SMIA(steps=4), mr.Deformation(torch.tensor([0.1, 2.0])))
    assert each.tolist() == pytest.approx([0.125, 0.25])
    assert planned(mr.SMIA(steps=4, step_size=0.7), threat) == (Walk(), 0.7)
    assert planned(mr.SMIA(steps=4, step=Walk()), threat) == (Walk(), 1.25)
    assert planned(mr.FGSM(), threat) == (Walk(), 2.0)
    assert planned(mr.SMIA(steps=4), mr.make_threat("bias", 0.2)) == (Walk(), pytest.approx(0.125))
