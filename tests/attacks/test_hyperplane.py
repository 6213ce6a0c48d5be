"""The nearest point of a hyperplane within bounds, against general solvers and by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.optimize import linprog, minimize

from medrobust.attacks.hyperplane import towards_plane

POWER = {"linf": math.inf, "l2": 2, "l1": 1}


def problem(
    seed: int, count: int = 6
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
    """Points with some pixels at their bounds, a plane with a weight of 0, and a gap that the box can close."""
    draw = torch.Generator().manual_seed(seed)
    points = torch.rand((1, 1, 1, count), generator=draw, dtype=torch.float64)
    points[..., 0], points[..., 1] = 0.0, 1.0
    normal = torch.randn(points.shape, generator=draw, dtype=torch.float64)
    normal[..., 2] = 0
    low, high = torch.zeros_like(points), torch.ones_like(points)
    other = torch.rand(points.shape, generator=draw, dtype=torch.float64)
    gap = (normal * (points - other)).flatten(1).sum(1)
    return points, normal, gap, (low, high)


def solved(points, normal, gap, box, norm) -> float:
    """The least norm, by SciPy."""
    low, high = ((bound - points).flatten().numpy() for bound in box)
    w, need, n = normal.flatten().numpy(), -float(gap), points.numel()
    if norm == "l2":
        equal = {"type": "eq", "fun": lambda d: w @ d - need, "jac": lambda d: w}
        result = minimize(
            lambda d: d @ d, np.zeros(n), jac=lambda d: 2 * d, bounds=list(zip(low, high, strict=True)),
            constraints=[equal], method="SLSQP", options={"ftol": 1e-14, "maxiter": 500},
        )  # fmt: skip
        assert result.success
        return math.sqrt(result.fun)
    # |d| ≤ u, the sum of u (L1) or one u for all (L∞) least
    tops = n if norm == "l1" else 1
    share = np.eye(n) if norm == "l1" else np.ones((n, 1))
    bounded = np.block([[np.eye(n), -share], [-np.eye(n), -share]])
    result = linprog(
        np.r_[np.zeros(n), np.ones(tops)],
        A_ub=bounded,
        b_ub=np.zeros(2 * n),
        A_eq=np.r_[w, np.zeros(tops)][None],
        b_eq=[need],
        bounds=[*zip(low, high, strict=True), *[(0, None)] * tops],
    )
    assert result.status == 0
    return float(result.fun)


@pytest.mark.parametrize("norm", POWER)
@pytest.mark.parametrize("seed", range(8))
def test_no_smaller_change_is_there(norm, seed):
    points, normal, gap, box = problem(seed)
    change = towards_plane(points, normal, gap, box, norm)
    assert float((normal * change).sum()) == pytest.approx(-float(gap), abs=1e-9)
    assert bool(((points + change >= box[0]) & (points + change <= box[1])).all())
    assert float(change.flatten().norm(p=POWER[norm])) == pytest.approx(
        solved(points, normal, gap, box, norm), abs=1e-6
    )


@pytest.mark.parametrize("norm", POWER)
def test_every_row_by_itself_and_scaled(norm):
    """A plane is the same when w and f are multiplied, be it by as much as float32 holds."""
    rows = [problem(seed) for seed in range(5)]
    points, normal = (torch.cat([row[place] for row in rows]).float() for place in (0, 1))
    gap, box = (
        torch.cat([row[2] for row in rows]).float(),
        tuple(torch.cat([row[3][k] for row in rows]).float() for k in (0, 1)),
    )
    together = towards_plane(points, normal, gap, box, norm)
    for place in range(5):
        one = slice(place, place + 1)
        alone = towards_plane(points[one], normal[one], gap[one], (box[0][one], box[1][one]), norm)
        assert torch.equal(alone, together[one])
    for scale in (1e-20, 1e20):
        assert torch.allclose(towards_plane(points, normal * scale, gap * scale, box, norm), together, atol=1e-5)


@pytest.mark.parametrize("norm", POWER)
def test_as_far_as_the_box_goes(norm):
    """3a − 4b is to rise by 9 from (0.5, 0.25): a to 1, b to 0."""
    points = torch.tensor([[[[0.5, 0.25]]]])
    box = (torch.zeros_like(points), torch.ones_like(points))
    change = towards_plane(points, torch.tensor([[[[3.0, -4.0]]]]), torch.tensor([-9.0]), box, norm)
    assert change.flatten().tolist() == [0.5, -0.25]


@pytest.mark.parametrize("norm", POWER)
def test_no_normal_no_change(norm):
    points = torch.full((1, 1, 2, 2), 0.5)
    box = (torch.zeros_like(points), torch.ones_like(points))
    assert not bool(towards_plane(points, torch.zeros_like(points), torch.tensor([-0.3]), box, norm).any())
