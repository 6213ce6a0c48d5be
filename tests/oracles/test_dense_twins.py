"""Attacks on masks against their authors' and adv-lib's code, and SEA's phases against a plain transcription.

SegPGD, CosPGD and DAG are the same points, from the same start. ASMA's step is another on purpose, so that only its
direction can be the same.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from oracles.peers import from_adv_lib, from_autoattack, from_cospgd
from oracles.peers.norms import sizes, start_at
from torch import Tensor, nn

from medrobust.attacks import ASMA, DAG, BalancedMaskedCrossEntropy, CosPGD, JensenShannon, MaskedCrossEntropy, SegPGD
from medrobust.attacks.case import opened
from medrobust.attacks.iterative import IterativeAttack
from medrobust.attacks.loop import run_plan
from medrobust.attacks.sea import ShrinkingAPGD, phases
from medrobust.errors import InputError
from medrobust.tasks import Segmentation
from medrobust.threat import Threat
from medrobust.victim import Victim


def shown(model: nn.Module, run: Callable[[], object]) -> list[Tensor]:
    """All that the network is given while `run` runs."""
    seen: list[Tensor] = []
    handle = model.register_forward_pre_hook(lambda module, given: seen.append(given[0].detach().clone()))
    try:
        run()
    finally:
        handle.remove()
    return seen


def ours(
    attack: IterativeAttack, victim: Victim, images: Tensor, truth: Tensor, threat: Threat, start: Tensor | None = None
) -> Tensor:
    with opened(victim, images, truth, threat, 0, None, targeted=attack.targeted) as case:
        return run_plan(attack.plan(case), case, start).candidate.image


@pytest.mark.parametrize("steps", [3, 10])
@pytest.mark.parametrize(
    ("attack", "theirs", "norm"),
    [
        (SegPGD, from_cospgd.seg_pgd, "linf"),
        (CosPGD, from_cospgd.cos_pgd, "linf"),
        (CosPGD, from_cospgd.cos_pgd_l2, "l2"),
    ],
    ids=["SegPGD", "CosPGD", "CosPGD L2"],
)
def test_every_image_is_where_the_authors_step_leads(oracle_segmenter, attack, theirs, norm, steps):
    oracle = oracle_segmenter
    images, truth, eps = oracle.images[:12], oracle.truth[:12], oracle.eps[norm] / 2
    start = start_at(images, eps, norm)
    found = ours(attack(steps=steps, step_size=eps / 5), oracle.victim, images, truth, Threat(eps, norm=norm), start)
    expected = theirs(oracle.model, images, truth, start=start, eps=eps, step_size=eps / 5, steps=steps)
    assert float(oracle.wrong(expected, truth).float().mean()) > 1.2 * float(oracle.wrong(start, truth).float().mean())
    assert float(sizes(start, expected, norm).min()) > eps / 5
    apart = (found - expected).abs().flatten(1).amax(1)
    assert float((apart <= 1e-5).float().mean()) >= 0.9
    assert float((found - expected).abs().gt(1e-5).float().mean()) < 1e-3


@pytest.mark.parametrize("attack", [SegPGD, CosPGD])
def test_a_pixel_of_unknown_truth_is_left_out(attack):
    """On purpose: cospgd has no ignore_index and takes such a pixel for a wrong one, or one of the last class.

    Of a model that answers each pixel by itself, no such pixel is changed.
    """
    torch.manual_seed(0)
    victim = Victim(nn.Conv2d(1, 3, 1), Segmentation(3, ignore_index=255))
    images, truth = 0.3 + 0.4 * torch.rand(2, 1, 4, 4), torch.randint(3, (2, 4, 4))
    truth[:, :2] = 255
    result = attack(steps=3, random_start=False)(victim, images, truth, Threat(0.1))
    assert float(result.delta[:, :, :2].abs().max()) == 0
    assert float(result.delta[:, :, 2:].abs().min()) > 0.05


@pytest.fixture
def in_the_middle(oracle_segmenter):
    """The network's images at half contrast, far from the bounds: adv-lib lets what is clipped grow on unseen."""
    return oracle_segmenter, 0.25 + oracle_segmenter.images[:6] / 2


