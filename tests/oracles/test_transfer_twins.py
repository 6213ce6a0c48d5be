"""The transfer attacks against torchattacks' own, image by image: the same points, not merely the same effect.

Where torchattacks draws at random, it is given what ours drew. It divides by unguarded norms and never starts anew from
a gradient of zero: what that leads to has a test of its own below.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from oracles.peers import from_torchattacks as peer
from oracles.peers.norms import start_at
from torch import Tensor, nn

from medrobust.attacks import (
    DIFGSM,
    DLR,
    MIFGSM,
    NIFGSM,
    PGD,
    PIFGSM,
    SINIFGSM,
    TIFGSM,
    VMIFGSM,
    VNIFGSM,
    Expectation,
    VarianceTuning,
)
from medrobust.attacks.case import Case, opened
from medrobust.attacks.gradients import GradientStage, Point
from medrobust.attacks.iterative import IterativeAttack
from medrobust.attacks.loop import run_plan
from medrobust.attacks.objectives import Iterate, Terms
from medrobust.tasks import Classification
from medrobust.threat import Threat
from medrobust.victim import Victim

STEPS = 8


@pytest.fixture
def sides(untouched) -> tuple[Any, Tensor, Tensor, dict[str, Any]]:
    """The network, 48 images that it answers right, and the options of both sides."""
    images, truth = untouched.right(48)
    eps = untouched.eps["linf"]
    return untouched, images, truth, {"eps": eps, "step_size": eps / 5, "steps": STEPS}


def ours(victim: Victim, attack: IterativeAttack, images: Tensor, truth: Tensor, eps: float, **start: Tensor) -> Tensor:
    with opened(victim, images, truth, Threat(eps), 0, None, targeted=False) as case:
        return run_plan(attack.plan(case), case, **start).candidate.image


def agree(found: Tensor, theirs: Tensor, images: Tensor, eps: float) -> None:
    assert float((theirs - images).abs().flatten(1).amax(1).min()) > 0.5 * eps, "the peer did not attack every image"
    apart = (found - theirs).abs()
    assert float(apart.max()) <= 0.5 * eps
    # rounding may turn the sign of a gradient that is next to nothing, in a pixel or two of a hundred thousand
    assert float((apart > 1e-5).double().mean()) <= 1e-4


@pytest.mark.parametrize("decay", [1.0, 0.9, 0.3])
@pytest.mark.parametrize(
    ("attack", "theirs"),
    [
        (MIFGSM, peer.mi_fgsm),
        (NIFGSM, peer.ni_fgsm),
        (SINIFGSM, peer.si_ni_fgsm),
        (TIFGSM, lambda *batch, **options: peer.ti_fgsm(*batch, side=15, **options)),
    ],
    ids=["MI", "NI", "SI-NI", "M-TI"],
)
def test_with_momentum(sides, attack, theirs, decay):
    oracle, images, truth, options = sides
    found = ours(oracle.victim, attack(**_walk(options), momentum=decay), images, truth, options["eps"])
    agree(found, theirs(oracle.model, images, truth, decay=decay, **options), images, options["eps"])


@pytest.mark.parametrize("copies", [1, 3])
def test_si_ni_with_other_numbers_of_copies(sides, copies):
    oracle, images, truth, options = sides
    found = ours(oracle.victim, SINIFGSM(**_walk(options), copies=copies), images, truth, options["eps"])
    agree(found, peer.si_ni_fgsm(oracle.model, images, truth, copies=copies, **options), images, options["eps"])


@pytest.mark.parametrize("side", [5, 7, 15])
def test_ti_without_momentum(sides, side):
    oracle, images, truth, options = sides
    found = ours(oracle.victim, TIFGSM(**_walk(options), translation_kernel=side), images, truth, options["eps"])
    agree(found, peer.ti_fgsm(oracle.model, images, truth, side=side, **options), images, options["eps"])


def test_di_of_probability_0(sides):
    oracle, images, truth, options = sides
    found = ours(oracle.victim, DIFGSM(**_walk(options), diversity_probability=0.0), images, truth, options["eps"])
    agree(found, peer.di_fgsm(oracle.model, images, truth, **options), images, options["eps"])


@pytest.mark.parametrize("decay", [0.0, 1.0])
def test_di_of_probability_1_at_the_same_places(sides, decay):
    """torchattacks draws for the whole batch, ours for each image: so one image at a time."""
    oracle, images, truth, options = sides
    attack = DIFGSM(**_walk(options), diversity_probability=1.0, momentum=decay)
    for place in range(0, 48, 6):
        image, answer, seen = images[place : place + 1], truth[place : place + 1], _Watching()
        found = ours(oracle.victim, replace(attack, loss=seen), image, answer, options["eps"])
        assert len(set(seen.places)) > STEPS // 2
        theirs = peer.di_fgsm(oracle.model, image, answer, places=seen.places, decay=decay, **options)
        agree(found, theirs, image, options["eps"])


@pytest.mark.parametrize("decay", [1.0, 0.5])
@pytest.mark.parametrize(("attack", "theirs"), [(VMIFGSM, peer.vmi_fgsm), (VNIFGSM, peer.vni_fgsm)], ids=["VMI", "VNI"])
def test_variance_tuning_with_the_same_neighbours(sides, attack, theirs, decay):
    """Ours draws an image's neighbours once and turns them at each step; they are handed on as they were."""
    oracle, images, truth, options = sides

    class Watched(attack):
        def gradient_parts(self):
            return tuple(
                _Noting(part, noise) if isinstance(part, VarianceTuning) else part for part in super().gradient_parts()
            )

    noise: list[Tensor] = []
    watched = Watched(**_walk(options), neighbours=4, momentum=decay)
    found = ours(oracle.victim, watched, images, truth, options["eps"])
    assert len(noise) == STEPS - 1, "the variance after the last step serves nobody"
    assert not torch.equal(noise[0], noise[1])
    handed = torch.stack([*noise, torch.zeros_like(noise[0])])
    assert 1.45 * options["eps"] < float(handed.abs().max()) <= 1.5 * options["eps"] + 1e-6
    step = options["step_size"]
    peers = theirs(oracle.model, images, truth, noise=handed, eps=options["eps"], step_size=step, decay=decay)
    agree(found, peers, images, options["eps"])


