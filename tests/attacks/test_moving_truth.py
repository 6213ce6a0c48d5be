"""Under a deformation the truth moves with the anatomy; a target is of the pixels, and stays where it is wanted."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

import medrobust as mr
from medrobust.threat import sample_generators

TASK = mr.Segmentation(2, success_dice=0.75)
THREAT = mr.Deformation(3.0, grid=2)


class Brightness(nn.Module):
    """Class 1 where a pixel is above a half."""

    def forward(self, x):
        return torch.cat([-10 * (x - 0.5), 10 * (x - 0.5)], 1)


def squares() -> tuple[mr.Victim, torch.Tensor, torch.Tensor]:
    """Two images of a bright square each, with a soft rim for gradients; the truth is the square."""
    truth = torch.zeros(2, 16, 16, dtype=torch.int64)
    truth[0, 5:11, 3:9] = 1
    truth[1, 4:10, 5:11] = 1
    images = 0.1 + 0.8 * nn.functional.avg_pool2d(truth.unsqueeze(1).float(), 3, 1, 1)
    return mr.Victim(Brightness(), TASK), images, truth


@pytest.mark.parametrize(
    "attack",
    [
        mr.PGD(steps=40),
        mr.PGD(steps=20, keep="best", restarts=2),
        mr.PGD(steps=40, early_stop=True),
        mr.PGD(steps=40, inputs=[mr.Scales(2)]),
        mr.ASMA(steps=40),
        mr.SMIA(steps=40, a2=0.1),
    ],
    ids=["last", "best", "early", "copies", "asma", "smia"],
)
def test_anatomy_is_moved_onto_a_target(attack):
    """A mask two pixels to the right: a deformation of three reaches it, were it not to run away."""
    victim, images, truth = squares()
    wanted = truth.roll(2, 2)
    result = replace(attack, targeted=True)(victim, images, wanted, THREAT)
    dice = TASK.image_metrics(victim(result.adversarial), wanted)["dice"]
    assert TASK.image_metrics(victim(images), wanted)["dice"].max() < 0.75
    assert result.success.tolist() == (dice >= 0.75).tolist() == [True, True]
    torch.testing.assert_close(result.loss, TASK.loss(victim(result.adversarial), wanted))
    assert result.truth is None


def test_a_truth_moves_along_as_ever():
    """The model is right wherever the square goes: away from the truth nothing is gained but at the rim."""
    victim, images, truth = squares()
    result = mr.PGD(steps=20, keep="best")(victim, images, truth, THREAT)
    assert result.success.tolist() == [False, False]
    assert not torch.equal(result.truth, truth)
    torch.testing.assert_close(result.loss, TASK.loss(victim(result.adversarial), result.truth))


@pytest.mark.parametrize("targeted", [False, True])
def test_a_trace_is_against_what_the_attack_is_judged_by(targeted):
    victim, images, truth = squares()
    attack = mr.BIM(steps=5, step_size=0.75, trace=True, targeted=targeted)
    wanted = truth.roll(2, 2) if targeted else truth
    trajectory = attack(victim, images, wanted, THREAT).trajectory
    stopped = [replace(attack, steps=t, trace=False)(victim, images, wanted, THREAT).loss for t in range(1, 6)]
    torch.testing.assert_close(trajectory.deviation, torch.stack([TASK.loss(victim(images), wanted), *stopped]))


def test_what_a_trace_ignores_is_what_is_ignored_where_it_starts():
    """Answers are compared at fixed pixels, the same in every row: those that a random start does not hide."""
    victim, images, truth = squares()
    victim = mr.Victim(victim.model, mr.Segmentation(2, ignore_index=255))
    truth[:, :6] = 255
    attack = mr.PGD(steps=3, trace=True)
    result = attack(victim, images, truth, THREAT)
    space = THREAT.space(images, victim.bounds)
    start = space.random_start(sample_generators(0, range(2), "start 0"))
    first, last = (victim(x).log_softmax(1) for x in (space.images(start), result.adversarial))
    used = space.truth(truth, start) != 255
    assert not torch.equal(used, truth != 255)
    kl = torch.where(used, (first.exp() * (first - last)).sum(1), 0).flatten(1).sum(1) / used.flatten(1).sum(1)
    torch.testing.assert_close(result.trajectory.kl_initial[-1], kl)