def test_dag_goes_adv_libs_way(in_the_middle):
    oracle, images = in_the_middle
    with torch.no_grad():
        truth = oracle.model(images).argmax(1)
    steps, length = 12, 2 / 255
    attack = DAG(steps=steps, step_size=length)
    points = shown(oracle.model, lambda: ours(attack, oracle.victim, images, truth, Threat(1.0)))
    theirs = shown(
        oracle.model, lambda: from_adv_lib.dag(oracle.model, images, truth, step_size=length, steps=steps, share=1.0)
    )
    assert len(theirs) == steps
    assert float((theirs[-1] - images).abs().amax()) > 4 * length
    for mine, others in zip(points, theirs, strict=False):
        assert float((mine - others).abs().max()) <= 1e-5


def test_dag_keeps_within_a_ball_of_choice(in_the_middle):
    """On purpose: the paper's has none, and at its end, a share of wrong pixels. Ours has both, or the whole range."""
    oracle, images = in_the_middle
    with torch.no_grad():
        truth = oracle.model(images).argmax(1)
    result = DAG(steps=30, step_size=2 / 255)(oracle.victim, images, truth, Threat(3 / 255))
    assert float(result.delta.abs().max()) == pytest.approx(3 / 255, abs=1e-6)
    theirs = from_adv_lib.dag(oracle.model, images, truth, step_size=2 / 255, steps=30, share=0.2)
    assert float((theirs - images).abs().max()) > 4 / 255


def test_asma_starts_along_adv_libs_gradient(in_the_middle):
    """On purpose the length is another: adv-lib steps τ·∇, raw; ours a share of the budget along the same ∇."""
    oracle, images = in_the_middle
    wanted = oracle.truth[:6].roll(1, 0)
    for place in range(6):
        image, mask = images[place : place + 1], wanted[place : place + 1]
        theirs = shown(
            oracle.model,
            lambda image=image, mask=mask: from_adv_lib.asma(
                oracle.model, image, mask, steps=2, tau=1e-4, beta=0.0, share=0.99
            ),
        )
        attack = ASMA(steps=1, step_size=0.02, beta=0.0, tau=1.0)
        mine = ours(attack, oracle.victim, image, mask, Threat(1.0)) - image
        other = theirs[1] - image
        assert float(mine.abs().max()) == pytest.approx(0.02, rel=1e-4)
        assert float(F.cosine_similarity(mine.flatten(), other.flatten(), 0)) > 0.9999


def test_asma_reaches_as_much_of_the_mask_as_adv_libs(in_the_middle):
    """By effect, in the smallest L∞ ball that holds what adv-lib's made; its τ and β are raised here a lot."""
    oracle, images = in_the_middle
    wanted = oracle.truth[:6].roll(1, 0)

    def reached(changed: Tensor) -> float:
        return 1 - float(oracle.wrong(changed, wanted).float().mean())

    theirs = torch.cat(
        [
            from_adv_lib.asma(
                oracle.model,
                images[place : place + 1],
                wanted[place : place + 1],
                steps=60,
                tau=2e-4,
                beta=2e-3,
                share=0.99,
            )
            for place in range(6)
        ]
    )
    budget = float((theirs - images).abs().max())
    mine = ASMA(steps=60)(oracle.victim, images, wanted, Threat(budget)).adversarial
    assert reached(theirs) > reached(images) + 0.03
    assert reached(mine) >= reached(theirs) - 0.01


def masked(logits: Tensor, truth: Tensor) -> Tensor:
    """L_MCE of arXiv 2306.12941: the mean over all pixels of [argmax = y] · CE."""
    return (F.cross_entropy(logits, truth, reduction="none") * (logits.argmax(1) == truth)).flatten(1).mean(1)


def balanced(logits: Tensor, truth: Tensor) -> Tensor:
    """The same with the pixels of a class sharing one weight, class by class of an image's truth."""
    values = F.cross_entropy(logits, truth, reduction="none") * (logits.argmax(1) == truth)
    return torch.stack(
        [
            torch.stack([value[mask == k].mean() for k in mask.unique()]).mean()
            for value, mask in zip(values, truth, strict=True)
        ]
    )


def jensen_shannon(logits: Tensor, truth: Tensor) -> Tensor:
    """(KL(p ‖ m) + KL(e ‖ m))/2 with m = (p + e)/2 and e one-hot, its definition."""
    log_prediction, one_hot = logits.log_softmax(1), F.one_hot(truth, logits.shape[1]).movedim(-1, 1).to(logits)
    middle = ((log_prediction.exp() + one_hot) / 2).log()
    # KL(e ‖ m) is −ln m at the true class
    values = ((log_prediction.exp() * (log_prediction - middle)).sum(1) - (one_hot * middle).sum(1)) / 2
    return values.flatten(1).mean(1)


