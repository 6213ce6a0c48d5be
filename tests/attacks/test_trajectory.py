"""The trajectory against the same attack stopped at every step, and what recording it costs."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from medrobust.attacks import BIM, MIFGSM, PGD, SMIA, GaussianSmoothing
from medrobust.tasks import Segmentation
from medrobust.threat import Threat
from medrobust.victim import Victim

STEPS = 4
THREAT = Threat(eps=4 / 255)
ATTACKS = {
    "bim": BIM(steps=STEPS, step_size=1 / 255, trace=True),
    "smia": SMIA(steps=STEPS, step_size=1 / 255, trace=True),
    "smia constant": SMIA(steps=STEPS, step_size=1 / 255, trace=True, through_target=False, a2=0.5),
    "smia released": SMIA(steps=STEPS, step_size=1 / 255, trace=True, variant="released", a2=0.5),
    "smia perturbation": SMIA(steps=STEPS, step_size=1 / 255, trace=True, smooth="perturbation"),
    "pgd": PGD(steps=STEPS, step_size=1 / 255, trace=True),
}


def kl(log_p, log_q):
    return F.kl_div(log_q, log_p, log_target=True, reduction="none").sum(1).reshape(len(log_p), -1).mean(1)


@pytest.fixture(scope="module")
def dense():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(1, 6, 3, padding=1), nn.Tanh(), nn.Conv2d(6, 3, 3, padding=1))
        return Victim(model, Segmentation(3)), torch.rand(3, 1, 12, 10), torch.randint(0, 3, (3, 12, 10))


@pytest.fixture(params=["classifier", "segmenter"])
def case(request, trained, dense):
    return trained if request.param == "classifier" else dense


@pytest.mark.parametrize("name", ATTACKS)
def test_every_row_is_what_the_attack_stopped_there_shows(case, name):
    victim, images, truth = case
    attack = ATTACKS[name]
    trajectory = attack(victim, images, truth, THREAT).trajectory
    start = images
    if attack.random_start:
        from medrobust.threat import sample_generators

        start = THREAT.space(images, victim.bounds).random_start(sample_generators(0, range(len(images)), "start 0"))
    stopped = [replace(attack, steps=t, trace=False)(victim, images, truth, THREAT) for t in range(1, STEPS + 1)]
    iterates = [start, *(result.adversarial for result in stopped)]
    with torch.no_grad():
        log_p = [victim(x).log_softmax(1) for x in iterates]
        log_s = [victim(GaussianSmoothing()(x)).log_softmax(1) for x in iterates]
        losses = [victim.task.loss(victim(x), truth) for x in iterates]
    for t, x in enumerate(iterates):
        delta = (x - images).flatten(1)
        expected = {
            "deviation": losses[t],
            "stabilization": kl(log_s[t], log_p[t]),
            "kl_smoothed": kl(log_p[t], log_s[t]),
            "kl_initial": kl(log_p[0], log_p[t]),
            "kl_final": kl(log_p[t], log_p[-1]),
            "linf": delta.abs().amax(1),
            "l2": delta.norm(dim=1),
            "worth": victim.task.worth(victim(x), truth).float(),
        }
        if t:
            expected["kl_previous"] = kl(log_p[t], log_p[t - 1])
            before = (iterates[t - 1] - images).flatten(1)
            expected["moved"] = (delta - before).norm(dim=1)
            if bool(before.any()):
                expected["cosine"] = F.cosine_similarity(delta, before)
        for field, value in expected.items():
            row = getattr(trajectory, field)[t]
            assert torch.allclose(row, value.clamp_min(0) if "kl" in field else value, rtol=2e-3, atol=2e-6), (field, t)
    assert bool(trajectory.kl_previous[0].isnan().all())
    assert bool(trajectory.sign_flips[:2].isnan().all())
    assert torch.equal(trajectory.kl_final[-1], torch.zeros(len(images)))


def test_sign_flips_on_paper():
    """A loss |x0 − .52| + x1 climbed from .5: x0 goes away from .52 and never turns; descended, it turns every step."""

    class Bent(nn.Module):
        def forward(self, x):
            flat = x.flatten(1)
            value = (flat[:, 0] - 0.52).abs() + flat[:, 1]
            return torch.stack([-value, torch.zeros_like(value)], 1)

    from medrobust.tasks import Classification

    victim, images = Victim(Bent(), Classification(2)), torch.full((1, 1, 1, 2), 0.5)
    away = BIM(steps=4, step_size=0.04, trace=True)(victim, images, torch.tensor([0]), Threat(eps=0.3))
    assert away.trajectory.sign_flips.flatten().tolist()[2:] == [0, 0, 0]
    towards = BIM(steps=4, step_size=0.04, trace=True)(victim, images, torch.tensor([1]), Threat(eps=0.3))
    assert towards.trajectory.sign_flips.flatten().tolist()[2:] == [0.5, 0.5, 0.5]


@pytest.mark.parametrize("name", ATTACKS)
def test_recording_costs_at_most_a_forward_a_step(trained, name):
    victim, images, truth = trained
    seen = []
    hook = victim.model.register_forward_hook(lambda module, inputs, output: seen.append(len(output)))
    replace(ATTACKS[name], trace=False)(victim, images, truth, THREAT)
    plain = sum(seen)
    seen.clear()
    traced = ATTACKS[name](victim, images, truth, THREAT)
    hook.remove()
    # the last iterate is looked at too, as is and smoothed
    assert sum(seen) - plain <= (STEPS + 2) * len(images)
    untraced = replace(ATTACKS[name], trace=False)(victim, images, truth, THREAT)
    assert torch.equal(traced.adversarial, untraced.adversarial)
    assert untraced.trajectory is None


def test_of_several_restarts_it_is_the_kept_one(trained):
    victim, images, truth = trained
    attack = PGD(steps=3, restarts=3, trace=True)
    result = attack(victim, images, truth, THREAT)
    assert torch.allclose(result.trajectory.deviation[-1], result.loss, rtol=1e-4)
    assert torch.allclose(result.trajectory.linf[-1], result.delta.flatten(1).abs().amax(1), atol=1e-6)


def test_shapes(trained):
    victim, images, truth = trained
    trajectory = MIFGSM(steps=5, trace=True)(victim, images, truth, THREAT).trajectory
    rows = {f.name: getattr(trajectory, f.name) for f in fields(trajectory)}
    maps = {name: rows.pop(name) for name in ("kl_final_map", "kl_initial_map")}
    assert {row.shape for row in rows.values()} == {(6, 16)}
    assert set(maps.values()) == {None}


def test_maps_have_the_rows_as_their_means_without_the_ignored_pixels(dense):
    victim, images, truth = dense
    truth = truth.clone()
    truth[:, ::3] = 255
    victim = Victim(victim.model, Segmentation(3, ignore_index=255))
    trajectory = PGD(steps=3, trace=True)(victim, images, truth, THREAT).trajectory
    for name in ("kl_final", "kl_initial"):
        pixels = getattr(trajectory, f"{name}_map")
        assert pixels.shape == (4, *truth.shape)
        assert torch.equal(pixels.isnan(), (truth == 255).expand_as(pixels))
        assert torch.allclose(pixels.flatten(2).nanmean(2), getattr(trajectory, name), rtol=1e-4, atol=1e-7)
