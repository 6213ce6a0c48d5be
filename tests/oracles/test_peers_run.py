"""Every peer runs on the oracle networks, keeps its budget and really attacks, so that a comparison with it means something."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from oracles.peers import from_adv_lib, from_art, from_autoattack, from_cospgd, from_foolbox, from_torchattacks
from oracles.peers.draws import given, given_in_place, seeded

STEPS = 6
SLACK = 1e-4  # of a norm, relative
POWER = {"linf": float("inf"), "l2": 2.0, "l1": 1.0}
LONG = {"linf": "Linf", "l2": "L2", "l1": "L1"}


@pytest.fixture(scope="module")
def few(oracle_victim):
    images, truth = oracle_victim.right(16)
    return oracle_victim.model, images, truth


@pytest.fixture(autouse=True)
def _network_left_as_it_was(few):
    model, images, _ = few
    before = model(images)
    yield
    assert not any(module.training for module in model.modules())
    assert torch.equal(model(images), before)


def random_start(images: Tensor, eps: float, norm: str = "linf") -> Tensor:
    """On the sphere of the radius eps, where no pixel leaves [0, 1] (so that the peers do not clip it)."""
    generator = torch.Generator().manual_seed(3)
    noise = torch.rand(images.shape, generator=generator)
    noise = torch.where(images < 0.5, noise, -noise)
    length = noise.flatten(1).norm(p=POWER[norm], dim=1).view(-1, 1, 1, 1)
    return images + noise * eps / length


def sized(images: Tensor, adversarial: Tensor, norm: str) -> Tensor:
    return (adversarial - images).flatten(1).norm(p=POWER[norm], dim=1)


def loss_of(model: nn.Module, images: Tensor, truth: Tensor) -> Tensor:
    with torch.no_grad():
        return nn.functional.cross_entropy(model(images), truth, reduction="none")


def check_budget(images: Tensor, adversarial: Tensor, eps: float, norm: str) -> None:
    assert adversarial.shape == images.shape
    assert bool(((adversarial >= 0) & (adversarial <= 1)).all())
    assert float(sized(images, adversarial, norm).max()) <= eps * (1 + SLACK)


CLIMBERS = {
    "torchattacks PGD": lambda m, x, y, e: from_torchattacks.pgd(
        m, x, y, start=random_start(x, e), eps=e, step_size=e / 4, steps=STEPS
    ),
    "torchattacks EOT-PGD": lambda m, x, y, e: from_torchattacks.eot_pgd(
        m, x, y, start=random_start(x, e), eps=e, step_size=e / 4, steps=STEPS, n=2
    ),
    "torchattacks TPGD": lambda m, x, y, e: from_torchattacks.tpgd(
        m, x, start=random_start(x, 0.003), eps=e, step_size=e / 4, steps=STEPS
    ),
    "torchattacks UPGD": lambda m, x, y, e: from_torchattacks.upgd(
        m, x, y, eps=e, step_size=e / 4, steps=STEPS, loss="dlr", decay=1.0
    ),
    "torchattacks MI": lambda m, x, y, e: from_torchattacks.mi_fgsm(m, x, y, eps=e, step_size=e / 4, steps=STEPS),
    "torchattacks NI": lambda m, x, y, e: from_torchattacks.ni_fgsm(m, x, y, eps=e, step_size=e / 4, steps=STEPS),
    "torchattacks SI-NI": lambda m, x, y, e: from_torchattacks.si_ni_fgsm(m, x, y, eps=e, step_size=e / 4, steps=STEPS),
    "torchattacks DI off": lambda m, x, y, e: from_torchattacks.di_fgsm(m, x, y, eps=e, step_size=e / 4, steps=STEPS),
    "torchattacks DI": lambda m, x, y, e: from_torchattacks.di_fgsm(
        m, x, y, eps=e, step_size=e / 4, steps=STEPS, places=[(22, 1, 0), (23, 0, 0), (21, 2, 1)] * 2
    ),
    "torchattacks TI": lambda m, x, y, e: from_torchattacks.ti_fgsm(
        m, x, y, eps=e, step_size=e / 4, steps=STEPS, side=5
    ),
    "torchattacks VMI": lambda m, x, y, e: from_torchattacks.vmi_fgsm(
        m, x, y, noise=neighbours(x, e), eps=e, step_size=e / 4
    ),
    "torchattacks VNI": lambda m, x, y, e: from_torchattacks.vni_fgsm(
        m, x, y, noise=neighbours(x, e), eps=e, step_size=e / 4
    ),
    "torchattacks PI": lambda m, x, y, e: from_torchattacks.pi_fgsm(m, x, y, eps=e, steps=STEPS, amplification=2.5),
    "torchattacks APGD": lambda m, x, y, e: from_torchattacks.apgd(
        m, x, y, start=random_start(x, e), eps=e, steps=STEPS
    ),
    "torchattacks APGD-T": lambda m, x, y, e: from_torchattacks.apgd_targeted(m, x, y, eps=e, steps=STEPS, classes=5),
    "torchattacks Square": lambda m, x, y, e: from_torchattacks.square(m, x, y, eps=e, queries=60),
    "torchattacks SPSA": lambda m, x, y, e: from_torchattacks.spsa(m, x, y, signs=directions(x), eps=e),
    "foolbox PGD": lambda m, x, y, e: from_foolbox.pgd(
        m, x, y, start=random_start(x, e), eps=e, step_size=e / 4, steps=STEPS
    ),
    "autoattack APGD-CE": lambda m, x, y, e: from_autoattack.apgd(
        m, x, y, start=random_start(x, e), eps=e, steps=STEPS
    ),
    "autoattack APGD-DLR": lambda m, x, y, e: from_autoattack.apgd(
        m, x, y, start=random_start(x, e), eps=e, steps=STEPS, loss="dlr"
    ),
    "autoattack APGD towards": lambda m, x, y, e: from_autoattack.apgd_towards(
        m, x, y, second(m, x), start=random_start(x, e), eps=e, steps=STEPS
    ),
    "autoattack APGD standard": lambda m, x, y, e: from_autoattack.apgd_standard(m, x, y, eps=e, steps=STEPS),
    "autoattack APGD-T": lambda m, x, y, e: from_autoattack.apgd_targeted_standard(
        m, x, y, eps=e, steps=STEPS, classes=5
    ),
    "autoattack Square": lambda m, x, y, e: from_autoattack.square(m, x, y, eps=e, queries=60),
    "autoattack Square replayed": lambda m, x, y, e: from_autoattack.square_replayed(
        m, x, y, eps=e, queries=40, **squares(x, 40)
    ),
    "adv-lib APGD": lambda m, x, y, e: from_adv_lib.apgd(m, x, y, start=random_start(x, e), eps=e, steps=STEPS),
    "adv-lib APGD-T": lambda m, x, y, e: from_adv_lib.apgd_targeted(m, x, y, eps=e, steps=STEPS),
    "ART PGD": lambda m, x, y, e: from_art.pgd(m, x, y, eps=e, step_size=e / 4, steps=STEPS),
    "ART AutoPGD": lambda m, x, y, e: from_art.auto_pgd(m, x, y, eps=e, steps=STEPS),
    "ART Square": lambda m, x, y, e: from_art.square(m, x, y, eps=e, queries=60),
}

CLIMBERS_L2 = {
    "torchattacks PGD": lambda m, x, y, e: from_torchattacks.pgd_l2(
        m, x, y, start=random_start(x, e, "l2"), eps=e, step_size=e / 4, steps=STEPS
    ),
    "torchattacks APGD": lambda m, x, y, e: from_torchattacks.apgd(
        m, x, y, start=random_start(x, e, "l2"), eps=e, steps=STEPS, norm="L2"
    ),
    "torchattacks Square": lambda m, x, y, e: from_torchattacks.square(m, x, y, eps=e, queries=60, norm="L2"),
    "autoattack Square": lambda m, x, y, e: from_autoattack.square(m, x, y, eps=e, queries=60, norm="L2"),
}

NEAREST = {
    "torchattacks FAB linf": lambda m, x, y: from_torchattacks.fab(m, x, y, steps=10),
    "torchattacks C&W l2": lambda m, x, y: from_torchattacks.carlini_l2(m, x, y, c=5.0, steps=60, rate=0.02),
    "torchattacks DeepFool l2": lambda m, x, y: from_torchattacks.deepfool(m, x, y, steps=20),
    "foolbox DDN l2": lambda m, x, y: from_foolbox.ddn(m, x, y, steps=20),
    "foolbox FMN linf": lambda m, x, y: from_foolbox.fmn(m, x, y, steps=20, norm="linf"),
    "foolbox FMN l2": lambda m, x, y: from_foolbox.fmn(m, x, y, steps=20, norm="l2"),
    "foolbox FMN l1": lambda m, x, y: from_foolbox.fmn(m, x, y, steps=20, norm="l1"),
    "foolbox C&W l2": lambda m, x, y: from_foolbox.carlini_l2(m, x, y, searches=3, steps=40, c=1.0, rate=0.02),
    "foolbox DeepFool l2": lambda m, x, y: from_foolbox.deepfool(m, x, y, steps=20),
    "foolbox DeepFool linf": lambda m, x, y: from_foolbox.deepfool(m, x, y, steps=20, norm="linf"),
    "autoattack FAB linf": lambda m, x, y: from_autoattack.fab(m, x, y, steps=10),
    "autoattack FAB l2": lambda m, x, y: from_autoattack.fab(m, x, y, steps=10, norm="L2"),
    "autoattack FAB l1": lambda m, x, y: from_autoattack.fab(m, x, y, steps=10, norm="L1"),
    "autoattack FAB-T linf": lambda m, x, y: from_autoattack.fab_towards(m, x, y, rank=2, steps=20),
    "adv-lib FAB linf": lambda m, x, y: from_adv_lib.fab(m, x, y, steps=10),
    "adv-lib FAB-T l2": lambda m, x, y: from_adv_lib.fab(m, x, y, steps=10, norm=2, targeted=True),
    "adv-lib DDN l2": lambda m, x, y: from_adv_lib.ddn(m, x, y, steps=20),
    "adv-lib FMN linf": lambda m, x, y: from_adv_lib.fmn(m, x, y, steps=20),
    "adv-lib FMN l2": lambda m, x, y: from_adv_lib.fmn(m, x, y, steps=20, norm=2),
    "adv-lib C&W l2": lambda m, x, y: from_adv_lib.carlini_l2(m, x, y, searches=3, steps=40, c=1.0, rate=0.02),
    "adv-lib DeepFool l2": lambda m, x, y: from_adv_lib.deepfool(m, x, y, steps=20),
    "ART DeepFool l2": lambda m, x, y: from_art.deepfool(m, x, y, steps=20),
    "ART C&W l2": lambda m, x, y: from_art.carlini_l2(m, x, y, searches=3, steps=10, c=1.0),
}


def neighbours(images: Tensor, eps: float) -> Tensor:
    return (torch.rand(STEPS, 3, *images.shape, generator=torch.Generator().manual_seed(1)) * 2 - 1) * 1.5 * eps


def directions(images: Tensor) -> Tensor:
    return torch.randint(2, (STEPS, 48, 1, *images.shape[1:]), generator=torch.Generator().manual_seed(1)) * 2.0 - 1


def second(model: nn.Module, images: Tensor) -> Tensor:
    return model(images).argsort(1)[:, -2]


def squares(images: Tensor, count: int) -> dict[str, object]:
    generator = torch.Generator().manual_seed(1)
    channels, width = images.shape[1], images.shape[3]
    return {
        "stripes": torch.randint(2, (len(images), channels, 1, width), generator=generator) * 2.0 - 1,
        "corners": [(0, 0)] * 10 + [(query % 12, query // 2 % 12) for query in range(count - 10)],
        "signs": torch.randint(2, (count, channels, 1, 1), generator=generator) * 2.0 - 1,
    }


@pytest.mark.parametrize("name", CLIMBERS)
def test_linf_attacks_keep_the_budget_and_raise_the_loss(oracle_victim, few, name):
    model, images, truth = few
    eps = oracle_victim.eps["linf"]
    adversarial = CLIMBERS[name](model, images, truth, eps)
    check_budget(images, adversarial, eps, "linf")
    noisy = loss_of(model, random_start(images, eps), truth)
    assert float(loss_of(model, adversarial, truth).mean()) > float(noisy.mean()) + 0.1


@pytest.mark.parametrize("name", CLIMBERS_L2)
def test_l2_attacks_keep_the_budget_and_raise_the_loss(oracle_victim, few, name):
    model, images, truth = few
    eps = oracle_victim.eps["l2"]
    adversarial = CLIMBERS_L2[name](model, images, truth, eps)
    check_budget(images, adversarial, eps, "l2")
    assert float(loss_of(model, adversarial, truth).mean()) > float(loss_of(model, images, truth).mean()) + 0.1


@pytest.mark.parametrize("norm", ["l2", "l1"])
@pytest.mark.parametrize("library", ["autoattack APGD", "adv-lib APGD", "foolbox PGD", "ART PGD"])
def test_other_norms_keep_the_budget_and_raise_the_loss(oracle_victim, few, library, norm):
    model, images, truth = few
    eps = oracle_victim.eps[norm]
    start = random_start(images, eps, norm)
    size = {"eps": eps, "steps": STEPS}
    adversarial = {
        "autoattack APGD": lambda: from_autoattack.apgd(model, images, truth, start=start, norm=LONG[norm], **size),
        "adv-lib APGD": lambda: from_adv_lib.apgd(model, images, truth, start=start, norm=POWER[norm], **size),
        "foolbox PGD": lambda: from_foolbox.pgd(
            model, images, truth, start=start, norm=norm, step_size=eps / 4, **size
        ),
        "ART PGD": lambda: from_art.pgd(model, images, truth, norm=norm, step_size=eps / 4, **size),
    }[library]()
    check_budget(images, adversarial, eps, norm)
    assert float(loss_of(model, adversarial, truth).mean()) > float(loss_of(model, start, truth).mean()) + 0.1


@pytest.mark.parametrize("name", NEAREST)
def test_nearest_attacks_find_wrong_points_close_by(few, name):
    model, images, truth = few
    adversarial = NEAREST[name](model, images, truth)
    wrong = model(adversarial).argmax(1) != truth
    assert float(wrong.float().mean()) >= 0.75
    # a step along the gradient's sign that turns the same images is no nearer than twice what the peer found
    norm = name.rsplit(" ", 1)[1]
    assert float(sized(images, adversarial, norm)[wrong].median()) < {"linf": 0.1, "l2": 1.5, "l1": 15.0}[norm]


@pytest.mark.parametrize("peer", [from_foolbox.hop_skip_jump, from_art.hop_skip_jump], ids=["foolbox", "ART"])
def test_hop_skip_jump_comes_nearer_and_stays_wrong(few, peer):
    model, images, truth = few
    images, truth = images[:3], truth[:3]
    start = torch.rand(images.shape, generator=torch.Generator().manual_seed(0))
    keep = model(start).argmax(1) != truth
    images, truth, start = images[keep], truth[keep], start[keep]
    assert len(images), "no start is wrong"
    adversarial = peer(model, images, truth, start=start, steps=3, queries=50)
    assert bool((model(adversarial).argmax(1) != truth).all())
    assert float((sized(images, adversarial, "l2") / sized(images, start, "l2")).max()) < 0.5


def test_arts_universal_perturbation_fools_many_with_one_change(oracle_victim, few):
    model, images, truth = few
    eps = 4 * oracle_victim.eps["linf"]
    delta = from_art.universal(model, images, truth, eps=eps, rounds=1, share=0.5)
    assert delta.shape == (1, *images.shape[1:])
    assert float(delta.abs().max()) <= eps * (1 + SLACK)
    assert float((model((images + delta).clamp(0, 1)).argmax(1) != truth).float().mean()) >= 0.25


def test_autoattack_leaves_a_middling_share_right(oracle_victim):
    """What the budgets of `oracle_victim` are for: neither all nor nothing falls."""
    victim = oracle_victim
    assert len(victim.images) == 500
    assert victim.accuracy(victim.images) > 0.85
    for norm, eps in victim.eps.items():
        attacked = from_autoattack.apgd_standard(
            victim.model, victim.images, victim.truth, eps=eps, steps=10, norm=LONG[norm]
        )
        check_budget(victim.images, attacked, eps, norm)
        assert 0.2 < victim.accuracy(attacked) < 0.7, norm


@pytest.mark.slow
def test_the_whole_of_autoattack_runs(oracle_victim, few):
    model, images, truth = few
    eps = oracle_victim.eps["linf"]
    attacked = from_autoattack.autoattack(model, images, truth, eps=eps, classes=5)
    check_budget(images, attacked, eps, "linf")
    assert float((model(attacked).argmax(1) == truth).float().mean()) < 0.8


@pytest.mark.parametrize("peer", [from_cospgd.seg_pgd, from_cospgd.cos_pgd, from_cospgd.cos_pgd_l2])
def test_dense_attacks_keep_the_budget_and_turn_pixels(oracle_segmenter, peer):
    segmenter = oracle_segmenter
    norm = "l2" if peer is from_cospgd.cos_pgd_l2 else "linf"
    eps = segmenter.eps[norm]
    images, truth = segmenter.images, segmenter.truth
    start = random_start(images, eps, norm)
    adversarial = peer(segmenter.model, images, truth, start=start, eps=eps, step_size=eps / 4, steps=STEPS)
    check_budget(images, adversarial, eps, norm)
    assert segmenter.accuracy(adversarial) < min(segmenter.accuracy(images), segmenter.accuracy(start)) - 0.05


def test_adv_libs_dense_attacks_turn_pixels(oracle_segmenter):
    segmenter = oracle_segmenter
    model, images, truth = segmenter.model, segmenter.images, segmenter.truth
    clean = segmenter.accuracy(images)
    dense = from_adv_lib.dag(model, images, truth, step_size=4 / 255, steps=30, share=0.2)
    assert segmenter.accuracy(dense) < clean - 0.1
    smallest = from_adv_lib.pdgd(model, images, truth, steps=30, share=0.2)
    assert segmenter.accuracy(smallest) < clean - 0.05
    wanted = truth.roll(3, dims=1)
    moved = from_adv_lib.asma(model, images[:1], wanted[:1], steps=30, tau=1e-4, beta=1e-3, share=0.99)
    hits = [float((model(points).argmax(1) == wanted[:1]).float().mean()) for points in (images[:1], moved)]
    assert hits[1] > hits[0] + 0.02


def test_l1_projection_of_autoattack_is_the_nearest_point():
    """‖δ‖₁ ≤ 1 of (0.9, 0.6, 0) is (0.65, 0.35, 0); with at most 0.5 left of the first pixel, (0.5, 0.5, 0)."""
    delta = torch.tensor([[0.9, 0.6, 0.0], [0.9, 0.6, 0.0]])
    images = torch.tensor([[0.0, 0.0, 0.5], [0.5, 0.0, 0.5]])
    nearest = from_autoattack.l1_projection(images, delta, eps=1.0)
    assert torch.allclose(nearest, torch.tensor([[0.65, 0.35, 0.0], [0.5, 0.5, 0.0]]), atol=1e-6)


def test_replaced_draws_are_given_once_and_all():
    with given_in_place("uniform_", [torch.tensor([3.0])]):
        assert float(torch.empty(1).uniform_(-1, 1)) == 3.0
    with pytest.raises(AssertionError, match="left 2 of the given draws of rand unused"), given("rand", [1, 2, 3]):
        torch.rand(1)
    assert 0 <= float(torch.empty(1).uniform_()) <= 1


def test_seeded_leaves_the_generators_as_they_were():
    before = torch.random.get_rng_state()
    with seeded(4):
        first = torch.rand(1)
    with seeded(4):
        assert torch.equal(torch.rand(1), first)
    assert torch.equal(torch.random.get_rng_state(), before)