class _OnMasks(from_autoattack.APGDAttack):
    """The authors' APGD on a loss of masks: it takes `dlr_loss` for it, and the network's outputs as one row each.

    Its table of losses ends with the start's: see `test_apgd_twins`.
    """

    def __init__(self, model: nn.Module, truth: Tensor, loss: Callable[[Tensor, Tensor], Tensor], **options) -> None:
        super().__init__(lambda images: model(images).flatten(1), loss="dlr", logger=from_autoattack.LOGGER, **options)
        self.shape = (-1, 3, *truth.shape[1:])
        self.dlr_loss = lambda outputs, _: loss(outputs.reshape(self.shape), truth)

    def run(self, images: Tensor, start: Tensor) -> None:
        self.init_hyperparam(images)
        none = torch.zeros(len(images), dtype=torch.int64)
        with torch.no_grad():
            self.at_start = self.dlr_loss(self.model(start), none)
        self.attack_single_run(images, none, x_init=start)

    def check_oscillation(self, x: Tensor, j: int, k: int, y5: Tensor, k3: float = 0.75) -> Tensor:
        return super().check_oscillation(torch.cat([x, self.at_start[None]]), j, k, y5, k3)


LOSSES = {
    "masked": (MaskedCrossEntropy(), masked),
    "balanced": (BalancedMaskedCrossEntropy(), balanced),
    "js": (JensenShannon(), jensen_shannon),
}


@pytest.mark.parametrize("name", LOSSES)
def test_sea_is_apgd_through_three_balls(oracle_segmenter, name):
    """Each phase by the authors' APGD, in balls of 2, 1.5 and 1 eps over 3, 3 and 4 tenths of the steps.

    On purpose, what a phase goes on from and hands in is the worst by whether the mask is missed, then by the
    cross-entropy, as everywhere; the authors take the highest loss.
    """
    oracle = oracle_segmenter
    objective, plain = LOSSES[name]
    model = copy.deepcopy(oracle.model).double()  # faint gradients of certain pixels are all rounding in float32
    victim, images, truth = Victim(model, oracle.task), oracle.images[:10].double(), oracle.truth[:10]
    eps, steps = oracle.eps["linf"] / 2, 20
    attack = ShrinkingAPGD(steps=steps, loss=objective)
    results: list[Tensor] = []

    def run() -> None:
        results.append(attack(victim, images, truth, Threat(eps)).adversarial)

    start = shown(model, run)[0]
    assert float((start - images).abs().max()) > 1.5 * eps
    for radius, count in ((2.0, 6), (1.5, 6), (1.0, 8)):
        start = images + (start - images).clamp(-radius * eps, radius * eps)
        peer = _OnMasks(model, truth, plain, n_iter=count, norm="Linf", eps=radius * eps)
        points = shown(model, lambda peer=peer, start=start: peer.run(images, start))[1:]
        assert len(points) == count + 1
        start = _worst(victim, points, truth)
    apart = (results[0] - start).abs().flatten(1).amax(1)
    assert float((apart <= 1e-5).float().mean()) >= 0.8
    assert float((results[0] - start).abs().gt(1e-5).float().mean()) < 0.02


@torch.no_grad()
def _worst(victim: Victim, points: list[Tensor], truth: Tensor) -> Tensor:
    outputs = [victim(point) for point in points]
    loss = torch.stack([victim.task.loss(one, truth) for one in outputs])
    fooled = torch.stack([victim.task.fooled(one, truth) for one in outputs])
    place = (loss + 1e6 * fooled).argmax(0)
    return torch.stack(points)[place, torch.arange(len(truth))]


def test_the_phases_share_out_all_steps():
    assert phases(300) == (90, 90, 120)
    assert phases(20) == (6, 6, 8)
    assert phases(3) == (1, 1, 1)
    assert all(sum(phases(steps)) == steps and min(phases(steps)) >= 1 for steps in range(3, 40))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 2}, "steps must be a whole number of at least 3, got 2"),
        ({"radii": (2.0, 1.0)}, "radii must be three, in units of eps, and the last of them 1"),
        ({"radii": (3.0, 2.0, 1.5)}, "and the last of them 1"),
        ({"radii": (3.0, -2.0, 1.0)}, "radii must be a finite number above 0"),
    ],
)
def test_phases_that_cannot_be(options, message):
    with pytest.raises(InputError, match=message):
        ShrinkingAPGD(**options)
