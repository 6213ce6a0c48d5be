"""Deformation: shifts by hand, interpolation as torch's, masks in register, no folds within the stated size."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from medrobust.errors import InputError
from medrobust.threat import Deformation, sample_generators
from medrobust.threat.lattice import Lattice

BOUNDS = (0.0, 1.0)


def pictures(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def shift(*moves: float, grid: int = 2) -> torch.Tensor:
    """Variables that move everything by the same way along each axis."""
    axes = len(moves)
    return torch.tensor(moves, dtype=torch.float64).reshape(1, axes, *[1] * axes).expand(1, axes, *[grid] * axes)


def test_a_shift_takes_the_value_from_beside():
    """x'(p) = x(p + u): one down moves the picture up, and the rim's row stays."""
    clean = pictures(1, 2, 4, 5)
    space = Deformation(2, grid=2).space(clean, BOUNDS)
    assert torch.allclose(space.images(shift(1, 0)), torch.cat([clean[:, :, 1:], clean[:, :, -1:]], 2), atol=1e-12)
    assert torch.allclose(space.images(shift(0, -1.5))[..., 2:], (clean[..., :3] + clean[..., 1:4]) / 2, atol=1e-12)
    volume = pictures(1, 1, 3, 4, 5)
    moved = Deformation(2, grid=2).space(volume, BOUNDS).images(shift(0, 0, 2))
    assert torch.allclose(moved[..., :3], volume[..., 2:], atol=1e-12)


@pytest.mark.parametrize("shape", [(2, 3, 11, 8), (2, 1, 6, 5, 7)])
def test_values_are_those_of_grid_sample(shape):
    clean = pictures(*shape)
    space = Deformation(2.5).space(clean, BOUNDS)
    variables = space.random_start(sample_generators(0, [0, 1], "s"))
    moves = Lattice.over(clean, 4).field(variables)
    spatial = shape[2:]
    own = torch.stack(torch.meshgrid(*(torch.arange(n, dtype=torch.float64) for n in spatial), indexing="ij"))
    places = torch.stack([2 * (own[a] + moves[:, a]) / (n - 1) - 1 for a, n in reversed(list(enumerate(spatial)))], -1)
    expected = F.grid_sample(clean, places, mode="bilinear", padding_mode="border", align_corners=True)
    assert torch.allclose(space.images(variables), expected, atol=1e-12)
    assert float(moves.abs().max()) <= 2.5


@pytest.mark.parametrize("shape", [(2, 3, 11, 8), (2, 1, 6, 5, 7)])
def test_masks_move_with_the_image(shape):
    """A mask that is the image itself, in steps of a whole class: nearest where the image is interpolated."""
    truth = (3 * pictures(shape[0], *shape[2:])).long()
    truth[0, 0] = 255
    space = Deformation(2).space(truth.unsqueeze(1).double() / 255, BOUNDS)
    assert torch.equal(space.truth(truth, space.start()), truth)
    variables = space.random_start(sample_generators(0, [0, 1], "s"))
    moved = space.truth(truth, variables)
    assert moved.dtype == torch.int64
    assert not torch.equal(moved, truth)
    assert torch.equal(moved, torch.stack([_nearest(t, v) for t, v in zip(truth, variables, strict=True)]))
    layers = torch.stack([truth == 0, truth == 1], 1).long()
    assert torch.equal(space.truth(layers, variables), torch.stack([moved == 0, moved == 1], 1).long())


def _nearest(truth: torch.Tensor, variables: torch.Tensor) -> torch.Tensor:
    """Pixel by pixel."""
    moves = Lattice.over(truth[None, None].double(), 4).field(variables[None])[0]
    found = torch.empty_like(truth)
    for place in torch.cartesian_prod(*(torch.arange(n) for n in truth.shape)).tolist():
        source = [
            min(max(round(p + float(moves[(axis, *place)])), 0), n - 1)
            for axis, (p, n) in enumerate(zip(place, truth.shape, strict=True))
        ]
        found[tuple(place)] = truth[tuple(source)]
    return found


def test_labels_stay_and_boxes_are_refused():
    clean = pictures(2, 1, 6, 6)
    threat = Deformation(1)
    space = threat.space(clean, BOUNDS)
    for labels in (torch.tensor([1, 0]), torch.tensor([[1, 0, 1], [0, 0, 1]])):
        assert space.truth(labels, space.start()) is labels
        assert threat.for_truth(labels, clean) is threat
    boxes = torch.zeros(2, 3, 5)
    with pytest.raises(InputError, match="cannot move boxes: it is for classification or masks"):
        threat.for_truth(boxes, clean)
    with pytest.raises(InputError, match="cannot move boxes"):
        space.truth(boxes, space.start())


@pytest.mark.parametrize("shape", [(40, 1, 19, 25), (40, 1, 13, 16, 13)])
def test_nothing_folds_within_the_stated_size(shape):
    axes = len(shape) - 2
    eps = (min(shape[2:]) - 1) / (2 * axes * 3) * 0.999
    lattice = Lattice.over(torch.zeros(shape, dtype=torch.float64), 4)
    controls = torch.randn(40, axes, *[4] * axes, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    moves = lattice.field(eps * controls.sign())
    slopes = torch.stack([torch.stack(torch.gradient(moves[:, a], dim=tuple(range(1, axes + 1)))) for a in range(axes)])
    jacobian = slopes.movedim((0, 1), (-2, -1)) + torch.eye(axes, dtype=torch.float64)
    assert float(torch.linalg.det(jacobian).min()) > 0
