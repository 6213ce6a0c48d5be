"""APGD against its authors' own code, from the same start: the points on which either evaluates the network.

Every point is compared by what the network was given, so nobody's bookkeeping is trusted. Two differences are on
purpose, and undone in the peer or left out of the comparison:

- Its table of losses lacks the start, so that at the first check the first step is compared with the table's last row,
  which is still 0 (index −1). A cross-entropy is above 0: there it counts as a rise. DLR of an image still right is
  below 0: there the first step never counts, however much it gained. Ours compares with the start.
- Where DLR is at its largest, 1, it has no gradient. The peer stands still, ours goes on a random way; no point of
  either can be better from there on.

In L1, it counts what rounding leaves of its projection as a change, and cuts a share of all values to a whole number
with rounding errors; ours counts what differs from the clean image. Here it is given a count without either.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from oracles.peers import from_autoattack as peer
from oracles.peers.draws import given
from oracles.peers.norms import sizes, start_at
from torch import Tensor, nn

from medrobust.attacks import APGD, APGDDLR, APGDT, DLR
from medrobust.attacks.apgd import AdaptiveWalk
from medrobust.attacks.apgd_l1 import SparseAdaptiveWalk
from medrobust.attacks.case import opened
from medrobust.attacks.loop import run_plan
from medrobust.attacks.losses import TargetedDLR
from medrobust.attacks.sea import ShrinkingAPGD
from medrobust.errors import InputError
from medrobust.tasks import Classification
from medrobust.threat import Threat
from medrobust.victim import Victim

LONG = {"linf": "Linf", "l2": "L2", "l1": "L1"}
Losses = Callable[[Tensor, Tensor], Tensor]


def cross_entropy(logits: Tensor, truth: Tensor) -> Tensor:
    return F.cross_entropy(logits, truth, reduction="none")


def dlr(logits: Tensor, truth: Tensor) -> Tensor:
    ordered = logits.sort(1, descending=True).values
    others = logits.scatter(1, truth[:, None], -torch.inf).amax(1)
    return (others - logits.gather(1, truth[:, None])[:, 0]) / (ordered[:, 0] - ordered[:, 2] + 1e-12)


class Corrected(peer.APGDAttack):
    """The authors' attack, whose table of losses ends with that of the start: where index −1 reads it."""

    def check_oscillation(self, x: Tensor, j: int, k: int, y5: Tensor, k3: float = 0.75) -> Tensor:
        return super().check_oscillation(torch.cat([x, self.at_start[None]]), j, k, y5, k3)


def corrected(
    model: nn.Module, images: Tensor, truth: Tensor, *, start: Tensor, eps: float, steps: int, norm: str, loss: str
) -> None:
    attack = Corrected(model, n_iter=steps, norm=norm, eps=eps, loss=loss, logger=peer.LOGGER)
    attack.init_hyperparam(images)
    with torch.no_grad():
        attack.at_start = {"ce": cross_entropy, "dlr": dlr}[loss](model.forward(start), truth)
    attack.attack_single_run(images, truth, x_init=start)


def shown(model: nn.Module, run: Callable[[], object]) -> Tensor:
    """(T + 1, B, C, H, W): all that the network is given while `run` runs."""
    seen: list[Tensor] = []
    handle = model.register_forward_pre_hook(lambda module, given: seen.append(given[0].detach().clone()))
    try:
        run()
    finally:
        handle.remove()
    return torch.stack(seen)


def walked(model: nn.Module, attack: APGD, images: Tensor, truth: Tensor, threat: Threat, start: Tensor) -> Tensor:
    """What the network is given by ours: the start, and every step; the last one is judged."""

    def run() -> None:
        victim = Victim(model, Classification(5))
        with opened(victim, images, truth, threat, 0, None, targeted=False) as case:
            run_plan(attack.plan(case), case, start)

    return shown(model, run)


@torch.no_grad()
def best(model: nn.Module, points: Tensor, truth: Tensor, loss: Losses) -> tuple[Tensor, Tensor]:
    """The point of the highest loss for each image, the first of equals, and that loss."""
    values = torch.stack([loss(model(point), truth) for point in points])
    value, place = values.max(0)
    return points[place, torch.arange(len(truth))], value


def share_alike(first: Tensor, second: Tensor) -> float:
    """Of images `(…, B, C, H, W)`, those that are the same to 1e-5 in all of the first axes."""
    apart = (first - second).abs().amax((-3, -2, -1))
    return float((apart.reshape(-1, apart.shape[-1]).amax(0) <= 1e-5).float().mean())


