"""The balls: projections against a quadratic program, sparse steps by hand, one radius an image, subsets of a batch."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.optimize import minimize
from torch import nn

import medrobust as mr
from medrobust.errors import InputError
from medrobust.threat import Threat, sample_generators

BOUNDS = (0.0, 1.0)
HU = (-1024.0, 3071.0)
NORMS = ["linf", "l2", "l1"]


def flat(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64).reshape(1, 1, 1, -1)


def project(threat: Threat, clean: torch.Tensor, moved: torch.Tensor, bounds=BOUNDS) -> torch.Tensor:
    moved = moved.clone()
    threat.space(clean, bounds).project_(moved)
    return moved


def random_case(seed: int, shape=(2, 1, 3, 4), bounds=BOUNDS, dtype=torch.float64, reach=0.6):
    """Clean images with some values on the bounds, and others far from them."""
    generator = torch.Generator().manual_seed(seed)
    clean = torch.rand(shape, generator=generator, dtype=torch.float64).mul(1.4).sub(0.2).clamp(0, 1)
    moved = clean + reach * torch.randn(shape, generator=generator, dtype=torch.float64)
    low, high = bounds
    return (low + clean * (high - low)).to(dtype), (low + moved * (high - low)).to(dtype)


def length(delta: torch.Tensor, norm: str) -> torch.Tensor:
    order = {"linf": torch.inf, "l2": 2, "l1": 1}[norm]
    return torch.linalg.vector_norm(delta.double().flatten(1), order, dim=1)


def test_l1_projection_by_hand():
    """Changes of .5, −.3 and .1 onto a ball of .5: λ = .15 leaves .35, −.15 and nothing."""
    found = project(Threat(0.5, "l1"), flat(0.2, 0.7, 0.5), flat(0.7, 0.4, 0.6))
    assert found.flatten().tolist() == pytest.approx([0.55, 0.55, 0.5])
    # with room for .2 only above the first, λ = .05: .2, −.25 and .05
    bounded = project(Threat(0.5, "l1"), flat(0.8, 0.7, 0.5), flat(1.3, 0.4, 0.6))
    assert bounded.flatten().tolist() == pytest.approx([1.0, 0.45, 0.55])
    inside = project(Threat(1.0, "l1"), flat(0.8, 0.7), flat(1.3, 0.4))
    assert inside.flatten().tolist() == pytest.approx([1.0, 0.4])


@pytest.mark.parametrize("seed", range(6))
def test_l1_projection_solves_the_quadratic_program(seed):
    """min ‖y − d‖² over y = p − n, p, n ≥ 0, Σ p + n ≤ eps, within the bounds, as SLSQP solves it."""
    clean, moved = (tensor[:1] for tensor in random_case(seed, (1, 1, 2, 4)))
    eps = 0.4
    x, d = clean.flatten().numpy(), (moved - clean).flatten().numpy()
    n = len(d)
    solved = minimize(
        lambda v: ((v[:n] - v[n:] - d) ** 2).sum(),
        [0.0] * (2 * n),
        jac=lambda v: [*(2 * (v[:n] - v[n:] - d)), *(-2 * (v[:n] - v[n:] - d))],
        bounds=[(0, 1 - value) for value in x] + [(0, value) for value in x],
        constraints={"type": "ineq", "fun": lambda v: eps - v.sum()},
        method="SLSQP",
        options={"ftol": 1e-14, "maxiter": 500},
    )
    assert solved.success
    found = (project(Threat(eps, "l1"), clean, moved) - clean).flatten()
    assert found.tolist() == pytest.approx(list(solved.x[:n] - solved.x[n:]), abs=1e-5)


@given(st.integers(0, 10_000), st.floats(0.01, 6), st.sampled_from([BOUNDS, HU]))
def test_l1_projection_meets_the_optimality_conditions(seed, eps, bounds):
    """One λ an image: what is between 0 and its room is λ short, what is gone was smaller, what is full was larger."""
    width = bounds[1] - bounds[0]
    clean, moved = random_case(seed, bounds=bounds)
    found = project(Threat(eps * width, "l1"), clean, moved, bounds)
    for x, d, y in zip(clean, (moved - clean) / width, (found - clean) / width, strict=True):
        room = torch.where(d > 0, bounds[1] - x, x - bounds[0]) / width
        size, kept = d.abs(), y.abs()
        assert bool((y * d >= 0).all())
        total = float(torch.minimum(size, room).sum())
        assert float(kept.sum()) == pytest.approx(min(eps, total), rel=1e-9)
        full, gone = (kept >= room - 1e-12) & (room > 0), kept <= 1e-12
        between = ~full & ~gone
        if total > eps:
            assert bool(between.any())
            shrink = float((size - kept)[between].mean())
        else:
            shrink = 0.0
        assert (size - kept)[between].tolist() == pytest.approx([shrink] * int(between.sum()), abs=1e-9)
        assert bool((size[gone & (room > 0)] <= shrink + 1e-9).all())
        assert bool((size[full] >= shrink + room[full] - 1e-9).all())


@settings(max_examples=30)
@given(st.integers(0, 10_000), st.sampled_from([BOUNDS, HU]), st.sampled_from([torch.float32, torch.float64]))
def test_l1_projection_never_leaves_the_ball_by_rounding(seed, bounds, dtype):
    """Thousands of small changes, each rounded: their sum must not add up to leave the ball."""
    clean, moved = random_case(seed, (2, 3, 40, 40), bounds, dtype, reach=0.1)
    eps = 0.01 * clean[0].numel() * (bounds[1] - bounds[0])
    found = project(Threat(eps, "l1"), clean, moved, bounds)
    spent = length(found.double() - clean.double(), "l1")
    assert float(spent.max()) <= eps * (1 + 1e-6)
    assert float(spent.min()) >= eps * (1 - 1e-4)
    assert bounds[0] <= float(found.min()) <= float(found.max()) <= bounds[1]


@pytest.mark.parametrize("step", [1.2e-6, 1.37e-6, 1.41e-6, 1.6e-6, 3e-9])
def test_equal_changes_that_all_round_the_same_way_stay_in_the_ball(step):
    clean = torch.full((1, 1, 50, 50), 0.7)
    found = project(Threat(2500 * step, "l1"), clean, clean + 0.1)
    assert float(length(found.double() - clean.double(), "l1")) <= 2500 * step * (1 + 1e-12)


def test_one_far_value_costs_the_others_no_precision():
    """A change of 1000 beside 999 of .3 in float32, a ball of 1200: λ = 99.7 / 1000 is spent to the last bit."""
    clean = torch.zeros(1, 1, 1, 1000)
    moved = torch.full_like(clean, 0.3)
    moved[..., 0] = 1000
    found = project(Threat(1200.0, "l1"), clean, moved, HU)
    assert float(length(found, "l1")) == pytest.approx(1200, rel=2e-7)


@given(st.integers(0, 10_000), st.sampled_from(NORMS), st.floats(0, 2))
def test_projecting_again_changes_nothing(seed, norm, eps):
    clean, moved = random_case(seed)
    once = project(Threat(eps, norm), clean, moved)
    assert torch.allclose(project(Threat(eps, norm), clean, once), once, atol=1e-12, rtol=0)


@settings(max_examples=40)
@given(st.integers(0, 10_000), st.sampled_from(NORMS), st.floats(0.01, 2))
def test_no_allowed_image_is_nearer(seed, norm, eps):
    """For L2, which is cut to the bounds after the ball, where the bounds are out of reach."""
    bounds = (-9.0, 9.0) if norm == "l2" else BOUNDS
    clean, moved = random_case(seed)
    space = Threat(eps, norm).space(clean, bounds)
    found = moved.clone()
    space.project_(found)
    best = length(found - moved, "l2")
    for draw in range(20):
        other = space.random_start(sample_generators(draw, [0, 1], "other"))
        # as near as it gets on the way there: the set is convex
        for share in (1.0, 0.1, 0.001):
            assert bool((length(found + share * (other - found) - moved, "l2") >= best - 1e-12).all())


@pytest.fixture
def _a_twentieth(monkeypatch):
    """A share at which two of few values are moved."""
    monkeypatch.setattr("medrobust.threat.l1.TOP_SHARE", 0.05)


@pytest.mark.usefixtures("_a_twentieth")
def test_l1_steps_by_hand():
    """Of 40 values 5 % are two: a half each, on the largest two of the gradient."""
    gradient = torch.linspace(0.1, 1, 40, dtype=torch.float64).reshape(1, 1, 5, 8)
    gradient[0, 0, 0, 0] = -7
    space = Threat(1, "l1").space(torch.full_like(gradient, 0.5), BOUNDS)
    step = space.steepest(gradient).flatten()
    assert step[0] == -0.5
    assert step[39] == 0.5
    assert int((step != 0).sum()) == 2
    assert not space.steepest(torch.zeros_like(gradient)).any()


@pytest.mark.usefixtures("_a_twentieth")
def test_l1_steps_spend_nothing_on_a_value_at_its_bound():
    gradient = torch.linspace(0.1, 1, 40).reshape(1, 1, 5, 8)
    space = Threat(1, "l1").space(torch.full_like(gradient, 0.5), BOUNDS)
    at = torch.full_like(gradient, 0.5).flatten()
    at[39], at[38] = 1.0, 0.0  # the first cannot rise, the second can
    step = space.steepest(gradient, at.view_as(gradient)).flatten()
    assert step.nonzero().flatten().tolist() == [37, 38]


@pytest.mark.usefixtures("_a_twentieth")
def test_l1_steps_take_their_share_of_the_values_that_may_change():
    gradient = torch.linspace(0.1, 1, 80).reshape(2, 1, 5, 8)
    mask = torch.ones(2, 1, 5, 8)
    mask[1, :, :, 4:] = 0  # 20 of 40: one value a step
    step = Threat(1, "l1", mask=mask).space(torch.full_like(gradient, 0.5), BOUNDS).steepest(gradient)
    assert (step != 0).flatten(1).sum(1).tolist() == [2, 1]
    assert step.abs().flatten(1).sum(1).tolist() == pytest.approx([1, 1])
    assert not step[1, :, :, 4:].any()


def test_l1_starts_are_uniform_in_the_ball():
    """In an n-ball of L1, (length/eps)^n is uniform, and so is the share of one value: P(|x₁| > t) = (1 − t)^n."""
    clean = torch.full((2000, 1, 1, 3), 0.5, dtype=torch.float64)
    delta = Threat(0.4, "l1").space(clean, BOUNDS).random_start(sample_generators(0, range(2000), "s")) - clean
    assert stats.kstest((length(delta, "l1") / 0.4) ** 3, "uniform").pvalue > 0.01
    assert stats.kstest((1 - delta[:, 0, 0, 0].abs() / 0.4) ** 3, "uniform").pvalue > 0.01
    assert float((delta > 0).double().mean()) == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("shape", [(4, 1, 5, 6), (4, 5, 6, 5), (4, 1, 3, 4, 5)])
def test_one_radius_an_image_is_each_alone(norm, shape):
    clean, moved = random_case(3, shape, HU, torch.float32)
    eps = torch.tensor([0.0, 10.0, 55.5, 4000.0])
    mask = torch.rand(shape, generator=torch.Generator().manual_seed(5)) > 0.3
    space = Threat(eps, norm, mask=mask).space(clean, HU)
    together = moved.clone()
    space.project_(together)
    start = space.random_start(sample_generators(0, "abcd", "s"))
    step = space.steepest(space.allowed(moved), clean)
    for place in range(4):
        row = slice(place, place + 1)
        alone = Threat(float(eps[place]), norm, mask=mask[row]).space(clean[row], HU)
        found = moved[row].clone()
        alone.project_(found)
        assert torch.equal(together[row], found)
        assert torch.equal(start[row], alone.random_start(sample_generators(0, "abcd", "s")[row]))
        assert torch.equal(step[row], alone.steepest(alone.allowed(moved[row]), clean[row]))
    assert torch.equal(together[0], clean[0])
    assert torch.equal(start[0], clean[0])


@pytest.mark.parametrize("norm", NORMS)
def test_a_part_of_a_batch(norm):
    clean, moved = random_case(4, (4, 2, 5, 6))
    mask = torch.rand(4, 1, 5, 6, generator=torch.Generator().manual_seed(5)) > 0.3
    threat = Threat(torch.tensor([0.1, 0.2, 0.3, 0.4]), norm, mask=mask)
    index = torch.tensor([3, 1])
    whole, found, again = moved.clone(), moved[index], moved[index]
    threat.space(clean, BOUNDS).project_(whole)
    threat.space(clean, BOUNDS).rows(index).project_(found)
    threat.rows(index, 4).space(clean[index], BOUNDS).project_(again)
    assert torch.equal(whole[index], found)
    assert torch.equal(found, again)


def test_what_is_per_image_is_taken_along():
    index = torch.tensor([2, 0])
    assert Threat(0.1).rows(index, 3).eps == 0.1
    every = torch.arange(3.0).reshape(3, 1, 1, 1)
    assert Threat(0.1, mask=every).rows(index, 3).mask.flatten().tolist() == [2, 0]
    same = torch.ones(3, 4, 4)  # channels of every image
    assert Threat(0.1, mask=same).rows(index, 3).mask is same
    # of volumes (C, D, H, W) with as many channels as images: told apart once the images are known
    volumes = torch.rand(3, 3, 2, 2, 2)
    known = Threat(0.1, mask=torch.ones(3, 2, 2, 2)).for_truth(torch.zeros(3), volumes)
    assert known.rows(index, 3).mask.shape == (1, 3, 2, 2, 2)


@pytest.mark.parametrize(
    ("eps", "message"),
    [
        (torch.tensor(0.1), r"finite number or \(B,\), one an image"),
        (torch.ones(2, 1), r"finite number or \(B,\), one an image"),
        (torch.tensor([0.1, -0.1]), "every eps must be a finite number"),
        (torch.tensor([0.1, torch.nan]), "every eps must be a finite number"),
    ],
)
def test_refuses_radii(eps, message):
    with pytest.raises(InputError, match=message):
        Threat(eps)


def test_refuses_radii_of_another_batch():
    threat = Threat(torch.tensor([0.1, 0.2]))
    with pytest.raises(InputError, match="2 radii for 3 images"):
        threat.check(torch.rand(3, 1, 2, 2), BOUNDS)
    with pytest.raises(InputError, match="2 radii for 3 images"):
        threat.rows(torch.tensor([0]), 3)
    with pytest.raises(InputError, match="one eps for all images"):
        threat.budget()
    with pytest.raises(InputError, match="smaller than one step"):
        Threat(torch.tensor([0.0, 0.5, 3.0]), quantum=1)
    Threat(torch.tensor([0.0, 3.0]), quantum=1)


def test_a_list_of_images_takes_one_radius_each():
    victim = mr.Victim(nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4, 2)), mr.Classification(2))
    images = [torch.full((1, side, side), 0.5) for side in (4, 6, 4)]
    truth, eps = torch.tensor([0, 1, 1]), torch.tensor([0.1, 0.2, 0.0])
    delta = mr.BIM(steps=3, step_size=0.1)(victim, images, truth, Threat(eps)).delta
    assert [float(change.abs().max()) for change in delta] == pytest.approx([0.1, 0.2, 0.0], abs=1e-6)
    with pytest.raises(InputError, match="2 radii for 3 images"):
        mr.BIM(step_size=0.1)(victim, images, truth, Threat(eps[:2]))
