"""HopSkipJump where the boundary is known: a hyperplane; and what it does when there is nothing to begin at."""

from __future__ import annotations

import pytest
import torch
from attacks.asked import Counting, right
from torch import Tensor, nn

from medrobust.attacks.hop_skip_jump import HopSkipJump
from medrobust.black_box import BlackBox
from medrobust.errors import InputError
from medrobust.tasks import Classification
from medrobust.threat import Threat
from medrobust.victim import Victim

WEIGHTS = torch.randn(1, 6, 5, generator=torch.Generator().manual_seed(0))
IMAGES = 0.45 + 0.1 * torch.rand(4, 1, 6, 5, generator=torch.Generator().manual_seed(1))
TRUTH = torch.zeros(4, dtype=torch.int64)


class Plane(nn.Module):
    """Class 1 on the far side of a plane: answers alone, as one-hot scores."""

    def __init__(self, offset: float, scale: float = 1.0) -> None:
        super().__init__()
        self.offset, self.scale = offset, scale

    def distance(self, x: Tensor) -> Tensor:
        return self.offset - (x.double() / self.scale * WEIGHTS).flatten(1).sum(1)

    def forward(self, x: Tensor) -> Tensor:
        beyond = (self.distance(x) < 0).float()
        return torch.stack([1 - beyond, beyond], 1)


PLANE = Plane(float((IMAGES * WEIGHTS).flatten(1).sum(1).max()) + 0.4)


def nearest(images: Tensor, norm: str, plane: Plane = PLANE) -> Tensor:
    """How far the plane is: over the dual norm of the weights."""
    dual = WEIGHTS.norm() if norm == "l2" else WEIGHTS.abs().sum()
    return plane.distance(images) / dual * plane.scale


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_a_plane_is_found_at_nearly_its_distance(norm):
    victim = Victim(PLANE, Classification(2))
    result = HopSkipJump(queries=4000)(victim, IMAGES, TRUTH, Threat(0.001, norm))
    ratio = result.smallest.double() / nearest(IMAGES, norm)
    assert bool((ratio > 1 - 1e-5).all()), "nearer than the plane"
    assert float(ratio.max()) < 1.1
    assert not bool(result.success.any())


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_more_questions_come_nearer(norm):
    victim = Victim(PLANE, Classification(2))
    sizes = [
        HopSkipJump(queries=queries)(victim, IMAGES, TRUTH, Threat(0.001, norm)).smallest.mean()
        for queries in (100, 1000, 4000)
    ]
    assert sizes[0] > sizes[1] > sizes[2]


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_in_hounsfield_units_it_is_the_same_walk(norm):
    scaled = Plane(PLANE.offset, 4096.0)
    images = IMAGES * 4096
    result = HopSkipJump(queries=2000)(Victim(scaled, Classification(2), (0, 4096)), images, TRUTH, Threat(1.0, norm))
    ratio = result.smallest.double() / nearest(images, norm, scaled)
    assert bool((ratio > 1 - 1e-5).all())
    assert float(ratio.max()) < 1.3


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_success_is_a_change_within_the_budget_and_budgets_share_the_search(norm):
    counting = Counting(Victim(PLANE, Classification(2)))
    attack = HopSkipJump(queries=2000)
    distance = float(nearest(IMAGES, norm).median())
    threats = [Threat(distance * factor, norm) for factor in (0.5, 1.2, 4.0)]
    results = attack(counting.victim, IMAGES, TRUTH, threats)
    assert counting.asked == int(results[0].queries.sum()) + 3 * 2 * len(IMAGES)
    assert attack.shares_budgets
    for threat, result in zip(threats, results, strict=True):
        alone = attack(counting.victim, IMAGES, TRUTH, threat)
        assert torch.equal(alone.adversarial, result.adversarial)
        assert torch.equal(result.success, result.smallest <= threat.eps)
    assert int(results[0].success.sum()) < int(results[2].success.sum()) == 4


def test_a_found_change_reaches_as_far_as_the_threat_allows():
    """So that what is handed in is not undone by rounding it to the file's grid."""
    images = (IMAGES * 255).round() / 255
    eps = 1.5 * float(nearest(images, "l2").max())
    result = HopSkipJump(queries=2000)(
        Victim(PLANE, Classification(2)), images, TRUTH, Threat(eps, "l2", quantum=1 / 255)
    )
    assert bool(result.success.all())


@pytest.mark.parametrize("queries", [1, 2, 5, 30, 64, 200, 333])
def test_no_image_is_asked_about_more_often(queries):
    victim, images, truth = right("3 channels")
    counting = Counting(victim)
    result = HopSkipJump(queries=queries)(counting.victim, images, truth, Threat(0.1, "l2"))
    assert int(result.queries.max()) <= queries
    assert counting.asked == int(result.queries.sum()) + 2 * len(images)