@pytest.mark.parametrize("amplification", [1.0, 2.5, 10.0])
def test_pi(sides, amplification):
    oracle, images, truth, options = sides
    eps = options["eps"]
    found = ours(oracle.victim, PIFGSM(steps=STEPS, amplification=amplification), images, truth, eps)
    theirs = peer.pi_fgsm(oracle.model, images, truth, eps=eps, steps=STEPS, amplification=amplification)
    agree(found, theirs, images, eps)


def test_eot_over_a_model_that_draws_nothing_is_pgd(sides):
    oracle, images, truth, options = sides
    eps, start = options["eps"], start_at(images, options["eps"])
    theirs = peer.eot_pgd(oracle.model, images, truth, start=start, n=3, **options)
    for inputs in ([Expectation(samples=3)], []):
        attack = PGD(**_walk(options), inputs=inputs)
        agree(ours(oracle.victim, attack, images, truth, eps, start=start), theirs, images, eps)


def test_momentum_on_other_losses(sides):
    """UPGD: momentum, with DLR. Once it is at its largest, torchattacks stands still; so the images still right."""
    oracle, images, truth, options = sides
    options = options | {"eps": options["eps"] / 3, "step_size": options["eps"] / 15}
    found = ours(oracle.victim, MIFGSM(**_walk(options), loss=DLR()), images, truth, options["eps"])
    theirs = peer.upgd(oracle.model, images, truth, loss="dlr", decay=1.0, **options)
    agree(found, theirs, images, options["eps"])


def test_no_gradient_is_no_reason_to_stand_still():
    """On purpose: torchattacks divides 0 by 0 and keeps the image as it is; ours goes a random way, and says so."""
    cliff = nn.Sequential(nn.Flatten(), nn.Linear(9, 3), nn.ReLU()).eval()
    with torch.no_grad():
        cliff[1].weight.copy_(torch.eye(3, 9))
        cliff[1].bias.fill_(-5)
    images, truth = torch.full((1, 1, 3, 3), 0.5), torch.tensor([0])
    theirs = peer.mi_fgsm(cliff, images, truth, eps=0.1, step_size=0.05, steps=3)
    assert torch.equal(theirs, images)
    result = MIFGSM(steps=3, step_size=0.05)(Victim(cliff, Classification(3)), images, truth, Threat(0.1))
    assert result.zero_gradients.tolist() == [3]
    assert float(result.delta.abs().max()) > 0.04


def test_darkening_is_towards_the_lowest_value(sides):
    """On purpose: torchattacks' SI halves the value itself, which for Hounsfield units brightens what is below 0.

    The same images in other units, with the network that undoes them, are attacked alike by ours.
    """
    oracle, images, truth, options = sides
    width = 1000.0
    shifted = nn.Sequential(_Units(width), oracle.model).eval()
    attack = SINIFGSM(steps=STEPS, step_size=width * options["step_size"])
    units = Victim(shifted, Classification(5), bounds=(-width, 0.0))
    found = ours(units, attack, width * (images - 1), truth, width * options["eps"])
    plain = ours(oracle.victim, SINIFGSM(**_walk(options)), images, truth, options["eps"])
    same = ((found / width + 1) - plain).abs().flatten(1).amax(1) <= 1e-4
    assert float(same.float().mean()) >= 0.95  # a sign near 0 may fall otherwise in other units


def _walk(options: dict[str, Any]) -> dict[str, Any]:
    return {"steps": options["steps"], "step_size": options["step_size"]}


class _Units(nn.Module):
    def __init__(self, width: float) -> None:
        super().__init__()
        self.width = width

    def forward(self, images: Tensor) -> Tensor:
        return images / self.width + 1


class _Watching:
    """The task's loss, which notes where the images were put."""

    def __init__(self) -> None:
        self.places: list[tuple[int, int, int]] = []

    def begin(self, victim: Victim, clean: Tensor, truth: Tensor) -> _Watching:
        return self

    def rows(self, index: Tensor) -> _Watching:
        return self

    def __call__(self, victim: Victim, iterate: Iterate) -> Terms:
        assert iterate.placement is not None
        ((height, _),), (corner,) = iterate.placement.sizes, iterate.placement.corners
        self.places.append((height, *corner))
        outputs = victim.forward(iterate.current)
        return Terms(victim.task.loss(outputs, iterate.truth), outputs)


@dataclass(frozen=True)
class _Noting:
    """A part, and what it adds to the iterate for its neighbours."""

    part: VarianceTuning
    noise: list[Tensor]

    def begin(self, case: Case, purpose: str) -> GradientStage:
        return _Noted(self.part.begin(case, purpose), self.noise)


class _Noted:
    def __init__(self, stage: GradientStage, noise: list[Tensor]) -> None:
        self.stage, self.noise = stage, noise

    def keep(self, rows: Tensor) -> None:
        self.stage.keep(rows)

    def __call__(self, gradient: Tensor, at: Point) -> Tensor:
        def noted(points: Tensor) -> Tensor:
            self.noise.append(points - at.variables)
            return at.gradient_at(points)

        return self.stage(gradient, replace(at, gradient_at=noted))
