"""The parts of an attack, one by one and by hand; that each serves images with radii of their own, and by name."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from medrobust.attacks import (
    BIM,
    MIFGSM,
    PGD,
    Adam,
    Expectation,
    LookAhead,
    LowFrequency,
    Mixing,
    Momentum,
    Normalisation,
    PatchWise,
    Scales,
    TranslationInvariance,
    VarianceTuning,
    Walk,
)
from medrobust.attacks.case import Case, opened
from medrobust.attacks.gradients import Point
from medrobust.attacks.objectives import Iterate, OutputObjective, Terms
from medrobust.attacks.parts import make_gradients, make_inputs, make_step
from medrobust.attacks.steps import Situation, StepRule, decayed
from medrobust.errors import InputError
from medrobust.tasks import Classification
from medrobust.threat import Threat
from medrobust.transforms import BitDepth, Noise
from medrobust.victim import Victim

HU = (-1000.0, 3000.0)


def iterate(current: Tensor, clean: Tensor | None = None, **more: Any) -> Iterate:
    clean = current if clean is None else clean
    return Iterate(1, 4, clean, current, torch.zeros(len(current), dtype=torch.int64), 1, **more)


class opened_for:
    """A case around images, of a network that nobody asks."""

    def __init__(self, clean: Tensor, threat: Threat | None = None, bounds: tuple[float, float] = (0.0, 1.0), ids=None):
        victim = Victim(nn.Flatten(), Classification(3), bounds=bounds)
        truth = torch.zeros(len(clean), dtype=torch.int64)
        threat = Threat(0.1) if threat is None else threat
        self.context = opened(victim, clean, truth, threat, 0, ids, targeted=False)

    def __enter__(self) -> Case:
        return self.context.__enter__()

    def __exit__(self, *error: object) -> None:
        self.context.__exit__(*error)


def point(variables: Tensor, last: bool = False, gradient_at: Any = None) -> Point:
    return Point(variables, last, gradient_at)


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


def test_momentum_by_hand():
    """g ← μ·g + ∇/mean|∇|: (1, 3) has a mean of 2; then (−4, 0)."""
    first, second = torch.tensor([1.0, 3.0]).reshape(1, 1, 1, 2), torch.tensor([-4.0, 0.0]).reshape(1, 1, 1, 2)
    with opened_for(torch.zeros_like(first)) as case:
        stage = Momentum(0.5).begin(case, "momentum")
        assert stage(first, point(first)).flatten().tolist() == pytest.approx([0.5, 1.5])
        assert stage(second, point(first)).flatten().tolist() == pytest.approx([0.25 - 2, 0.75])


def test_momentum_outlives_a_gradient_of_zero():
    """0/0 would be NaN for good: torchattacks' images stand still from then on."""
    zero, later = torch.zeros(1, 1, 1, 2), torch.tensor([1.0, 3.0]).reshape(1, 1, 1, 2)
    with opened_for(zero) as case:
        stage = Momentum().begin(case, "momentum")
        assert stage(zero, point(zero)).flatten().tolist() == [0, 0]
        assert stage(later, point(zero)).flatten().tolist() == pytest.approx([0.5, 1.5])
    assert Normalisation()(later, point(zero)).flatten().tolist() == pytest.approx([0.5, 1.5])
    assert Normalisation()(1e-20 * later, point(zero)).flatten().tolist() == pytest.approx([0.5, 1.5])


def test_the_kernel_of_ti_is_the_papers():
    """A Gaussian from −3σ to 3σ: of 5 taps at −3, −1.5, 0, 1.5, 3 σ, e^{−t²/2} over their sum, outer product."""
    taps = [math.exp(-(t**2) / 2) for t in (-3, -1.5, 0, 1.5, 3)]
    row = np.array(taps) / sum(taps)
    impulse = torch.zeros(1, 2, 7, 7)
    impulse[0, 1, 3, 3] = 1
    smoothed = TranslationInvariance(5)(impulse, point(impulse))
    np.testing.assert_allclose(smoothed[0, 1, 1:6, 1:6].numpy(), np.outer(row, row), atol=1e-7)
    assert float(smoothed[0, 0].abs().max()) == 0, "channel by channel"
    # outside there is nothing: at a corner a quarter of the kernel and its middle rows are left
    corner = TranslationInvariance(5)(torch.ones(1, 1, 7, 7), point(impulse))[0, 0, 0, 0]
    assert float(corner) == pytest.approx(row[2:].sum() ** 2, rel=1e-5)
    cube = torch.zeros(1, 1, 5, 5, 5)
    cube[0, 0, 2, 2, 2] = 1
    three = TranslationInvariance(5)(cube, point(cube))[0, 0].numpy()
    np.testing.assert_allclose(three, row[:, None, None] * row[:, None] * row, atol=1e-7)


