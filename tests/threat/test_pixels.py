"""The threat: projection, steepest step, random start, grid and mask, on hand-worked numbers."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from medrobust.errors import InputError
from medrobust.threat import Threat, sample_generators

BOUNDS = (0.0, 1.0)


def project(threat: Threat, clean: torch.Tensor, moved: torch.Tensor, bounds=BOUNDS) -> torch.Tensor:
    moved = moved.clone()
    threat.space(clean, bounds).project_(moved)
    return moved


def flat(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64).reshape(1, 1, 1, -1)


def test_linf_projection_by_hand():
    moved = project(Threat(0.1), flat(0.5, 0.5, 0.05, 0.95), flat(0.9, 0.45, -0.3, 2.0), BOUNDS)
    assert moved.flatten().tolist() == pytest.approx([0.6, 0.45, 0.0, 1.0])


def test_l2_projection_by_hand():
    """A change of (.3, .4) has length .5: cut to .1 it is (.06, .08)."""
    moved = project(Threat(0.1, "l2"), flat(0.5, 0.5), flat(0.8, 0.9), BOUNDS)
    assert moved.flatten().tolist() == pytest.approx([0.56, 0.58])
    inside = project(Threat(0.6, "l2"), flat(0.5, 0.5), flat(0.8, 0.9), BOUNDS)
    assert inside.flatten().tolist() == pytest.approx([0.8, 0.9])


def test_steepest_by_hand():
    gradient = flat(3e-25, -4e-25, 0.0)
    assert Threat(1).space(gradient, BOUNDS).steepest(gradient).flatten().tolist() == [1, -1, 0]
    assert Threat(1, "l2").space(gradient, BOUNDS).steepest(gradient).flatten().tolist() == pytest.approx(
        [0.6, -0.8, 0.0]
    )
    assert Threat(1, "l2").space(flat(0, 0), BOUNDS).steepest(flat(0, 0)).flatten().tolist() == [0, 0]


@given(st.integers(0, 10_000), st.sampled_from(["linf", "l2"]), st.floats(0, 2))
def test_random_start_is_in_ball_and_bounds(seed, norm, eps):
    clean = torch.linspace(0, 1, 24).reshape(2, 1, 3, 4)
    start = Threat(eps, norm).space(clean, BOUNDS).random_start(sample_generators(seed, [0, 1], "start"))
    delta = (start - clean).flatten(1).double()
    length = delta.abs().amax(1) if norm == "linf" else delta.norm(dim=1)
    assert float(length.max()) <= eps * (1 + 1e-5) + 1e-7
    assert 0 <= float(start.min()) <= float(start.max()) <= 1


def test_random_starts_fill_the_ball_evenly():
    """Uniform in a box: half of the changes are beyond eps/2; in an n-ball the length is eps·U^(1/n)."""
    clean = torch.full((400, 1, 2, 2), 0.5)
    generators = sample_generators(0, range(400), "start")
    box = (Threat(0.1).space(clean, BOUNDS).random_start(generators) - clean).flatten()
    assert float((box.abs() > 0.05).double().mean()) == pytest.approx(0.5, abs=0.05)
    assert float(box.mean()) == pytest.approx(0, abs=0.006)
    ball = (Threat(0.1, "l2").space(clean, BOUNDS).random_start(generators) - clean).flatten(1)
    assert float(((ball.norm(dim=1) / 0.1) ** 4).mean()) == pytest.approx(0.5, abs=0.05)
    assert float(ball.mean()) == pytest.approx(0, abs=0.006)


def test_a_mask_takes_part_in_the_length_of_an_l2_start():
    clean, mask = torch.full((300, 1, 2, 2), 0.5), torch.tensor([[1, 0], [0, 0]])
    threat = Threat(0.1, "l2", mask=mask)
    delta = (threat.space(clean, BOUNDS).random_start(sample_generators(1, range(300), "s")) - clean).flatten(1)
    assert not bool(delta[:, 1:].any())
    assert float((delta[:, 0].abs() / 0.1).mean()) == pytest.approx(0.5, abs=0.05)  # one free value: U^(1/1)


def test_the_grid_goes_towards_the_clean_image():
    q = 1 / 255
    clean = torch.tensor([10.0, 20.0, 30.0, 254.0]).reshape(1, 1, 1, 4) * q
    moved = clean + torch.tensor([2.7, -2.7, 0.4, 1.0]).reshape(1, 1, 1, 4) * q
    saved = Threat(3 * q, quantum=q).finish(clean, moved, BOUNDS)
    assert (saved * 255).flatten().tolist() == pytest.approx([12, 18, 30, 255])
    assert torch.equal(saved[..., 2], clean[..., 2])


def test_a_whole_budget_is_not_lost_to_rounding():
    """clean + 4/255 − clean is a little less than 4/255 in float32; it must still count as four steps."""
    q = 1 / 255
    clean = (torch.arange(0, 251) / 255).reshape(1, 1, 1, -1)
    threat = Threat(4 * q, quantum=q)
    saved = threat.finish(clean, project(threat, clean, clean + 1), BOUNDS)
    assert ((saved - clean) * 255).round().unique().tolist() == [4.0]


def test_hounsfield_grid_counts_from_the_lower_bound():
    clean = torch.tensor([-1000.0, 40.0]).reshape(1, 1, 1, 2)
    saved = Threat(10, quantum=1).finish(clean, clean + torch.tensor([3.9, -7.2]), (-1024.0, 3071.0))
    assert saved.flatten().tolist() == [-997.0, 33.0]


def test_16_bit_images_lie_on_their_grid():
    q = 1 / 65535
    clean = (torch.randint(0, 65536, (1, 1, 64, 64), generator=torch.Generator().manual_seed(0)) / 65535).float()
    threat = Threat(20 * q, quantum=q)
    threat.check(clean, BOUNDS)
    saved = threat.finish(clean, project(threat, clean, clean + 0.1), BOUNDS)
    levels = (saved - clean).double() * 65535
    assert float((levels - levels.round()).abs().max()) < 0.02
    assert int(levels.round().max()) == 20
    with pytest.raises(InputError, match=r"finer than torch\.float32 can tell apart"):
        Threat(0.1, quantum=1e-7).check(clean, BOUNDS)


def test_generators_depend_on_seed_id_and_purpose_alone():
    draw = lambda *key: float(torch.rand((), generator=sample_generators(*key)[0]))  # noqa: E731
    assert draw(0, ["a"], "x") == draw(0, ["a"], "x")
    others = {draw(0, ["a"], "x"), draw(1, ["a"], "x"), draw(0, ["b"], "x"), draw(0, ["a"], "y")}
    assert len(others) == 4
    second = sample_generators(0, ["z", "a"], "x")[1]
    assert float(torch.rand((), generator=second)) == draw(0, ["a"], "x")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"eps": -0.1}, "at least 0, got -0.1"),
        ({"eps": math.nan}, "finite"),
        ({"eps": math.inf}, "finite"),
        ({"eps": 0.1, "norm": "l3"}, "linf, l2, l1, got 'l3'"),
        ({"eps": 0.1, "quantum": 0}, "quantum must be a finite number above 0"),
        ({"eps": "0.1"}, "eps must be a finite number, at least 0"),
        ({"eps": 0.5 / 255, "quantum": 1 / 255}, "smaller than one step"),
    ],
)
def test_refuses_options(options, message):
    with pytest.raises(InputError, match=message):
        Threat(**options)


def test_refuses_images_that_do_not_fit():
    images = torch.full((1, 1, 2, 2), 0.3)
    with pytest.raises(InputError, match=r"mask of shape \(3, 3\)"):
        Threat(0.1, mask=torch.ones(3, 3)).check(images, BOUNDS)
    with pytest.raises(InputError, match="grid of quantum"):
        Threat(0.1, quantum=1 / 255).check(images, BOUNDS)


def test_a_grid_that_does_not_begin_at_the_lower_bound():
    """Stored integers × 0.5 − 1000.25: whole steps are counted from each value, wherever the bound lies."""
    clean = torch.tensor([[-1000.25, -999.75, 40.25], [0.0, 0.5, 7.0]]).reshape(2, 1, 1, 3)
    bounds = (-1024.0, 3071.0)
    with pytest.raises(InputError, match=r"grid of quantum 0\.5 from -1024"):
        Threat(3, quantum=0.5).check(clean, bounds)
    threat = Threat(3, quantum=0.5, origin="clean")
    threat.check(clean, bounds)
    saved = threat.finish(clean, clean + torch.tensor([2.9, -0.4, -1.2]), bounds)
    assert saved.flatten().tolist() == [-997.75, -999.75, 39.25, 2.5, 0.5, 6.0]
    with pytest.raises(InputError, match=r"grid of quantum 0\.5 from their least values"):
        threat.check(clean + torch.tensor([0, 0, 0.2]), bounds)
    with pytest.raises(InputError, match="origin must be one of bound, clean"):
        Threat(1, origin="zero")
