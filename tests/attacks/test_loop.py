"""What the loop shows its parts: lengths, targets and places that belong to the very rows that they are given with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor, nn

import medrobust as mr
from medrobust.attacks.case import Case
from medrobust.attacks.objectives import Iterate
from medrobust.errors import InputError

EPS = torch.tensor([1.0, 3, 6, 12]) / 255


@dataclass(frozen=True)
class Watching:
    """An input part that notes what it is given."""

    seen: list[Iterate] = field(default_factory=list)

    def begin(self, case: Case, purpose: str) -> Watching:
        return self

    def keep(self, rows: Tensor) -> None:
        pass

    def __call__(self, iterate: Iterate, case: Case) -> Iterate:
        self.seen.append(iterate)
        return iterate


@pytest.fixture
def four(trained) -> tuple[mr.Victim, Tensor, Tensor]:
    victim, images, truth = trained
    return victim, images[[0, 5, 9, 12]], truth[[0, 5, 9, 12]]


def lengths(seen: Sequence[Iterate]) -> list[list[float]]:
    return [torch.as_tensor(iterate.step_size).reshape(-1).tolist() for iterate in seen]


@pytest.mark.parametrize("options", [{}, {"gradients": [{"vt": {"neighbours": 2}}]}, {"estimate": "nes"}])
def test_each_image_keeps_its_own_length_when_others_leave(four, options):
    victim, images, truth = four
    truth = truth.clone()
    truth[1] = (truth[1] + 1) % 5  # wrong already: it leaves at once
    watching = Watching()
    attack = mr.BIM(steps=3, early_stop=True, inputs=[watching], **options)
    attack(victim, images, truth, mr.Threat(eps=EPS))
    left = [row for row in lengths(watching.seen) if len(row) == 3]
    assert left
    for row in left:
        assert row == pytest.approx((EPS[[0, 2, 3]] / 4).tolist())


def test_copies_see_the_length_that_the_schedule_gave(four):
    victim, images, truth = four
    watching = Watching()
    step = mr.Walk(schedule="cosine")
    gradients = [{"vt": {"neighbours": 2}}]
    mr.BIM(steps=4, step_size=0.01, step=step, gradients=gradients, inputs=[watching])(
        victim, images, truth, mr.Threat(0.1)
    )
    at_the_iterate = [iterate.step_size for iterate in watching.seen if iterate.copies == 1]
    of_neighbours = [iterate.step_size for iterate in watching.seen if iterate.copies == 2]
    assert of_neighbours == at_the_iterate[: len(of_neighbours)]
    assert at_the_iterate[2] < at_the_iterate[1] < 0.01 + 1e-9


def test_a_single_neighbour_is_no_place_to_look_ahead_from(four):
    victim, images, truth = four
    watching = Watching()
    attack = mr.MIFGSM(steps=3, gradients=[{"vt": {"neighbours": 1}}], inputs=[watching])
    attack(victim, images, truth, mr.Threat(4 / 255))
    # the iterate, its neighbour, and so on; the last step has none
    assert [iterate.velocity is not None for iterate in watching.seen] == [False, False, True, False, True]


def test_the_look_ahead_of_apgd_is_a_steps_length_away(four):
    """It is of the length that the images see, not of a whole unit of the data."""
    victim, images, truth = four
    watching = Watching()
    attack = mr.APGD(steps=6, momentum=1.0, inputs=["ni", watching], random_start=False)
    attack(victim, images, truth, mr.Threat(4 / 255))
    reach = max(float((iterate.current - iterate.clean).detach().abs().mean()) for iterate in watching.seen)
    assert reach < 6 * 8 / 255 * 2, "the mean of a velocity of k steps is about k"
    assert reach > 4 / 255


def test_apgd_tells_a_step_from_the_iterate_before(four):
    victim, images, truth = four
    watching = Watching()

    class Looking(mr.APGD):
        def objective(self):
            return mr.Stabilized(a2=0.5, variant="released")

    Looking(steps=8, inputs=[watching])(victim, images, truth, mr.Threat(4 / 255))
    for iterate in watching.seen[1:]:
        length = torch.as_tensor(iterate.step_size).reshape(-1, 1, 1, 1)
        assert torch.allclose(iterate.previous + length * iterate.direction, iterate.current, atol=1e-6)


def test_targets_go_along_from_restart_to_restart(four):
    victim, images, truth = four
    truth = truth.clone()
    truth[2] = (truth[2] + 1) % 5
    attack = mr.APGDT(steps=3, restarts=3, targets=2, early_stop=True)
    together = attack(victim, images, truth, mr.Threat(2 / 255), ids=list("abcd"))
    alone = attack(victim, images[3:], truth[3:], mr.Threat(2 / 255), ids=["d"])
    assert together.success[2]
    assert torch.allclose(together.adversarial[3], alone.adversarial[0], atol=1e-6)


def test_places_are_those_of_every_copy():
    """APGD-T's targets are masks: they go where the image went, in each of its copies."""
    torch.manual_seed(0)
    victim = mr.Victim(nn.Conv2d(1, 4, 3, padding=1), mr.Segmentation(4, success_dice=0.01))
    images = torch.rand(2, 1, 12, 12)
    truth = victim(images).argmax(1)
    watching = Watching()
    attack = mr.APGDT(
        steps=2, targets=1, inputs=[mr.Diversity(probability=1.0, rate=1.5), {"si": {"copies": 2}}, watching]
    )
    attack(victim, images, truth, mr.Threat(0.05))
    for iterate in watching.seen:
        assert len(iterate.placement.sizes) == len(iterate.current) == 4
        assert iterate.placement.sizes[:2] == iterate.placement.sizes[2:]
    with_plain = mr.Expectation(samples=2, plain=True)
    mr.APGDT(steps=1, targets=1, inputs=["di", with_plain, watching])(victim, images, truth, mr.Threat(0.05))
    assert len(watching.seen[-1].placement.sizes) == len(watching.seen[-1].current) == 6


def test_images_are_moved_once(four):
    victim, images, truth = four
    with pytest.raises(InputError, match="give input diversity"):
        mr.BIM(steps=1, inputs=["di", "di"])(victim, images, truth, mr.Threat(0.1))


@pytest.mark.parametrize(
    "parts",
    [
        {"inputs": ["ni"], "momentum": 1.0},
        {"gradients": ["vt"]},
        {"inputs": ["mix"]},
        {"inputs": [{"eot": {"transform": {"noise": {"sigma": 0.3}}, "samples": 2}}]},
    ],
    ids=["look-ahead", "neighbours", "mixing", "noise"],
)
def test_a_black_box_is_never_shown_what_no_image_can_be(four, parts):
    victim, images, truth = four
    ranges: list[tuple[float, float]] = []

    def predict(batch: Tensor) -> Tensor:
        ranges.append((float(batch.min()), float(batch.max())))
        with torch.no_grad():
            return victim(batch)

    attack = mr.PGD(steps=2, estimate={"nes": {"directions": 3}}, **parts)
    attack(mr.BlackBox(predict, mr.Classification(5)), images, truth, mr.Threat(8 / 255))
    assert len(ranges) > 4
    assert min(low for low, _ in ranges) >= 0
    assert max(high for _, high in ranges) <= 1


def test_no_budget_at_all_is_told(trained):
    with pytest.raises(InputError, match="no budget to attack at"):
        mr.PGD()(*trained, [])
