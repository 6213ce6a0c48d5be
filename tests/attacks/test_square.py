"""The square attack by hand: its schedule, its squares, its bumps, and that it only ever goes towards its goal."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from attacks.asked import Counting, right
from torch import Tensor, nn

from medrobust.attacks import square_moves
from medrobust.attacks.case import opened
from medrobust.attacks.square import Square
from medrobust.attacks.square_moves import Bumps, Patches
from medrobust.errors import InputError
from medrobust.tasks import Classification
from medrobust.threat import Threat
from medrobust.victim import Victim


class Flat(nn.Module):
    """Sure of class 0, whatever it sees."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([torch.ones(len(x)), torch.zeros(len(x))], 1)


FLAT = Victim(Flat(), Classification(2))


def moves(kind, images: Tensor, threat: Threat, count: int = 4, seed: int = 0):
    with opened(FLAT, images, torch.zeros(len(images), dtype=torch.int64), threat, seed, None, targeted=False) as case:
        return kind(case, count, 0)


def test_the_schedule_of_the_paper():
    whole = Square(queries=10_002)
    places = (0, 10, 11, 50, 51, 200, 201, 500, 501, 1000, 1001, 2000, 2001, 4000, 4001, 6000, 6001, 8000, 8001, 9999)
    halved = [round(np.log2(0.8 / whole.share(place))) for place in places]
    assert halved == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9]
    # a tenth of the questions: every tenth place; as AutoAttack runs it, the same places
    assert Square(queries=1002).share(501) == whole.share(5010)
    assert Square(queries=1002, rescale=False).share(501) == whole.share(501)


@pytest.mark.parametrize(
    ("spatial", "share", "sides"),
    [
        ((9, 8), 0.8, [8, 8]),  # √57.6 = 7.6
        ((40, 3), 0.8, [10, 3]),  # √96 = 9.8, as far as there is room
        ((5, 6, 7), 0.1, [3, 3, 3]),  # ∛21 = 2.8
        ((1, 6, 7), 0.8, [1, 3, 3]),  # ∛33.6 = 3.2
        ((9, 8), 0.001, [1, 1]),
    ],
)
def test_sides_of_squares_and_cubes(spatial, share, sides):
    assert moves(Patches, torch.full((1, 2, *spatial), 0.5), Threat(0.1)).sides(share).tolist() == [sides]


@pytest.mark.parametrize("spatial", [(9, 8), (5, 6, 7)])
def test_stripes_first_then_windows_at_the_ends_of_the_ball(spatial):
    images = torch.rand((3, 2, *spatial), generator=torch.Generator().manual_seed(0))
    move = moves(Patches, images, Threat(0.3))
    low, high = (images - 0.3).clamp_min(0), (images + 0.3).clamp_max(1)
    start = move.start()
    up = start == high
    assert bool((up | (start == low)).all())
    column = up.flatten(2, -2)
    assert torch.equal(column, column[:, :, :1].expand_as(column)), "a stripe is not of one sign"
    assert 0 < float(up.double().mean()) < 1
    tried = move(images, 0, 0.2)
    side = round((0.2 * images[0, 0].numel()) ** (1 / len(spatial)))
    for image, changed, top, bottom in zip(images, tried, high, low, strict=True):
        where = (changed != image).any(0).nonzero()
        assert (where.amax(0) - where.amin(0) + 1).tolist() == [side] * len(spatial)
        assert len(where) == side ** len(spatial)
        for channel in range(2):
            inside = tuple(where.T)
            ends = [torch.equal(changed[channel][inside], end[channel][inside]) for end in (top, bottom)]
            assert ends.count(True) == 1, "a channel goes to one end, and the whole window with it"
    assert not torch.equal(tried[0] != images[0], tried[1] != images[1]), "each image has a window of its own"


def test_every_position_is_reached(monkeypatch):
    """Also the last one, which the authors' code leaves out."""
    images = torch.full((1, 1, 5, 4), 0.5)
    monkeypatch.setattr(square_moves, "uniforms", lambda case, purpose, *shape: torch.full((1, *shape), 0.999999))
    changed = moves(Patches, images, Threat(0.1))(images, 0, 0.2) != images
    assert changed[0, 0].nonzero().tolist() == [[3, 2], [3, 3], [4, 2], [4, 3]]


