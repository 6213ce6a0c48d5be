"""Copies of images and the look-ahead, one by one and by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from attacks.alone import HU, iterate, opened_for
from torch import Tensor, nn

from medrobust.attacks import (
    MIFGSM,
    Expectation,
    LookAhead,
    Mixing,
    Scales,
)
from medrobust.attacks.objectives import Iterate, OutputObjective
from medrobust.errors import InputError
from medrobust.tasks import Classification
from medrobust.threat import Threat
from medrobust.transforms import BitDepth, Noise
from medrobust.victim import Victim


def test_scales_darken_towards_the_lowest_value():
    images = torch.tensor([-1000.0, 0.0, 1000.0, 3000.0]).reshape(2, 1, 1, 2)
    with opened_for(images, Threat(10.0), HU) as case:
        made = Scales(3)(iterate(images), case)
    assert made.copies == 3
    assert made.plain
    # lo + (x − lo)/2^i: copy by copy, the images in order within each
    assert made.current.flatten().tolist() == [-1000, 0, 1000, 3000, -1000, -500, 0, 1000, -1000, -750, -500, 0]
    assert torch.equal(made.current, made.clean)


def test_looking_ahead_goes_the_velocity_times_the_step():
    images, velocity = torch.tensor([[[[0.5]]], [[[0.2]]]]), torch.tensor([[[[2.0]]], [[[-1.0]]]])
    with opened_for(images) as case:
        ahead = LookAhead(0.5)(iterate(images, velocity=velocity, step_size=0.1), case)
        assert ahead.current.flatten().tolist() == pytest.approx([0.5 + 0.5 * 0.1 * 2, 0.2 - 0.5 * 0.1])
        assert not ahead.plain
        lengths = torch.tensor([0.1, 0.4])
        own = iterate(images, velocity=velocity, step_size=lengths)
        expected = [0.5 + 0.1, 0.2 - 0.2]
        assert LookAhead(0.5)(own, case).current.flatten().tolist() == pytest.approx(expected)
        # of several copies, too: copy k of image b is row k · B + b
        assert LookAhead(0.5)(own.copied(2), case).current.flatten().tolist() == pytest.approx(expected * 2)
        for nothing in (iterate(images, step_size=0.1), replace(own, velocity=None)):
            assert LookAhead()(nothing, case) is nothing
    with pytest.raises(InputError, match="decay must be a finite number, at least 0"):
        LookAhead(-1.0)


def test_looking_ahead_is_of_momentum_by_its_own_decay():
    """On a linear model the gradient is the same everywhere, so NI is MI; on a curved one it is not."""

    class Curved(OutputObjective):
        def deviation(self, task: Classification, outputs: Tensor, iterate: Iterate) -> Tensor:
            return (iterate.current - 0.52).square().flatten(1).sum(1).neg() + 0 * outputs.sum(1)

    images = torch.full((1, 1, 1, 3), 0.5)
    victim = Victim(nn.Flatten(), Classification(3))
    ends = [
        MIFGSM(steps=5, step_size=0.01, inputs=inputs, loss=Curved())(victim, images, torch.tensor([0]), Threat(0.1))
        for inputs in ([], ["ni"])
    ]
    # MI: +.01 +.01 +.01 (momentum over the top) …; NI sees the other side one step earlier
    assert not torch.equal(ends[0].adversarial, ends[1].adversarial)


def test_mixing_is_of_a_pool_not_of_neighbours():
    pool = torch.rand(5, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    images = torch.rand(3, 1, 2, 2, generator=torch.Generator().manual_seed(1))
    part = Mixing(pool, share=0.2, others=2)
    with opened_for(images, ids=["a", "b", "c"]) as case:
        stage = part.begin(case, "mix")
        first, second = stage(iterate(images), case), stage(iterate(images), case)
    assert first.copies == 2
    assert not first.plain
    added = (first.current - images.repeat(2, 1, 1, 1)) / 0.2
    for one in added:
        assert any(torch.allclose(one, other, atol=1e-5) for other in pool)
    torch.testing.assert_close(first.clean, first.current)
    assert not torch.equal(first.current, second.current), "every step draws anew"
    with opened_for(images[1:2], ids=["b"]) as case:
        alone = part.begin(case, "mix")(iterate(images[1:2]), case)
    torch.testing.assert_close(alone.current, first.current[[1, 4]])


def test_mixing_adds_what_is_above_the_lowest_value():
    pool, images = torch.full((1, 1, 1, 2), 500.0), torch.zeros(1, 1, 1, 2)
    with opened_for(images, Threat(10.0), HU) as case:
        mixed = Mixing(pool, share=0.1, others=1).begin(case, "mix")(iterate(images), case)
    assert mixed.current.flatten().tolist() == [150.0, 150.0]


def test_without_a_pool_an_image_is_mixed_with_itself_turned_over():
    images = torch.arange(4.0).reshape(1, 1, 2, 2) / 10
    with opened_for(images) as case:
        stage = Mixing(share=1.0, others=12).begin(case, "mix")
        others = {
            tuple((one - images[0]).flatten().mul(10).round().int().tolist())
            for one in stage(iterate(images), case).current
        }
    assert others == {(0, 1, 2, 3), (1, 0, 3, 2), (2, 3, 0, 1), (3, 2, 1, 0)}


def test_a_pool_of_another_shape_is_told():
    with (
        opened_for(torch.rand(1, 1, 4, 4)) as case,
        pytest.raises(
            InputError,
            match=r"the images to mix in are \(1, 3, 4\), the attacked ones \(1, 4, 4\): they must be of one shape",
        ),
    ):
        Mixing(torch.rand(2, 1, 3, 4)).begin(case, "mix")


def test_expectation_passes_what_has_no_gradient_straight_through():
    """Rounded to 1 bit, .6 and .4 are 1 and 0; the gradient is that of the image as if nothing had been done."""
    images = torch.tensor([0.6, 0.4, 0.9]).reshape(1, 1, 1, 3).requires_grad_()
    with opened_for(images.detach()) as case:
        made = Expectation(BitDepth(bits=1), samples=2).begin(case, "eot")(iterate(images), case)
    assert made.copies == 2
    assert not made.plain
    assert made.current.flatten().tolist() == [1, 0, 1] * 2
    (gradient,) = torch.autograd.grad((made.current * torch.tensor([1.0, 2.0, 3.0])).sum(), images)
    assert gradient.flatten().tolist() == [2, 4, 6]


def test_expectation_draws_for_each_image_and_copy_alone():
    images = torch.full((2, 1, 3, 3), 0.5)
    part = Expectation(Noise(0.1), samples=3, plain=True)
    with opened_for(images, ids=["a", "b"]) as case:
        made = part.begin(case, "eot")(iterate(images), case)
    assert made.copies == 4
    assert made.plain
    assert torch.equal(made.current[:2], images)
    assert len({tuple(one.flatten().tolist()) for one in made.current[2:]}) == 6
    with opened_for(images[1:], ids=["b"]) as case:
        alone = part.begin(case, "eot")(iterate(images[1:]), case)
    torch.testing.assert_close(alone.current, made.current[1::2])
