"""APGD by hand: when it looks, how it moves, when it shortens its step and goes back, and what it keeps."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from medrobust.attacks import APGD, APGDDLR, APGDT, MaskedCrossEntropy
from medrobust.attacks.apgd import AdaptiveWalk, checkpoints
from medrobust.attacks.apgd_l1 import SparseAdaptiveWalk
from medrobust.attacks.case import Case, opened
from medrobust.attacks.loop import run_plan
from medrobust.attacks.objectives import Iterate, OutputObjective, Terms
from medrobust.attacks.per_image import State
from medrobust.attacks.steps import Move, Situation
from medrobust.errors import InputError
from medrobust.tasks import Classification, Segmentation
from medrobust.threat import Threat
from medrobust.victim import Victim


def tiny(classes: int = 3) -> Victim:
    torch.manual_seed(0)
    return Victim(
        nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.Tanh(), nn.Linear(8, classes)), Classification(classes)
    )


def walk(
    rule: AdaptiveWalk | SparseAdaptiveWalk,
    clean: Tensor,
    threat: Threat,
    length: float,
    steps: int,
    told: list[tuple[Tensor, float]],
) -> tuple[list[Tensor], State]:
    """The points of a rule that is told, at each step, a gradient `(1, 1, 1, n)` and a value."""
    with opened(
        Victim(nn.Flatten(), Classification(2)), clean, torch.tensor([0]), threat, 0, None, targeted=False
    ) as case:
        stepper, point, points = rule.begin(case, length), clean, []
        for index, (gradient, value) in enumerate(told):
            values = torch.tensor([value])
            at = Situation(case, index, steps, point, Terms(values, None), values, _nowhere(case, point))
            point = stepper(gradient.reshape(clean.shape), at).variables
            points.append(point)
    return points, stepper


def _nowhere(case: Case, point: Tensor) -> Iterate:
    return Iterate(0, 1, case.clean, point, case.truth, 1)


def test_when_it_looks():
    # of 100 steps: gaps of 22, 19, 16, 13, 10, 7 and then 6, the least
    assert [place for place in checkpoints(100) if place < 100] == [22, 41, 57, 70, 80, 87, 93, 99]
    # of 10: 2, then 1 throughout, for ⌊.3⌋ and ⌊.6⌋ are made 1
    assert [place for place in checkpoints(10) if place < 10] == [2, 3, 4, 5, 6, 7, 8, 9]
    assert checkpoints(1) == [1]
    # eq. 2 of the paper, p_{j+1} = p_j + max(p_j − p_{j−1} − .03, .06), exact where T is a multiple of 100
    for thousand in (1000, 2000):
        assert checkpoints(thousand)[:6] == [share * thousand // 100 for share in (22, 41, 57, 70, 80, 87)]


def test_momentum_by_hand():
    """From 0.5 in a ball of 0.1, η .2: the first step to the ball's edge; then three quarters on, one quarter back.

    Value 0, where the gradient turns: x₁ = .5 + .1 = .6; z = .6 − .2 cut to .4, x₂ = .6 + ¾·(.4 − .6) + ¼·(.6 − .5) =
    .475; z = .475 + .2 cut to .6, x₃ = .475 + ¾·.125 + ¼·(.475 − .6) = .5375.
    """
    clean, rising = torch.full((1, 1, 1, 1), 0.5), iter(range(10))
    told = [(torch.tensor([sign]), float(next(rising))) for sign in (1.0, -1.0, 1.0)]
    points, _ = walk(AdaptiveWalk(), clean, Threat(0.1), 0.2, 100, told)
    assert [float(point) for point in points] == pytest.approx([0.6, 0.475, 0.5375], abs=1e-6)


def test_it_halves_and_goes_back_to_its_best_point():
    """10 steps, so the first look is after two. Values 1, 3, 2: one rise of two, at most ¾ of them.

    η is .1. x₀ = .5, x₁ = .6 with the gradient down, x₂ = .6 + ¾·(.5 − .6) + ¼·(.6 − .5) = .55. The best is x₁: from
    there, with η .05, z = .55 and x₃ = .6 + ¾·(.55 − .6) + ¼·(x₁ − x₁), for x₁ is also where the last step began.
    """
    clean = torch.full((1, 1, 1, 1), 0.5)
    told = [(torch.tensor([1.0]), 1.0), (torch.tensor([-1.0]), 3.0), (torch.tensor([1.0]), 2.0)]
    points, state = walk(AdaptiveWalk(), clean, Threat(0.1), 0.1, 10, told)
    assert [float(point) for point in points] == pytest.approx([0.6, 0.55, 0.5625], abs=1e-6)
    assert state.eta.tolist() == pytest.approx([0.05])


def test_rises_enough_keep_the_step():
    """As before, but rising twice: η stays and the walk goes on from where it is, x₂ = .55."""
    clean = torch.full((1, 1, 1, 1), 0.5)
    told = [(torch.tensor([1.0]), 1.0), (torch.tensor([-1.0]), 3.0), (torch.tensor([1.0]), 4.0)]
    points, state = walk(AdaptiveWalk(), clean, Threat(0.1), 0.1, 10, told)
    # z = .6 at the edge, x₃ = .55 + ¾·.05 + ¼·(.55 − .6)
    assert float(points[2]) == pytest.approx(0.575, abs=1e-6)
    assert state.eta.tolist() == pytest.approx([0.1])


def test_no_progress_halves_though_most_steps_rise():
    """The second condition: at a look where η was not halved at the one before, and the best is no better since.

    Of 50 steps the gaps are 11, 10, 9, …; all of the first eleven rise to 11, then it falls to 0 and rises again nine
    times in ten, below 11.
    """
    clean = torch.full((1, 1, 1, 1), 0.5)
    values = [*range(12), 0, *range(1, 10)]
    assert checkpoints(50)[:2] == [11, 21]
    told = [(torch.tensor([1.0]), float(value)) for value in values]
    for count, eta in ((12, 0.1), (21, 0.1), (22, 0.05)):
        _, state = walk(AdaptiveWalk(), clean, Threat(0.1), 0.1, 50, told[:count])
        assert state.eta.tolist() == pytest.approx([eta])
    # with a new best at the end, nothing is halved
    told[21] = (torch.tensor([1.0]), 11.5)
    _, state = walk(AdaptiveWalk(), clean, Threat(0.1), 0.1, 50, told)
    assert state.eta.tolist() == pytest.approx([0.1])


def test_a_step_too_long_for_a_narrow_hill_gets_short():
    """On −|x − .53| from .5 with steps of .2: a constant step swings about the top, an adaptive one comes near."""

    class Hill(OutputObjective):
        def deviation(self, task: Classification, outputs: Tensor, iterate: Iterate) -> Tensor:
            return -(iterate.current - 0.53).abs().flatten(1).sum(1) + 0 * outputs.sum(1)

    victim, clean = tiny(), torch.full((2, 1, 4, 4), 0.5)
    ends = {}
    for name, step in (("adaptive", AdaptiveWalk()), ("constant", "walk")):
        attack = APGD(steps=60, loss=Hill(), step=step, keep="last", random_start=False, step_size=0.2)
        ends[name] = attack(victim, clean, torch.tensor([0, 1]), Threat(0.1)).adversarial
    assert float((ends["adaptive"] - 0.53).abs().max()) < 0.005
    assert float((ends["constant"] - 0.53).abs().max()) > 0.05


def test_the_best_point_is_handed_in():
    victim = tiny()
    images, truth = torch.rand(6, 1, 4, 4, generator=torch.Generator().manual_seed(1)), torch.tensor([0, 1, 2] * 2)
    losses = []

    class Watched(OutputObjective):
        def deviation(self, task: Classification, outputs: Tensor, iterate: Iterate) -> Tensor:
            losses.append((task.loss(outputs, truth).detach(), task.fooled(outputs, truth)))
            return task.loss(outputs, iterate.truth)

    result = APGD(steps=15, loss=Watched())(victim, images, truth, Threat(0.3))
    assert len(losses) == 15
    assert bool(((result.loss >= torch.stack([loss for loss, _ in losses]).amax(0) - 1e-6) | result.success).all())
    assert bool((result.success >= torch.stack([fooled for _, fooled in losses]).any(0)).all())


def test_sparse_steps_by_hand():
    """Ten values, ball 1, η 1: a fifth of them, two, get ½ each; of a start that changes three, 3/1.5 are two as well.

    Of 25 steps the first look is after one. There the best point changes 2 values of the 10 of before: sparser, so η
    stays whole, and ⌈2/1.5⌉ = 2 move again.
    """
    clean = torch.full((1, 1, 1, 10), 0.5)
    gradient = torch.tensor([0.1, -4.0, 3.0, 0.0, 0.2, 0.3, 0.1, 0.1, 0.1, 0.1])
    points, state = walk(SparseAdaptiveWalk(), clean, Threat(1.0, norm="l1"), 1.0, 25, [(gradient, 0.0)])
    assert (points[0] - clean).flatten().tolist() == pytest.approx([0, -0.5, 0.5, *[0] * 7])
    told = [(gradient, 0.0), (gradient.flip(0), 1.0)]
    points, state = walk(SparseAdaptiveWalk(), clean, Threat(1.0, norm="l1"), 1.0, 25, told)
    assert state.eta.tolist() == [1.0]
    # ½ more at places 7 and 8, then the ball of 1 takes ¼ from each of the four
    moved = [0, -0.25, 0.25, 0, 0, 0, 0, 0.25, -0.25, 0]
    assert (points[1] - clean).flatten().tolist() == pytest.approx(moved, abs=1e-6)


def test_sparse_steps_shorten_down_to_a_tenth():
    """No sparser best point: η is divided by 1.5 at each look, 1, 2/3, 4/9, … and stays at .1."""
    clean = torch.full((1, 1, 1, 10), 0.5)
    gradient = torch.arange(10.0)
    told = [(gradient, 0.0), *[(gradient, 1.0)] * 9]
    etas = [
        float(walk(SparseAdaptiveWalk(), clean, Threat(1.0, norm="l1"), 1.0, 25, told[:count])[1].eta)
        for count in range(2, 11)
    ]
    # at the first look the best point changes 2 values, where all 10 counted before
    expected = [max((2 / 3) ** power, 0.1) for power in range(9)]
    assert etas == pytest.approx(expected)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_an_image_depends_on_itself_alone(norm):
    victim = tiny()
    images, truth = torch.rand(5, 1, 4, 4, generator=torch.Generator().manual_seed(2)), torch.tensor([0, 1, 2, 0, 1])
    eps = torch.tensor([0.1, 0.2, 0.3, 0.2, 0.1])
    attack, ids = APGD(steps=12, restarts=2, early_stop=True), ["a", "b", "c", "d", "e"]
    together = attack(victim, images, truth, Threat(eps, norm=norm), ids=ids).adversarial
    for place in range(5):
        one = slice(place, place + 1)
        alone = attack(victim, images[one], truth[one], Threat(float(eps[place]), norm=norm), ids=ids[one]).adversarial
        torch.testing.assert_close(alone[0], together[place], rtol=0, atol=1e-5)


@pytest.mark.parametrize(("norm", "rule"), [("linf", AdaptiveWalk()), ("l1", SparseAdaptiveWalk())])
def test_an_image_with_nothing_left_stays(norm, rule):
    """A mask all whose pixels are wrong already: no random walk for want of a gradient."""
    victim = Victim(nn.Conv2d(1, 2, 1), Segmentation(2))
    with torch.no_grad():
        victim.model.weight.zero_()
        victim.model.bias.copy_(torch.tensor([1.0, 0.0]))
    images, truth = torch.rand(1, 1, 5, 5), torch.ones(1, 5, 5, dtype=torch.int64)
    attack = APGD(steps=4, loss=MaskedCrossEntropy(), step=rule, random_start=False, keep="last")
    assert float(attack(victim, images, truth, Threat(0.1, norm=norm)).delta.abs().max()) == 0


def test_of_two_classes_it_is_the_margin():
    victim = tiny(2)
    images, truth = torch.rand(4, 1, 4, 4, generator=torch.Generator().manual_seed(4)), torch.tensor([0, 1, 0, 1])
    plain = APGD(steps=6, loss="margin")(victim, images, truth, Threat(0.1)).adversarial
    for attack in (APGDT(steps=6), APGDDLR(steps=6)):
        assert torch.equal(attack(victim, images, truth, Threat(0.1)).adversarial, plain)


def test_options():
    with pytest.raises(InputError, match="targets must be a whole number of at least 1"):
        APGDT(targets=0)
    assert APGD().default_step_size(0.1) == 0.2


def test_a_move_is_what_it_was_before_projection_of_itself():
    """The loop hands on length × direction as the step: of APGD all of the move, projected as it is."""
    clean = torch.full((1, 1, 1, 2), 0.5)
    with opened(
        Victim(nn.Flatten(), Classification(2)), clean, torch.tensor([0]), Threat(0.1), 0, None, targeted=False
    ) as case:
        stepper = AdaptiveWalk().begin(case, 0.2)
        values = torch.tensor([0.0])
        at = Situation(case, 0, 10, clean, Terms(values, None), values, _nowhere(case, clean))
        move: Move = stepper(torch.tensor([1.0, -1.0]).reshape(clean.shape), at)
        torch.testing.assert_close(clean + move.length * move.direction, move.variables)
        assert run_plan(APGD(steps=1).plan(case), case).candidate.image.shape == clean.shape