@pytest.mark.parametrize("steps", [10, 20, 50])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_on_the_cross_entropy_every_point_is_the_authors(untouched, norm, steps):
    model, (images, truth), eps = untouched.model, untouched.right(100), untouched.eps[norm]
    start = start_at(images, eps, norm)
    ours = walked(model, APGD(steps=steps, keep="last"), images, truth, Threat(eps, norm=norm), start)
    options = {"start": start, "eps": eps, "steps": steps, "norm": LONG[norm]}
    theirs = shown(model, lambda: peer.apgd(model, images, truth, **options))
    assert len(ours) == len(theirs) == steps + 1
    assert share_alike(ours, theirs) >= 0.97
    assert share_alike(best(model, ours, truth, cross_entropy)[0], peer.apgd(model, images, truth, **options)) >= 0.97


@pytest.mark.parametrize("steps", [10, 20, 50])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_on_dlr_every_best_point_is_the_authors(untouched, norm, steps):
    model, (images, truth), eps = untouched.model, untouched.right(100), untouched.eps[norm]
    start = start_at(images, eps, norm)
    ours = walked(model, APGDDLR(steps=steps, keep="last"), images, truth, Threat(eps, norm=norm), start)
    options = {"start": start, "eps": eps, "steps": steps, "norm": LONG[norm], "loss": "dlr"}
    theirs = shown(model, lambda: corrected(model, images, truth, **options))
    (our_best, value), (their_best, _) = best(model, ours, truth, dlr), best(model, theirs, truth, dlr)
    assert share_alike(our_best, their_best) >= 0.97
    # all the way, where DLR was never at its largest
    below = value < 1 - 1e-4
    assert int(below.sum()) >= 70
    assert share_alike(ours[:, below], theirs[:, below]) >= 0.97


def test_the_first_step_counts_at_the_first_check(untouched):
    """On purpose: as the authors' code has it, two steps that both rise are at most one, and 2·eps is halved for all.

    With 10 steps the first check is after two. Nearly all images gain twice on DLR, and ours goes on at full length.
    """
    model, (images, truth), eps = untouched.model, untouched.right(100), untouched.eps["l2"]
    start = start_at(images, eps, "l2")
    ours = walked(model, APGDDLR(steps=10, keep="last"), images, truth, Threat(eps, norm="l2"), start)
    options = {"start": start, "eps": eps, "steps": 10, "norm": "L2", "loss": "dlr"}
    theirs = shown(model, lambda: peer.apgd(model, images, truth, **options))
    assert share_alike(ours[:3], theirs[:3]) == 1
    with torch.no_grad():
        values = torch.stack([dlr(model(point), truth) for point in ours[:3]])
    rising = (values[1] > values[0]) & (values[2] > values[1])
    right, below = values[1] < 0, values[2] < 1 - 1e-4
    assert int((rising & right).sum()) >= 20
    assert share_alike(ours[3][rising & right], theirs[3][rising & right]) == 0
    # above 0 after the first step, it counts for both
    assert int((rising & ~right & below).sum()) >= 10
    assert share_alike(ours[3][rising & ~right & below], theirs[3][rising & ~right & below]) == 1


def test_towards_chosen_classes(untouched):
    model, (images, truth), eps = untouched.model, untouched.right(100), untouched.eps["linf"]
    start = start_at(images, eps)
    with torch.no_grad():
        wanted = model(images).argsort(1, descending=True)[:, 2]

    def towards(logits: Tensor, truth: Tensor) -> Tensor:
        ordered = logits.sort(1, descending=True).values
        chosen, true = (logits.gather(1, classes[:, None])[:, 0] for classes in (wanted, truth))
        return (chosen - true) / (ordered[:, 0] - ordered[:, 2:4].mean(1) + 1e-12)

    # 50 steps: the peer's first check reads 0 for the loss of the start, which matters the less the more there are
    attack = APGD(steps=50, keep="last", loss=TargetedDLR(wanted))
    ours = best(model, walked(model, attack, images, truth, Threat(eps), start), truth, towards)[1]
    theirs = peer.apgd_towards(model, images, truth, wanted, start=start, eps=eps, steps=50)
    with torch.no_grad():
        theirs = towards(model(theirs), truth)
    assert float((ours - theirs).abs().median()) < 1e-4
    assert float(ours.mean()) > float(theirs.mean()) - 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_apgd_t_leaves_no_more_right_than_the_authors(untouched, norm):
    model, images, truth, eps = untouched.model, untouched.images, untouched.truth, untouched.eps[norm]
    theirs = peer.apgd_targeted_standard(model, images, truth, eps=eps, steps=20, classes=5, norm=LONG[norm])
    ours = APGDT(steps=20)(untouched.victim, images, truth, Threat(eps, norm=norm)).adversarial
    assert float(sizes(images, ours, norm).max()) <= eps * (1 + 1e-5)
    assert 0.2 < untouched.accuracy(theirs) < 0.7
    assert untouched.accuracy(ours) <= untouched.accuracy(theirs) + 0.01


