"""Peers with a budget run on the oracle network, keep it and really attack, so that a comparison means something."""

from __future__ import annotations

import pytest
import torch
from oracles.peers import from_adv_lib, from_art, from_autoattack, from_foolbox, from_torchattacks
from oracles.peers.norms import POWER, sizes, start_at
from torch import Tensor, nn

STEPS = 6
LONG = {"linf": "Linf", "l2": "L2", "l1": "L1"}


CLIMBERS = {
    "torchattacks PGD": lambda m, x, y, e: from_torchattacks.pgd(
        m, x, y, start=start_at(x, e), eps=e, step_size=e / 4, steps=STEPS
    ),
    "torchattacks EOT-PGD": lambda m, x, y, e: from_torchattacks.eot_pgd(
        m, x, y, start=start_at(x, e), eps=e, step_size=e / 4, steps=STEPS, n=2
    ),
    "torchattacks TPGD": lambda m, x, y, e: from_torchattacks.tpgd(
        m, x, start=start_at(x, 0.003), eps=e, step_size=e / 4, steps=STEPS
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
    "torchattacks APGD": lambda m, x, y, e: from_torchattacks.apgd(m, x, y, start=start_at(x, e), eps=e, steps=STEPS),
    "torchattacks APGD-T": lambda m, x, y, e: from_torchattacks.apgd_targeted(m, x, y, eps=e, steps=STEPS, classes=5),
    "foolbox PGD": lambda m, x, y, e: from_foolbox.pgd(
        m, x, y, start=start_at(x, e), eps=e, step_size=e / 4, steps=STEPS
    ),
    "autoattack APGD-CE": lambda m, x, y, e: from_autoattack.apgd(m, x, y, start=start_at(x, e), eps=e, steps=STEPS),
    "autoattack APGD-DLR": lambda m, x, y, e: from_autoattack.apgd(
        m, x, y, start=start_at(x, e), eps=e, steps=STEPS, loss="dlr"
    ),
    "autoattack APGD towards": lambda m, x, y, e: from_autoattack.apgd_towards(
        m, x, y, second(m, x), start=start_at(x, e), eps=e, steps=STEPS
    ),
    "autoattack APGD standard": lambda m, x, y, e: from_autoattack.apgd_standard(m, x, y, eps=e, steps=STEPS),
    "autoattack APGD-T": lambda m, x, y, e: from_autoattack.apgd_targeted_standard(
        m, x, y, eps=e, steps=STEPS, classes=5
    ),
    "adv-lib APGD": lambda m, x, y, e: from_adv_lib.apgd(m, x, y, start=start_at(x, e), eps=e, steps=STEPS),
    "adv-lib APGD-T": lambda m, x, y, e: from_adv_lib.apgd_targeted(m, x, y, eps=e, steps=STEPS),
    "ART PGD": lambda m, x, y, e: from_art.pgd(m, x, y, eps=e, step_size=e / 4, steps=STEPS),
    "ART AutoPGD": lambda m, x, y, e: from_art.auto_pgd(m, x, y, eps=e, steps=STEPS),
}

QUERYING = {
    "torchattacks Square": lambda m, x, y, e: from_torchattacks.square(m, x, y, eps=e, queries=100),
    "torchattacks SPSA": lambda m, x, y, e: from_torchattacks.spsa(m, x, y, signs=directions(x), eps=e, rate=e / 3),
    "autoattack Square": lambda m, x, y, e: from_autoattack.square(m, x, y, eps=e, queries=100),
    "autoattack Square with CE": lambda m, x, y, e: from_autoattack.square(m, x, y, eps=e, queries=100, loss="ce"),
    "autoattack Square replayed": lambda m, x, y, e: from_autoattack.square_replayed(
        m, x, y, eps=e, queries=100, **squares(x, 100)
    ),
    "ART Square": lambda m, x, y, e: from_art.square(m, x, y, eps=e, queries=100),
}


def check_budget(images: Tensor, adversarial: Tensor, eps: float, norm: str) -> None:
    assert adversarial.shape == images.shape
    assert float(adversarial.min()) >= -1e-6
    assert float(adversarial.max()) <= 1 + 1e-6
    assert float(sizes(images, adversarial, norm).max()) <= eps * (1 + 1e-4)


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
        "corners": [(query % 3, query // 2 % 3) for query in range(count)],
        "signs": torch.randint(2, (count, channels, 1, 1), generator=generator) * 2.0 - 1,
    }


@pytest.mark.parametrize("name", CLIMBERS)
def test_linf_attacks_raise_the_loss_within_the_budget(untouched, name):
    images, truth = untouched.right(16)
    eps = untouched.eps["linf"]
    adversarial = CLIMBERS[name](untouched.model, images, truth, eps)
    check_budget(images, adversarial, eps, "linf")
    start = start_at(images, eps)
    if name == "torchattacks TPGD":  # away from the answers on the clean images, whatever the truth is
        answers, reached, noise = (untouched.model(x).log_softmax(1) for x in (images, adversarial, start))
        away = [nn.functional.kl_div(x, answers, log_target=True, reduction="batchmean") for x in (reached, noise)]
        assert away[0] > 1.5 * away[1]
    else:
        assert untouched.loss(adversarial, truth) > 1.5 * untouched.loss(start, truth)


@pytest.mark.parametrize(
    ("library", "norm"),
    [
        ("torchattacks PGD", "l2"),
        ("torchattacks APGD", "l2"),
        *((library, norm) for library in ("autoattack", "adv-lib", "foolbox", "ART") for norm in ("l2", "l1")),
    ],
)
def test_other_norms_raise_the_loss_within_the_budget(untouched, library, norm):
    images, truth = untouched.right(16)
    model, eps = untouched.model, untouched.eps[norm]
    start = start_at(images, eps, norm)
    size = {"eps": eps, "steps": STEPS}
    adversarial = {
        "torchattacks PGD": lambda: from_torchattacks.pgd_l2(
            model, images, truth, start=start, step_size=eps / 4, **size
        ),
        "torchattacks APGD": lambda: from_torchattacks.apgd(model, images, truth, start=start, norm="L2", **size),
        "autoattack": lambda: from_autoattack.apgd(model, images, truth, start=start, norm=LONG[norm], **size),
        "adv-lib": lambda: from_adv_lib.apgd(model, images, truth, start=start, norm=POWER[norm], **size),
        "foolbox": lambda: from_foolbox.pgd(model, images, truth, start=start, norm=norm, step_size=eps / 4, **size),
        "ART": lambda: from_art.pgd(model, images, truth, norm=norm, step_size=eps / 4, **size),
    }[library]()
    check_budget(images, adversarial, eps, norm)
    assert untouched.loss(adversarial, truth) > 1.5 * untouched.loss(start, truth)


@pytest.mark.parametrize("name", QUERYING)
def test_attacks_without_gradients_turn_more_than_noise_does(untouched, name):
    images, truth = untouched.right(16)
    eps = 5 * untouched.eps["linf"]
    adversarial = QUERYING[name](untouched.model, images, truth, eps)
    check_budget(images, adversarial, eps, "linf")
    by_noise = int(untouched.wrong(start_at(images, eps), truth).sum())
    assert int(untouched.wrong(adversarial, truth).sum()) >= by_noise + 3


@pytest.mark.parametrize("library", [from_torchattacks, from_autoattack], ids=["torchattacks", "autoattack"])
def test_square_in_l2_turns_more_than_noise_does(untouched, library):
    images, truth = untouched.right(16)
    eps = 4 * untouched.eps["l2"]
    adversarial = library.square(untouched.model, images, truth, eps=eps, queries=100, norm="L2")
    check_budget(images, adversarial, eps, "l2")
    by_noise = int(untouched.wrong(start_at(images, eps, "l2"), truth).sum())
    assert int(untouched.wrong(adversarial, truth).sum()) >= by_noise + 3


def test_autoattacks_apgd_leaves_a_middling_share_right(untouched):
    """What the budgets of `oracle_victim` are for: neither all nor nothing falls."""
    assert len(untouched.images) == 500
    assert untouched.accuracy(untouched.images) > 0.8
    for norm, eps in untouched.eps.items():
        attacked = from_autoattack.apgd_standard(
            untouched.model, untouched.images, untouched.truth, eps=eps, steps=10, norm=LONG[norm]
        )
        check_budget(untouched.images, attacked, eps, norm)
        assert 0.2 < untouched.accuracy(attacked) < 0.7, norm


@pytest.mark.slow
def test_the_whole_of_autoattack_turns_some(untouched):
    images, truth = untouched.right(6)
    eps = untouched.eps["linf"]
    attacked = from_autoattack.autoattack(untouched.model, images, truth, eps=eps, classes=5)
    check_budget(images, attacked, eps, "linf")
    assert bool(untouched.wrong(attacked, truth).any())


@pytest.mark.parametrize(("norm", "loss"), [("linf", "ce"), ("linf", "dlr"), ("l2", "ce")])
def test_torchattacks_and_autoattack_are_the_same_apgd(untouched, norm, loss):
    """So the starts handed in arrive, and either library can stand for the other."""
    images, truth = untouched.right(16)
    eps = untouched.eps[norm]
    options = {"start": start_at(images, eps, norm), "eps": eps, "steps": 20, "norm": LONG[norm], "loss": loss}
    first = from_torchattacks.apgd(untouched.model, images, truth, **options)
    second = from_autoattack.apgd(untouched.model, images, truth, **options)
    assert float((first - second).abs().max()) <= 1e-5


def test_torchattacks_and_foolbox_are_the_same_pgd(untouched):
    images, truth = untouched.right(16)
    eps = untouched.eps["linf"]
    options = {"start": start_at(images, eps), "eps": eps, "step_size": eps / 4, "steps": STEPS}
    first = from_torchattacks.pgd(untouched.model, images, truth, **options)
    assert float((first - from_foolbox.pgd(untouched.model, images, truth, **options)).abs().max()) <= 1e-5


def test_l1_projection_of_autoattack_is_the_nearest_point():
    """‖δ‖₁ ≤ 1 of (0.9, 0.6, 0) is (0.65, 0.35, 0); with at most 0.5 left of the first pixel, (0.5, 0.5, 0)."""
    delta = torch.tensor([[0.9, 0.6, 0.0], [0.9, 0.6, 0.0]])
    images = torch.tensor([[0.0, 0.0, 0.5], [0.5, 0.0, 0.5]])
    nearest = from_autoattack.l1_projection(images, delta, eps=1.0)
    assert torch.allclose(nearest, torch.tensor([[0.65, 0.35, 0.0], [0.5, 0.5, 0.0]]), atol=1e-6)
