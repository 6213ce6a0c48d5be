"""A family of one's own is one file: the example's small DETR, used as it is."""

from __future__ import annotations

import importlib.util
from itertools import permutations
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torchvision.ops import generalized_box_iou

from medrobust.detectors import Detector, detector_of
from medrobust.errors import InputError

EXAMPLE = Path(__file__).parents[2] / "examples/own_detector.py"


@pytest.fixture(scope="module")
def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("own_detector", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def detector(example) -> Detector:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return example.SmallDETR(classes=2).eval()


def test_it_is_taken_as_it_is(detector):
    assert detector_of(detector) is detector
    assert detector_of(detector, classes=2) is detector
    with pytest.raises(InputError, match=r"^SmallDETR detects 2 classes, the data have 3$"):
        detector_of(detector, classes=3)


def test_a_module_that_lacks_a_method_is_told_which(example):
    class Half(torch.nn.Module):
        classes = 2
        forward = example.SmallDETR.forward
        loss = example.SmallDETR.loss
        log_probs = example.SmallDETR.log_probs

    with pytest.raises(InputError, match=r"^Half is no detector .*; it lacks places, detect$"):
        detector_of(Half())


def test_its_loss_is_that_of_the_best_of_all_matchings(example, detector):
    images, truth = example.draw(6, seed=3)
    outputs = detector.forward(images)
    for place, rows in enumerate(truth):
        logits, boxes = outputs.tensors["logits"][place], outputs.tensors["boxes"][place]
        rows = rows[rows[:, 4] >= 0]
        objects, labels = rows[:, :4] / 48, rows[:, 4].long()

        def matching_loss(queries, logits=logits, boxes=boxes, objects=objects, labels=labels):
            mine = boxes[list(queries)]
            apart = 5 * (mine - objects).abs().sum() + 2 * (1 - generalized_box_iou(mine, objects).diagonal()).sum()
            wanted = torch.full((6,), 2)
            wanted[list(queries)] = labels
            classes = torch.nn.functional.cross_entropy(logits, wanted, torch.tensor([1, 1, 0.2]))
            surely = sum(logits.softmax(1)[query, label] for query, label in zip(queries, labels, strict=True))
            return apart - surely, apart / len(labels) + classes

        _, expected = min(matching_loss(queries) for queries in permutations(range(6), len(rows)))
        torch.testing.assert_close(detector.loss(outputs, truth)[place], expected)


def test_images_do_not_depend_on_their_neighbours_and_may_be_empty(example, detector):
    images, truth = example.draw(3, seed=4)
    truth[1, :, 4] = -1
    images.requires_grad_()
    outputs = detector.forward(images)
    loss = detector.loss(outputs, truth)
    for place in range(3):
        alone = detector.forward(images[place : place + 1])
        torch.testing.assert_close(detector.loss(alone, truth[place : place + 1])[0], loss[place])
    (gradient,) = torch.autograd.grad(loss.sum(), images)
    assert torch.isfinite(gradient).all()
    assert (gradient.flatten(1).abs().amax(1) > 0).all()
    scores = detector.log_probs(outputs, detector.places(outputs))
    torch.testing.assert_close(scores.exp().sum(1), torch.ones(3, 6))


@pytest.mark.slow
def test_the_example_runs_and_the_steps_hurt(example, capsys):
    example.main()
    heading, _, clean, *attacked = capsys.readouterr().out.splitlines()
    objects = int(heading.split()[0])
    *_, found, right = clean.split()
    assert int(found) > 0.9 * objects
    assert int(right) > 0.6 * objects
    assert len(attacked) == 3
    for row in attacked:
        *_, found_attacked, right_attacked = row.split()
        assert int(found_attacked) < int(found)
        assert int(right_attacked) < int(right)
