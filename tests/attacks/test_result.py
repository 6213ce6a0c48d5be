"""What a result shows of itself at a prompt."""

from __future__ import annotations

import pytest
import torch

import medrobust as mr
from medrobust.attacks import AttackResult, ListResult

COUNT = torch.zeros(3, dtype=torch.int64)


def result(success: list[bool], loss: list[float], size: tuple[int, ...] = (3, 128, 96)) -> AttackResult:
    images = torch.zeros(len(success), *size)
    count = torch.zeros(len(success), dtype=torch.int64)
    return AttackResult(images, images, torch.tensor(success), torch.tensor(loss), images, count, count, count)


@pytest.mark.parametrize(
    ("shown", "line"),
    [
        (
            result([True, False, True], [1.2345, 0.41, 2.306]),
            "AttackResult(3 images of 3x128x96, 2 fooled, loss 0.41 to 2.31)",
        ),
        (result([False], [0.5], (1, 4, 5, 6)), "AttackResult(1 image of 1x4x5x6, 0 fooled, loss 0.5)"),
        (result([], []), "AttackResult(0 images)"),
    ],
)
def test_one_line(shown, line):
    assert repr(shown) == str(shown) == line


def test_of_several_sizes_the_smallest_and_the_largest():
    images = [torch.zeros(1, 9, 9), torch.zeros(1, 4, 8), torch.zeros(1, 8, 5)]
    success, loss = torch.tensor([True, True, True]), torch.tensor([1.0, 2.0, 3.0])
    shown = ListResult(images, images, success, loss, COUNT, COUNT, COUNT, [])
    assert repr(shown) == "ListResult(3 images of 1x4x8 to 1x9x9, 3 fooled, loss 1 to 3)"


def test_of_an_attack(trained):
    victim, images, truth = trained
    made = mr.PGD()(victim, images, truth, mr.Threat(8 / 255))
    count, size = len(images), "x".join(map(str, images.shape[1:]))
    assert repr(made).startswith(f"AttackResult({count} images of {size}, {int(made.success.sum())} fooled, loss ")
    assert len(repr([made, made])) < 200