def pyramid(rows: int, columns: int) -> np.ndarray:
    """Eq. 2 of the paper, ring by ring, of unit norm."""
    made = np.zeros((rows, columns))
    middle = (rows // 2, columns // 2)
    rings = max(middle) + 1
    for row in range(rows):
        for column in range(columns):
            ring = max(abs(row - middle[0]), abs(column - middle[1]))
            made[row, column] = sum(1 / (k + 1) ** 2 for k in range(ring, rings))
    return made / np.linalg.norm(made)


@pytest.mark.parametrize("transposed", [False, True])
def test_bumps_of_the_first_window_by_hand(monkeypatch, transposed):
    """From the clean image there is no change to move: a window holds nothing but the pair of pyramids."""
    images = torch.full((1, 1, 11, 12), 0.5)
    draws = [0.3, 0.6, 0.9, 0.0, 0.9 if transposed else 0.1, 0.2]  # two corners, the axis of the pair, the sign
    monkeypatch.setattr(
        square_moves,
        "uniforms",
        lambda case, purpose, *shape: (
            torch.tensor(draws).expand(1, *shape[:-1], -1) if "start" not in purpose else torch.zeros(1, *shape)
        ),
    )
    delta = (moves(Bumps, images, Threat(0.2, "l2"))(images, 0, 25 / 132) - images)[0, 0].double().numpy()
    pair = np.concatenate([pyramid(2, 5), -pyramid(3, 5)])
    wanted = np.zeros((11, 12))
    wanted[2:7, 4:9] = (pair.T if transposed else pair) / np.sqrt(2) * 0.2
    assert np.abs(delta - wanted).max() < 1e-6


def test_bumps_move_what_another_window_held(monkeypatch):
    """Algorithm 3 step by step in NumPy, on a change that is there already."""
    generator = torch.Generator().manual_seed(1)
    images = torch.full((1, 3, 10, 10), 0.5)
    change = torch.randn(images.shape, generator=generator)
    change *= 0.15 / change.norm()
    draws = torch.tensor([0.1, 0.1, 0.7, 0.7, 0.2, 0.9, 0.1, 0.9])
    monkeypatch.setattr(
        square_moves,
        "uniforms",
        lambda case, purpose, *shape: (
            draws.expand(1, *shape[:-1], -1) if "start" not in purpose else torch.zeros(1, *shape)
        ),
    )
    moved = moves(Bumps, images, Threat(0.2, "l2"))(images + change, 0, 0.09) - images
    nu, eta = change[0].double().numpy().copy(), np.concatenate([pyramid(1, 3), -pyramid(2, 3)]) / np.sqrt(2)
    first, second = (slice(0, 3), slice(0, 3)), (slice(5, 8), slice(5, 8))
    unused = 0.2**2 - (nu**2).sum()
    new = nu.copy()
    for channel, sign in enumerate((-1, 1, -1)):
        inside = nu[channel][first]
        temporary = sign * eta + inside / np.linalg.norm(inside)
        available = np.sqrt((inside**2).sum() + (nu[channel][second] ** 2).sum() + unused / 3)
        new[channel][second] = 0
        new[channel][first] = temporary / np.linalg.norm(temporary) * available
    assert np.linalg.norm(new) == pytest.approx(0.2)  # the algorithm spends the whole budget
    assert np.abs(moved[0].double().numpy() - new).max() < 1e-6


@pytest.mark.parametrize("spatial", [(25, 25), (24, 31), (4, 9), (10, 11, 12)])
def test_bumps_begin_everywhere_at_the_whole_radius(spatial):
    images = torch.full((2, 2, *spatial), 0.5)
    delta = moves(Bumps, images, Threat(0.3, "l2")).start() - images
    assert delta.flatten(1).norm(dim=1).tolist() == pytest.approx([0.3, 0.3], rel=1e-4)
    covered = (delta != 0).any(1).double().flatten(1).mean(1)
    assert float(covered.min()) > 0.5
    assert not torch.equal(delta[0], delta[1])


def test_windows_lie_where_a_change_may_be():
    mask = torch.zeros(20, 20)
    mask[12:16, 3:8] = 1
    images = torch.full((1, 1, 20, 20), 0.5)
    for kind, norm in ((Patches, "linf"), (Bumps, "l2")):
        move = moves(kind, images, Threat(0.1, norm, mask=mask), count=30)
        for index in range(30):
            assert bool((move(images, index, 0.2) != images).any()), "a question about the clean image"


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_more_questions_never_leave_an_image_farther_from_its_goal(norm):
    victim, images, truth = right("1 channel")
    gaps = []
    for queries in (2, 10, 40, 160):
        result = Square(queries=queries, rescale=False)(victim, images, truth, Threat(0.02, norm))
        others = result.outputs.scatter(1, truth[:, None], -torch.inf).amax(1)
        gap = others - result.outputs.gather(1, truth[:, None])[:, 0]
        gaps.append(torch.where(result.success, torch.inf, gap))
    assert all(bool((after >= before - 1e-5).all()) for before, after in pairwise(gaps))
    assert bool((gaps[-1] > gaps[0]).any())


def test_a_fooled_image_is_not_asked_about_again():
    victim, images, truth = right("1 channel")
    counting = Counting(victim)
    result = Square(queries=400)(counting.victim, images, truth, Threat(0.2))
    assert bool(result.success.any())
    assert bool((result.queries[result.success] < 400).all())
    assert counting.asked == int(result.queries.sum()) + len(images)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"queries": 1}, "queries must be a whole number of at least 2"),
        ({"restarts": 0}, "restarts must be a whole number of at least 1"),
        ({"p_init": 0}, "p_init must be above 0 and at most 1"),
        ({"p_init": 1.5}, "p_init must be above 0 and at most 1"),
        ({"p_init": True}, "p_init must be above 0 and at most 1"),
        ({"rescale": "no"}, "rescale must be true or false"),
        ({"loss": "nothing"}, "unknown loss 'nothing'"),
    ],
)
def test_options_that_do_not_do(options, words):
    with pytest.raises(InputError, match=words):
        Square(**options)