@pytest.mark.parametrize("shape", [(2, 2, 8, 7), (1, 1, 4, 6, 5)])
@pytest.mark.parametrize("share", [0.3, 0.5, 1.0])
def test_low_frequencies_are_numpys(shape, share):
    gradient = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    axes = tuple(range(2, len(shape)))
    spectrum = np.fft.fftn(gradient.numpy(), axes=axes)
    for axis in axes:
        kept = np.abs(np.fft.fftfreq(shape[axis])) <= share / 2
        spectrum = spectrum * kept.reshape([-1 if other == axis else 1 for other in range(len(shape))])
    low = LowFrequency(share)(gradient, point(gradient))
    np.testing.assert_allclose(low.numpy(), np.fft.ifftn(spectrum, axes=axes).real, atol=1e-6)
    if share == 1:
        torch.testing.assert_close(low, gradient, rtol=0, atol=1e-6)


def test_of_the_lowest_frequency_the_mean_is_left():
    gradient = torch.arange(6.0).reshape(1, 1, 2, 3)
    low = LowFrequency(0.01)(gradient, point(gradient))
    torch.testing.assert_close(low, torch.full_like(gradient, 2.5))


def test_variance_tuning_by_hand():
    """Of J = x³ the gradient is 3x²: v is its mean at the neighbours less that at x, and is added one step later."""

    def cubic(points: Tensor) -> Tensor:
        asked.append(points)
        return (3 * points**2).mean(0)

    asked: list[Tensor] = []
    x = torch.tensor([[[[0.5]]], [[[0.25]]]])
    with opened_for(x, Threat(torch.tensor([0.1, 0.01]))) as case:
        stage = VarianceTuning(neighbours=4, radius=2.0).begin(case, "variance")
        first = stage(3 * x**2, point(x, gradient_at=cubic))
        torch.testing.assert_close(first, 3 * x**2)
        assert asked[0].shape == (4, *x.shape)
        away = (asked[0] - x).abs().flatten(2).amax((0, 2))
        assert 0.02 < float(away[0]) <= 0.2
        assert 0.002 < float(away[1]) <= 0.02
        variance = (3 * asked[0] ** 2).mean(0) - 3 * x**2
        torch.testing.assert_close(stage(torch.ones_like(x), point(x, True, cubic)), 1 + variance)
    assert len(asked) == 1, "the last step needs no neighbours"


def test_neighbours_are_others_at_every_step_and_an_images_own():
    asked: list[Tensor] = []

    def flat(points: Tensor) -> Tensor:
        asked.append(points)
        return points.mean(0)

    x = torch.full((3, 1, 4, 4), 0.5)
    with opened_for(x, ids=["a", "b", "c"]) as case:
        stage = VarianceTuning(2).begin(case, "variance")
        for _ in range(3):
            stage(x, point(x, gradient_at=flat))
    assert len({tuple(points.flatten().tolist()) for points in asked}) == 3
    with opened_for(x[:1], ids=["c"]) as case:
        VarianceTuning(2).begin(case, "variance")(x[:1], point(x[:1], gradient_at=flat))
    torch.testing.assert_close(asked[3], asked[0][:, 2:])


