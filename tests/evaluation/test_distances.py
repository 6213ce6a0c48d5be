"""How far perturbations are apart: by hand."""

from __future__ import annotations

import math

import pytest
import torch

from medrobust.evaluation.distances import ImageDistances, mean_distances, mean_to_others, relative_distances


def test_same_unrelated_opposite_and_longer():
    apart = relative_distances(torch.tensor([[1.0, 0], [1, 0], [0, 1], [-1, 0], [3, 0], [0, 0]]))
    assert apart[0].tolist() == pytest.approx([0, 0, math.sqrt(2), 2, 1, 2])
    assert math.isnan(apart[5, 5]), "two that change nothing"


def test_mean_to_the_others():
    rows = torch.tensor([[1.0, 0], [0, 1], [-1, 0]])
    assert mean_to_others(rows) == pytest.approx([(math.sqrt(2) + 2) / 2, math.sqrt(2), (math.sqrt(2) + 2) / 2])
    assert mean_to_others(rows[:1]) == [None]
    assert mean_to_others(torch.zeros(2, 3)) == [None, None]


def test_of_seeds_image_by_image():
    first, second = torch.tensor([[[1.0, 0]], [[0, 1.0]]]), torch.tensor([[[1.0, 0]], [[0, -1.0]]])
    assert mean_distances([first, second]) == [[0.0, 2.0], [0.0, 2.0]]
    assert mean_distances([first]) == [[None, None]]


def test_of_images_of_one_size_alone():
    found = ImageDistances()
    found.add("pgd", [3], torch.tensor([[[1e-3, 0.0]]]))
    found.add("pgd", [5], torch.tensor([[[0.0, 1e-3]]]))
    found.add("pgd", [7], torch.ones(1, 1, 5))
    found.add("smia", [3], torch.ones(1, 1, 2))
    rows = {(index, attack): value for index, attack, value in found.rows()}
    assert rows[3, "pgd"] == rows[5, "pgd"] == pytest.approx(math.sqrt(2), rel=1e-3)
    assert rows[7, "pgd"] is None
    assert rows[3, "smia"] is None
