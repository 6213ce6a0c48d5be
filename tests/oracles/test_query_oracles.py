"""Attacks that see answers alone beside other people's: the same draws where they can be given, else as strong."""

from __future__ import annotations

import pytest
import torch
from oracles.peers import from_art, from_autoattack, from_foolbox, from_torchattacks

from medrobust.attacks import estimates, square_moves
from medrobust.attacks.estimated import NES, SPSA
from medrobust.attacks.hop_skip_jump import HopSkipJump
from medrobust.attacks.square import Square
from medrobust.black_box import BlackBox
from medrobust.threat import Threat

WINDOWS = 60
RUNS = (0, 1, 2)


@pytest.mark.parametrize("rescale", [True, False])
def test_square_asks_and_keeps_as_autoattack_on_the_same_draws(untouched, monkeypatch, rescale):
    """Of images all of which are right at first; those that are fooled stop there in both."""
    images, truth = untouched.right(48)
    side, eps = 25, 2 / 255
    generator = torch.Generator().manual_seed(0)
    stripes = torch.rand(len(images), 1, 1, side, generator=generator)
    draws = torch.rand(WINDOWS, 3, generator=generator)
    attack = Square(queries=WINDOWS + 2, rescale=rescale)
    corners = []
    for index, draw in enumerate(draws.tolist()):
        room = side - min(max(round((attack.share(index) * side**2) ** 0.5), 1), side)
        corners.append(tuple(int(number * (room + 1)) for number in draw[:2]))
    theirs = from_autoattack.square_replayed(
        untouched.model,
        images,
        truth,
        stripes=torch.where(stripes < 0.5, -1.0, 1.0),
        corners=corners,
        signs=torch.where(draws[:, 2] < 0.5, -1.0, 1.0).reshape(-1, 1, 1, 1),
        eps=eps,
        queries=WINDOWS,
        rescale=rescale,
    )

    def given(case, purpose, *shape):
        rows = torch.tensor(case.ids)
        return stripes[rows] if "start" in purpose else draws.expand(len(rows), -1, -1)

    monkeypatch.setattr(square_moves, "uniforms", given)
    ours = attack(untouched.victim, images, truth, Threat(eps))
    assert 0 < int(ours.success.sum()) < len(images), "the comparison says nothing"
    assert float((ours.adversarial - theirs).abs().max()) < 1e-6


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_square_leaves_no_more_right_than_autoattack(untouched, norm):
    """In the mean of three runs: one run's share moves by a point."""
    images, truth = untouched.images, untouched.truth
    eps, queries = untouched.eps[norm] * 1.5, 200
    threat, name = Threat(eps, norm), {"linf": "Linf", "l2": "L2"}[norm]
    options = {"eps": eps, "queries": queries - 2, "norm": name}
    ours = [Square(queries=queries)(untouched.victim, images, truth, threat, seed=seed).adversarial for seed in RUNS]
    theirs = [from_autoattack.square(untouched.model, images, truth, seed=seed, **options) for seed in RUNS]
    left, left_to_them = (sum(untouched.accuracy(found) for found in runs) / len(RUNS) for runs in (ours, theirs))
    assert left_to_them < untouched.accuracy(images) - 0.05, "the comparison says nothing"
    assert left <= left_to_them + 0.01


def test_a_step_of_spsa_is_torchattacks_on_the_same_signs(untouched, monkeypatch):
    """Adam's first step is the sign of the estimate. Images are kept from the bounds, beyond which they ask."""
    images, truth = untouched.right(24)
    images = 0.2 + 0.6 * images
    samples = 32
    signs = 2 * torch.randint(0, 2, (1, samples, 1, *images.shape[1:]), generator=torch.Generator().manual_seed(0)) - 1
    theirs = from_torchattacks.spsa(untouched.model, images, truth, signs=signs.float(), eps=8 / 255)
    remaining = iter(one for one in signs[0, :, 0] for _ in range(len(images)))
    monkeypatch.setattr(
        estimates.SimultaneousPerturbation, "draw", lambda self, shape, generator: next(remaining).to(torch.int8)
    )
    attack = SPSA(steps=1, directions=samples, step_size=0.01, early_stop=False)
    ours = attack(untouched.victim, images, truth, Threat(8 / 255))
    assert ours.queries.tolist() == [2 * samples + 1] * len(images)
    differing = ((ours.adversarial - theirs).abs() > 1e-4).double().mean()
    assert float(differing) < 0.02  # where the estimate is nearly zero


@pytest.mark.slow
@pytest.mark.parametrize("attack", [NES(steps=8, directions=20), SPSA(steps=8, directions=20)])
def test_estimates_leave_no_more_right_than_torchattacks(untouched, attack):
    images, truth = untouched.images, untouched.truth
    eps = 8 / 255
    generator = torch.Generator().manual_seed(0)
    signs = 2.0 * torch.randint(0, 2, (8, 20, 1, *images.shape[1:]), generator=generator) - 1
    theirs = from_torchattacks.spsa(untouched.model, images, truth, signs=signs, eps=eps)
    box = BlackBox(lambda shown: untouched.model(shown), untouched.task)
    ours = attack(box, images, truth, Threat(eps))
    right, left, left_to_them = (
        float((~untouched.wrong(x, truth)).float().mean()) for x in (images, ours.adversarial, theirs)
    )
    assert left_to_them < right - 0.05, "the comparison says nothing"
    assert left <= left_to_them + 0.01


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_hop_skip_jump_comes_as_near_as_foolbox_and_art_at_the_same_questions(untouched, norm):
    images, truth = untouched.right(12)
    pool = torch.stack([_answered(untouched, 0), _answered(untouched, 1)])
    start = pool[(truth == 0).long()]  # of each image the first of the pool that is of another class

    class Counted(torch.nn.Module):
        asked = 0

        def forward(self, shown):
            Counted.asked += len(shown)
            return untouched.model(shown)

    distances, questions = {}, {}
    for name, peer in (("foolbox", from_foolbox), ("ART", from_art)):
        Counted.asked = 0
        theirs = peer.hop_skip_jump(Counted().eval(), images, truth, start=start, steps=6, norm=norm)
        distances[name] = (theirs - images).flatten(1).norm(dim=1, p={"l2": 2, "linf": torch.inf}[norm]).median()
        assert bool(untouched.wrong(theirs, truth).double().mean() > 0.8)
        questions[name] = Counted.asked // len(images)
    for name, theirs in distances.items():
        attack = HopSkipJump(queries=questions[name], start=pool)
        smallest = attack(untouched.victim, images, truth, Threat(0.1, norm)).smallest
        assert float(smallest.median()) <= 1.1 * float(theirs)


def _answered(oracle, label: int):
    return oracle.images[(oracle.truth == label) & ~oracle.wrong(oracle.images, oracle.truth)][0]