@pytest.mark.parametrize("at_once", [1, 7, 1000])
def test_how_many_are_asked_at_once_does_not_matter(at_once):
    victim = Victim(PLANE, Classification(2))
    one, other = (
        HopSkipJump(queries=600, at_once=count)(victim, IMAGES, TRUTH, Threat(0.1, "l2")) for count in (64, at_once)
    )
    assert torch.equal(one.adversarial, other.adversarial)


class Stubborn(nn.Module):
    """Class 0, whatever it sees."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.tensor([[1.0, 0.0]]).repeat(len(x), 1)


def test_where_nothing_fools_the_images_stay():
    result = HopSkipJump()(Victim(Stubborn(), Classification(2)), IMAGES, TRUTH, Threat(0.1, "l2"))
    assert torch.equal(result.adversarial, IMAGES)
    assert result.smallest.tolist() == [torch.inf] * 4
    assert not bool(result.success.any())


def test_what_is_wrong_already_is_at_distance_zero():
    truth = torch.tensor([0, 1, 0, 1])
    result = HopSkipJump(queries=200)(Victim(PLANE, Classification(2)), IMAGES, truth, Threat(0.1, "l2"))
    assert result.smallest[[1, 3]].tolist() == [0, 0]
    assert torch.equal(result.adversarial[[1, 3]], IMAGES[[1, 3]])
    assert bool((result.smallest[[0, 2]] > 0).all())


class Corner(nn.Module):
    """Class 1 where the first two pixels are bright and dark: noise finds it once in a hundred times or so."""

    def forward(self, x: Tensor) -> Tensor:
        beyond = ((x[:, 0, 0, 0] > 0.93) & (x[:, 0, 0, 1] < 0.07)).float()
        return torch.stack([1 - beyond, beyond], 1)


def test_images_to_start_at_come_before_noise():
    victim = Victim(Corner(), Classification(2))
    start = torch.full((2, 1, 6, 5), 0.5)
    start[1, 0, 0, :2] = torch.tensor([1.0, 0.0])
    result = HopSkipJump(queries=400, start=start)(victim, IMAGES, TRUTH, Threat(0.6))
    wanted = torch.stack([0.93 - IMAGES[:, 0, 0, 0], IMAGES[:, 0, 0, 1] - 0.07], 1).amax(1)
    assert torch.allclose(result.smallest, wanted, rtol=0.02)
    assert bool(result.success.all())


def test_towards_a_target_from_images_of_it():
    victim = Victim(PLANE, Classification(2))
    target = torch.ones(4, dtype=torch.int64)
    start = (0.5 + 0.4 * WEIGHTS.sign()).unsqueeze(0)
    result = HopSkipJump(queries=2000, targeted=True, start=start)(victim, IMAGES, target, Threat(1.0, "l2"))
    assert bool(result.success.all())
    assert float((result.smallest / nearest(IMAGES, "l2")).max()) < 1.3
    away = HopSkipJump(queries=500, targeted=True, start=1 - start)(victim, IMAGES, target, Threat(1.0, "l2"))
    assert away.smallest.tolist() == [torch.inf] * 4


def test_the_walk_keeps_to_the_mask():
    mask = torch.zeros(6, 5)
    mask[1:5, 1:4] = 1
    result = HopSkipJump(queries=3000)(Victim(PLANE, Classification(2)), IMAGES, TRUTH, Threat(9.0, "l2", mask=mask))
    assert not bool(result.delta[:, :, mask == 0].any())
    distance = PLANE.distance(IMAGES) / (WEIGHTS * mask).norm()
    ratio = result.smallest.double() / distance
    assert bool((ratio > 1 - 1e-5).all())
    assert float(ratio.max()) < 1.1


def test_scores_are_not_looked_at():
    """Only which is the highest; of the points it found, the one with the highest loss is handed in."""
    victim, images, truth = right("1 channel")
    box = BlackBox(lambda x: nn.functional.one_hot(victim(x).argmax(1), 4).float(), victim.task)
    one, other = (HopSkipJump(queries=300)(asked, images, truth, Threat(0.1, "l2")) for asked in (victim, box))
    assert torch.equal(one.smallest, other.smallest)
    assert torch.equal(one.queries, other.queries)
    assert torch.equal(one.success, other.success)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"queries": 0}, "queries must be a whole number of at least 1"),
        ({"gamma": 0.0}, "gamma must be a finite number above 0"),
        ({"targeted": True}, "a targeted hopskipjump begins at images that are answered so: give some as start"),
        ({"start": "noise"}, "start must be a tensor of one image or more"),
        ({"start": torch.zeros(0, 1, 6, 5)}, "start must be a tensor of one image or more"),
    ],
)
def test_options_that_do_not_do(options, words):
    with pytest.raises(InputError, match=words):
        HopSkipJump(**options)


def test_start_images_of_another_shape():
    with pytest.raises(InputError, match=r"start at are \(1, 9, 9\), the attacked ones \(1, 6, 5\)"):
        HopSkipJump(start=torch.zeros(1, 1, 9, 9))(Victim(PLANE, Classification(2)), IMAGES, TRUTH, Threat(0.1))