def stepping(rule: StepRule, gradients: list[Tensor], clean: Tensor, threat: Threat, length: float) -> list[Tensor]:
    """The points that a rule makes of given gradients."""
    points, now = [], clean
    with opened_for(clean, threat) as case:
        stepper = rule.begin(case, length)
        for index, gradient in enumerate(gradients):
            value = torch.zeros(len(clean))
            at = Situation(case, index, len(gradients), now, Terms(value, None), value, iterate(now))
            now = stepper(gradient, at).variables.clone()
            points.append(now)
    return points


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_adam_is_torchs(schedule):
    """Step for step, within a ball too large to matter, each gradient brought to a largest value of 1."""
    random, clean = torch.Generator().manual_seed(0), torch.full((1, 1, 2, 3), 0.5)
    gradients = [torch.randn(clean.shape, generator=random) for _ in range(8)]
    points = stepping(Adam(0.8, 0.95, schedule), gradients, clean, Threat(1.0), 0.01)
    theirs = nn.Parameter(clean.clone())
    optimizer = torch.optim.Adam([theirs], lr=0.01, betas=(0.8, 0.95), maximize=True)
    rate = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, len(gradients))
    for gradient, mine in zip(gradients, points, strict=True):
        theirs.grad = gradient / gradient.abs().max()
        optimizer.step()
        if schedule == "cosine":
            rate.step()
        torch.testing.assert_close(mine, theirs.detach(), rtol=0, atol=1e-6)


def test_the_cosine_falls_from_1_to_nearly_0():
    assert [decayed("cosine", index, 4) for index in range(4)] == pytest.approx([1, 0.853553, 0.5, 0.146447], abs=1e-6)
    assert decayed("constant", 3, 4) == 1
    clean, up = torch.zeros(1, 1, 1, 1), [torch.ones(1, 1, 1, 1)] * 4
    points = stepping(Walk(schedule="cosine"), up, clean, Threat(1.0), 0.1)
    assert [float(one) for one in points] == pytest.approx([0.1, 0.1853553, 0.2353553, 0.25], abs=1e-6)


def test_patch_wise_by_hand():
    """3 × 3, eps .1, β·α = .15: all gradients up but the middle's, down.

    Step 1: a = ±.15 is .05 beyond eps everywhere. Around a corner are two edges and the middle: .05 + .05 − .05, up;
    around an edge five, of which one is the middle: up; around the middle eight: up. So the middle goes −.15 + .15 = 0
    and the others .3, cut to .1.
    """
    clean, gradient = torch.full((1, 1, 3, 3), 0.5), torch.ones(1, 1, 3, 3)
    gradient[0, 0, 1, 1] = -1
    (first,) = stepping(PatchWise(amplification=1.0), [gradient], clean, Threat(0.1), 0.15)
    expected = torch.full((3, 3), 0.1)
    expected[1, 1] = 0
    torch.testing.assert_close(first[0, 0] - 0.5, expected, rtol=0, atol=1e-6)
    # nothing beyond eps: plain steps
    (short,) = stepping(PatchWise(amplification=1.0), [gradient], clean, Threat(0.2), 0.15)
    torch.testing.assert_close(short - clean, 0.15 * gradient, rtol=0, atol=1e-6)
    # amplified, and half of it passed on: −.15 + .075
    (half,) = stepping(PatchWise(5.0, 0.5), [gradient], clean, Threat(0.1), 0.03)
    assert float(half[0, 0, 1, 1]) == pytest.approx(0.5 - 0.075)


def test_patch_wise_keeps_its_account():
    """What was passed on is in the account: .05 up makes .05 + .15 in the middle, and it takes no step down for it."""
    clean, gradient = torch.full((1, 1, 3, 3), 0.5), torch.ones(1, 1, 3, 3)
    gradient[0, 0, 1, 1] = -1
    first, second = stepping(PatchWise(amplification=1.0), [gradient, gradient], clean, Threat(0.1), 0.15)
    # the middle's account was −.15 + .15 = 0, is −.15 again: as before, up and down
    assert float(second[0, 0, 1, 1]) == pytest.approx(float(first[0, 0, 1, 1]))
    with pytest.raises(InputError, match="patch-wise steps are for changes within linf, the threat is l2"):
        stepping(PatchWise(), [gradient], clean, Threat(0.1, norm="l2"), 0.1)