@pytest.fixture
def precise(untouched) -> tuple[nn.Module, Tensor, Tensor]:
    images, truth = untouched.right(60)
    return copy.deepcopy(untouched.model).double(), images.double(), truth


@pytest.mark.parametrize("steps", [10, 20, 50])
@pytest.mark.parametrize("changed", [1.0, 0.06], ids=["all values changed", "few values changed"])
def test_in_l1_nearly_every_point_is_the_authors(precise, untouched, monkeypatch, steps, changed):
    (model, images, truth), eps = precise, untouched.eps["l1"]
    start = start_at(images, eps, "l1")
    noise = start - images
    least = noise.flatten(1).abs().quantile(1 - changed, 1).view(-1, 1, 1, 1)
    start = images + torch.where(noise.abs() >= least, noise, 0)
    ours = walked(model, APGD(steps=steps, keep="last"), images, truth, Threat(eps, norm="l1"), start)
    monkeypatch.setattr(
        "pyautoattack.autopgd_base.L0_norm", lambda delta: (delta.abs() > 1e-6).flatten(1).sum(1).double() - 1e-6
    )
    attack = peer.APGDAttack(model, n_iter=steps, norm="L1", eps=eps, loss="ce", logger=peer.LOGGER)
    attack.init_hyperparam(images)

    def run() -> None:
        if changed == 1:  # its own draw, after which it begins with a fifth of the values
            with given("randn", [noise]):
                attack.attack_single_run(images, truth)
        else:
            attack.attack_single_run(images, truth, x_init=start)

    theirs = shown(model, run)
    assert share_alike(ours, theirs) >= 0.85
    (_, value), (_, reached) = best(model, ours, truth, cross_entropy), best(model, theirs, truth, cross_entropy)
    assert float(((value - reached).abs() <= 1e-4).double().mean()) >= 0.94
    assert float(value.mean()) == pytest.approx(float(reached.mean()), abs=0.01)


@pytest.mark.slow
def test_in_l1_it_leaves_no_more_right_than_the_authors(untouched):
    """Theirs goes through balls of 3, 2 and 1 eps, and so does ours when it is told to."""
    model, (images, truth), threat = untouched.model, untouched.right(150), Threat(untouched.eps["l1"], norm="l1")
    theirs = peer.apgd_standard(model, images, truth, eps=threat.eps, steps=30, norm="L1")
    broken = int(untouched.wrong(theirs, truth).sum())
    assert 30 < broken < 120
    for attack, fewer in ((ShrinkingAPGD(steps=30, radii=(3.0, 2.0, 1.0)), 2), (APGD(steps=30), 4)):
        ours = attack(untouched.victim, images, truth, threat).adversarial
        assert float(sizes(images, ours, "l1").max()) <= threat.eps * (1 + 1e-5)
        assert int(untouched.wrong(ours, truth).sum()) >= broken - fewer


def test_in_l1_the_walk_is_the_sparse_one_unless_another_is_given(untouched):
    images, truth = untouched.right(2)
    for attack, norm, rule, share in (
        (APGD(), "l1", SparseAdaptiveWalk, 1),
        (APGD(step=AdaptiveWalk()), "l1", AdaptiveWalk, 2),
        (APGD(), "l2", AdaptiveWalk, 2),
    ):
        with opened(untouched.victim, images, truth, Threat(0.5, norm=norm), 0, None, targeted=False) as case:
            plan = attack.plan(case)
        assert isinstance(plan.step, rule)
        assert plan.step_size == 0.5 * share
    with pytest.raises(InputError, match="sparse adaptive steps are for changes within l1, the threat is linf"):
        APGD(step=SparseAdaptiveWalk())(untouched.victim, images, truth, Threat(0.1))


def test_the_best_point_is_a_fooled_one_first(untouched):
    """On purpose: the authors keep the highest loss, by DLR; ours hands in, of the wrong ones, the highest CE."""
    model, (images, truth), eps = untouched.model, untouched.right(60), untouched.eps["linf"]
    start = start_at(images, eps)
    threat, attack = Threat(eps), APGD(steps=10, loss=DLR())
    points = walked(model, APGD(steps=10, loss=DLR(), keep="last"), images, truth, threat, start)
    with opened(untouched.victim, images, truth, threat, 0, None, targeted=False) as case:
        found = run_plan(attack.plan(case), case, start).candidate
    with torch.no_grad():
        wrong = torch.stack([model(point).argmax(1) != truth for point in points])
        values = torch.stack([cross_entropy(model(point), truth) for point in points])
    assert torch.equal(found.success, wrong.any(0))
    expected = torch.where(wrong.any(0), torch.where(wrong, values, -torch.inf).amax(0), values.amax(0))
    torch.testing.assert_close(found.loss, expected)
