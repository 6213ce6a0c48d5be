"""Steps by hand; that each part serves images with radii of their own, and is found by name."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from attacks.alone import iterate, opened_for
from torch import Tensor, nn

from medrobust.attacks import (
    BIM,
    PGD,
    Adam,
    LookAhead,
    LowFrequency,
    Momentum,
    Normalisation,
    PatchWise,
    Scales,
    TranslationInvariance,
    Walk,
)
from medrobust.attacks.objectives import Terms
from medrobust.attacks.parts import make_gradients, make_inputs, make_step
from medrobust.attacks.steps import Situation, StepRule, decayed
from medrobust.errors import InputError
from medrobust.tasks import Classification
from medrobust.threat import Threat
from medrobust.transforms import Noise
from medrobust.victim import Victim


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