PARTS: dict[str, dict[str, Any]] = {
    "di": {"inputs": [{"di": {"probability": 1.0}}]},
    "si": {"inputs": ["si"]},
    "ni": {"inputs": ["ni"], "momentum": 1.0},
    "si, ni": {"inputs": [{"si": {"copies": 2}}, "ni"], "momentum": 1.0},
    "mix": {"inputs": ["mix"]},
    "eot": {"inputs": [{"eot": {"transform": Noise(0.05), "samples": 2}}]},
    "momentum": {"gradients": ["momentum"]},
    "normalisation": {"gradients": ["normalisation"]},
    "ti": {"gradients": [{"ti": {"kernel_size": 3}}]},
    "low_frequency": {"gradients": ["low_frequency"]},
    "vt": {"gradients": ["vt"], "momentum": 1.0},
    "walk": {"step": {"walk": {"schedule": "cosine"}}},
    "adam": {"step": "adam"},
    "patch-wise": {"step": PatchWise(amplification=2.0)},
}


@pytest.mark.parametrize("early_stop", [False, True])
@pytest.mark.parametrize("name", PARTS)
def test_every_part_takes_a_radius_for_each_image(name, early_stop):
    torch.manual_seed(0)
    victim = Victim(nn.Sequential(nn.Flatten(), nn.Linear(36, 8), nn.Tanh(), nn.Linear(8, 3)), Classification(3))
    images = torch.rand(4, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    truth, ids = victim(images).argmax(1), ["a", "b", "c", "d"]
    eps = torch.tensor([0.02, 0.2, 0.0, 0.05])
    attack = PGD(steps=5, restarts=2, early_stop=early_stop, **PARTS[name])
    together = attack(victim, images, truth, Threat(eps), ids=ids)
    assert bool((together.delta.flatten(1).abs().amax(1) <= eps + 1e-6).all())
    assert float(together.delta[1].abs().max()) > 0.05
    for place in range(4):
        one = slice(place, place + 1)
        alone = attack(victim, images[one], truth[one], Threat(float(eps[place])), ids=ids[one])
        torch.testing.assert_close(alone.adversarial[0], together.adversarial[place], rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("make", "written", "message"),
    [
        (make_inputs, "mx", "unknown input 'mx'"),
        (make_gradients, ["momentum", "tii"], "unknown gradient part 'tii'"),
        (make_step, "adamw", "unknown step 'adamw'"),
        (make_gradients, {"ti": {"kernel": 5}}, "unknown option of gradient part ti 'kernel'"),
        (make_inputs, {"si": 3}, "input is a name or {si: {copies: 3}}, got {'si': 3}"),
        (make_inputs, {"si": {}, "ni": {}}, "input is a name or {si: {copies: 3}}, got"),
        (make_step, {"adam": {"beta1": 1.0}}, r"beta1 must be in \[0, 1\), got 1.0"),
        (make_step, {"walk": {"schedule": "linear"}}, "schedule must be one of constant, cosine, got 'linear'"),
        (make_gradients, {"ti": {"kernel_size": 4}}, "kernel_size must be odd, got 4"),
        (make_gradients, {"low_frequency": {"share": 1.5}}, "share must be at most 1, got 1.5"),
        (make_gradients, {"vt": {"neighbours": 0}}, "neighbours must be a whole number of at least 1"),
        (make_inputs, {"mix": {"others": 0}}, "others must be a whole number of at least 1"),
        (make_inputs, {"eot": {"samples": 0}}, "samples must be a whole number of at least 1"),
    ],
)
def test_what_no_part_is(make, written, message):
    with pytest.raises(InputError, match=message):
        make(written)


def test_by_name_is_by_class():
    assert make_inputs(["ni", {"si": {"copies": 3}}]) == (LookAhead(), Scales(3))
    assert make_gradients({"ti": None}) == (TranslationInvariance(),)
    assert make_step(Adam(0.5)) == Adam(0.5)
    assert BIM(gradients="momentum").gradients == (Momentum(),)


@pytest.mark.parametrize("part", [TranslationInvariance(), LowFrequency(), Normalisation()])
def test_a_filter_of_pixels_needs_pixels(part):
    from medrobust.threat import Contrast

    with (
        opened_for(torch.rand(1, 1, 4, 4), Contrast(0.1)) as case,
        pytest.raises(InputError, match=f"{type(part).__name__} treats a gradient over pixels, the threat is contrast"),
    ):
        part.begin(case, "filter")
