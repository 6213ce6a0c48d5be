"""Input diversity: where images go, that the truth goes along, and that BIM is its special case."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medrobust.attacks import BIM, DIFGSM
from medrobust.attacks.inputs import Diversity
from medrobust.attacks.iterative import IterativeAttack
from medrobust.attacks.objectives import Iterate, OutputObjective
from medrobust.errors import InputError
from medrobust.tasks import Classification, Placement, Segmentation
from medrobust.threat import Threat, sample_generators
from medrobust.victim import Victim


def generators(count: int, seed: int = 0) -> list[torch.Generator]:
    return sample_generators(seed, range(count), "inputs")


def classifier() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.Tanh(), nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.Linear(36, 3))


def test_an_image_is_shrunk_and_framed_as_the_paper_says():
    images = torch.rand(2, 1, 8, 6)
    placement = Placement([(4, 3), (8, 6)], [(3, 2), (0, 0)])
    placed = placement.images(images, fill=-1.0)
    small = F.interpolate(images[:1], (4, 3), mode="bilinear", align_corners=False)
    by_hand = F.pad(small, (2, 1, 3, 1), value=-1.0)
    torch.testing.assert_close(placed[:1], by_hand, rtol=0, atol=0)
    torch.testing.assert_close(placed[1], images[1], rtol=0, atol=0)


def test_labels_and_boxes_stay_in_register():
    # a bright square: wherever the image goes, its mask and its box must cover it
    image, mask = torch.zeros(1, 1, 16, 16), torch.zeros(1, 16, 16, dtype=torch.int64)
    image[..., 4:12, 8:16], mask[:, 4:12, 8:16] = 1, 2
    boxes = torch.tensor([[[8.0, 4, 16, 12, 1], [0, 0, 0, 0, -1]]])
    placement = Placement([(8, 8)], [(5, 3)])
    placed = placement.images(image, 0.0)
    labels, moved = placement.labels(mask, 0, axes=2), placement.boxes(boxes, (16, 16))
    assert torch.equal(labels == 2, placed[:, 0] > 0.5)
    assert moved.tolist() == [[[7, 7, 11, 11, 1], [0, 0, 0, 0, -1]]]
    x1, y1, x2, y2 = moved[0, 0, :4].int().tolist()
    assert bool((placed[0, 0, y1:y2, x1:x2] == 1).all())
    assert float(placed.sum()) == (y2 - y1) * (x2 - x1)


def test_multi_label_maps_of_volumes_move_too():
    maps = torch.randint(0, 2, (2, 3, 4, 6, 8))
    placed = Placement([(4, 6, 8), (2, 3, 4)], [(0, 0, 0), (2, 1, 4)]).labels(maps, 0, axes=3)
    assert torch.equal(placed[0], maps[0])
    assert torch.equal(placed[1, :, 2:4, 1:4, 4:8], maps[1, :, 1::2, 1::2, 1::2])
    assert int(placed[1].sum()) == int(maps[1, :, 1::2, 1::2, 1::2].sum())


@pytest.mark.parametrize(
    ("task", "labels", "around"),
    [
        (Segmentation(3), 1, 0),
        (Segmentation(3, ignore_index=255), 1, 255),
        (Segmentation(2, multilabel=True), 2, 0),
        (Segmentation(2, multilabel=True, ignore_index=-1), 2, -1),
    ],
)
def test_the_frame_around_is_background_or_ignored(task, labels, around):
    truth = torch.ones(1, labels, 6, 6, dtype=torch.int64) if task.multilabel else torch.ones(1, 6, 6).long()
    placed = task.placed(truth, Placement([(3, 3)], [(2, 1)]), torch.Size([6, 6]))
    assert placed.shape == truth.shape
    assert bool((placed[..., 2:5, 1:4] == 1).all())
    assert int((placed == 1).sum()) == 9 * labels
    assert set(placed.unique().tolist()) == {1, around}


def test_sizes_and_places_are_what_was_asked_for():
    part, drawing = Diversity(probability=0.6, rate=1.25), generators(400)

    def draw() -> Placement:
        drawn = [part.draw((40, 20), generator) for generator in drawing]
        return Placement([size for size, _ in drawn], [corner for _, corner in drawn])

    placement = draw()
    changed = [
        (size, corner) for size, corner in zip(placement.sizes, placement.corners, strict=False) if size != (40, 20)
    ]
    # a share of .6 ± 3 standard deviations, less the few that round to the whole frame
    assert 0.5 < len(changed) / 400 < 0.68
    for (height, width), (top, left) in changed:
        assert 32 <= height <= 40
        assert 16 <= width <= 20
        assert 0 <= top <= 40 - height
        assert 0 <= left <= 20 - width
    heights = {height for (height, _), _ in changed}
    assert heights >= {33, 36, 39}, "the factor is not drawn from the whole range"
    assert {top + size[0] for size, (top, _) in changed} >= {40}, "the last place is never taken"
    assert placement != draw(), "every step draws anew"


@pytest.mark.parametrize("nothing", [{"diversity_probability": 0.0}, {"diversity_rate": 1.0}])
def test_without_diversity_it_is_bim_bit_for_bit(nothing: dict[str, float]):
    victim, images = Victim(classifier(), Classification(3)), torch.rand(4, 1, 12, 12)
    truth, threat = torch.tensor([0, 1, 2, 0]), Threat(0.05)
    assert torch.equal(
        DIFGSM(**nothing)(victim, images, truth, threat).adversarial, BIM()(victim, images, truth, threat).adversarial
    )


def test_diversity_changes_the_way_and_an_image_does_not_depend_on_its_batch():
    victim, images = Victim(classifier(), Classification(3)), torch.rand(4, 1, 12, 12)
    truth, threat = torch.tensor([0, 1, 2, 0]), Threat(0.05)
    attack = DIFGSM(diversity_rate=1.5, restarts=2, keep="best", trace=True)
    ids = ["a", "b", "c", "d"]
    together = attack(victim, images, truth, threat, ids=ids)
    assert not torch.equal(together.adversarial, BIM()(victim, images, truth, threat).adversarial)
    alone = attack(victim, images[2:3], truth[2:3], threat, ids=["c"])
    torch.testing.assert_close(alone.adversarial[0], together.adversarial[2])
    # the trajectory speaks of the iterate itself, not of the image that was moved
    path = DIFGSM(diversity_rate=1.5, trace=True)(victim, images, truth, threat, ids=ids)
    torch.testing.assert_close(path.trajectory.deviation[0], victim.task.loss(victim(images), truth).detach())
    torch.testing.assert_close(path.trajectory.deviation[-1], path.loss)


def test_the_objective_sees_the_moved_truth():
    seen: list[Iterate] = []

    class Watching(OutputObjective):
        def deviation(self, task: Segmentation, outputs: Tensor, iterate: Iterate) -> Tensor:
            seen.append(iterate)
            return task.loss(outputs, iterate.truth)

    class Watched(DIFGSM):
        def objective(self) -> OutputObjective:
            return Watching()

    image, mask = torch.zeros(1, 1, 20, 20), torch.zeros(1, 20, 20, dtype=torch.int64)
    image[..., 5:15, 5:15], mask[:, 5:15, 5:15] = 1, 1
    victim = Victim(nn.Conv2d(1, 2, 3, padding=1), Segmentation(2))
    Watched(diversity_probability=1.0, diversity_rate=2.0)(victim, image, mask, Threat(0.01))
    assert any(not torch.equal(iterate.truth, mask) for iterate in seen)
    for iterate in seen:
        # nearest against linear: they may differ along the border, by a pixel
        assert int(((iterate.clean[:, 0] > 0.5) != (iterate.truth == 1)).sum()) <= 4 * 10


def test_the_iterate_before_moves_along():
    """What the released SMIA compares with, the last iterate and its step, is where the image now is."""
    seen: list[Iterate] = []

    class Watching(OutputObjective):
        def deviation(self, task: Classification, outputs: Tensor, iterate: Iterate) -> Tensor:
            seen.append(iterate)
            return task.loss(outputs, iterate.truth)

    class Watched(DIFGSM):
        def objective(self) -> OutputObjective:
            return Watching()

    images = torch.rand(2, 1, 12, 12, generator=torch.Generator().manual_seed(0))
    attack = Watched(steps=4, step_size=0.01, diversity_probability=1.0, diversity_rate=1.5)
    attack(Victim(classifier(), Classification(3)), images, torch.tensor([0, 1]), Threat(1.0))
    assert seen[0].previous is None
    for iterate in seen[1:]:
        # no bound is near: the iterate is the one before and its step, linear in the frame or not
        moved = iterate.previous + iterate.step_size * iterate.direction
        assert float((moved - iterate.current.detach()).abs().median()) < 1e-6
        assert any(size != (12, 12) for size in iterate.placement.sizes)


@pytest.mark.parametrize("options", [{"diversity_probability": 1.5}, {"diversity_rate": 0.9}])
def test_bad_options(options: dict[str, float]):
    with pytest.raises(InputError, match=r"probability must be in \[0, 1\]|rate must be a finite number"):
        DIFGSM(**options)


def test_every_attack_takes_a_list_of_sizes():
    victim, threat = Victim(classifier(), Classification(3)), Threat(0.05)
    images = [torch.rand(1, 12, 12), torch.rand(1, 9, 14), torch.rand(1, 12, 12)]
    truth, ids = torch.tensor([0, 1, 2]), ["a", "b", "c"]
    attack: IterativeAttack = DIFGSM()
    result = attack(victim, images, truth, threat, ids=ids)
    for place, image in enumerate(images):
        alone = attack(victim, image[None], truth[place : place + 1], threat, ids=[ids[place]])
        torch.testing.assert_close(result.adversarial[place], alone.adversarial[0])
        torch.testing.assert_close(result.delta[place], alone.delta[0])
        torch.testing.assert_close(result.loss[place], alone.loss[0])
        assert bool(result.success[place]) == bool(alone.success[0])
    assert [members for members, _ in result.groups] == [[0, 2], [1]]


def test_a_truth_in_a_list_that_is_of_another_size_is_told():
    victim, images = Victim(nn.Conv2d(1, 2, 3, padding=1), Segmentation(2)), [torch.rand(1, 6, 6)] * 2
    truth = [torch.zeros(6, 6, dtype=torch.int64), torch.zeros(5, 6, dtype=torch.int64)]
    with pytest.raises(InputError, match=r"needs truth of shape \(1, 6, 6\), got \(1, 5, 6\)"):
        BIM(steps=1)(victim, images, truth, Threat(0.1))


def test_a_list_needs_as_many_truths():
    with pytest.raises(InputError, match="2 images, 1 truths and 2 ids"):
        BIM()(Victim(classifier(), Classification(3)), [torch.rand(1, 9, 9)] * 2, torch.tensor([0]), Threat(0.1))
