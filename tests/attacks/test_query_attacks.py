"""What every attack that sees answers alone promises: its count of questions, its budget, and what it leaves alone."""

from __future__ import annotations

import pytest
import torch
from attacks.asked import KINDS, Counting, right, sizes, threat
from torch import Tensor, nn

from medrobust.attacks.estimated import NES, SPSA
from medrobust.attacks.hop_skip_jump import HopSkipJump
from medrobust.attacks.square import Square
from medrobust.black_box import BlackBox
from medrobust.errors import InputError
from medrobust.tasks import Classification
from medrobust.threat import Contrast, Threat

ATTACKS = {
    "square": Square(queries=30),
    "square restarts": Square(queries=12, restarts=2, rescale=False),
    "nes": NES(steps=3, directions=5, at_once=4),
    "spsa": SPSA(steps=3, directions=4, early_stop=False),
    "hopskipjump": HopSkipJump(queries=150, directions=20),
}
MEASURED = {"hopskipjump": 2}  # questions about what is handed in, which are not the search's; 1 for the others
MOST = {"square": 30, "square restarts": 23, "nes": 3 * 12, "spsa": 3 * 9, "hopskipjump": 150}


@pytest.fixture(params=ATTACKS)
def name(request) -> str:
    return request.param


@pytest.mark.parametrize("kind", KINDS)
def test_in_the_ball_within_the_budget_and_counted_exactly(kind, name):
    norm = ("linf", "l2")[(KINDS.index(kind) + list(ATTACKS).index(name)) % 2]
    victim, images, truth = right(kind)
    counting = Counting(victim)
    allowed = threat(kind, norm)
    result = ATTACKS[name](counting.victim, images, truth, allowed, seed=3)

    low, high = victim.bounds
    assert low <= float(result.adversarial.min()) <= float(result.adversarial.max()) <= high
    assert low <= counting.least <= counting.most <= high
    assert float((sizes(result.adversarial.double() - images.double(), norm)).max()) <= allowed.eps * (1 + 1e-5)
    outputs = victim(result.adversarial)
    assert torch.equal(result.success, victim.task.fooled(outputs, truth))
    assert int(result.queries.max()) <= MOST[name]
    assert int(result.queries.sum()) + MEASURED.get(name, 1) * len(images) == counting.asked


@pytest.mark.parametrize("kind", ["3 channels", "3-D", "segmentation ignored"])
def test_alone_in_another_batch_and_order(kind, name):
    victim, images, truth = right(kind)
    ids = [f"image {place}" for place in range(len(images))]
    allowed = threat(kind, "l2")
    whole = ATTACKS[name](victim, images, truth, allowed, seed=5, ids=ids)
    torch.manual_seed(99)
    order = list(reversed(range(len(ids))))
    turned = ATTACKS[name](victim, images[order], truth[order], allowed, seed=5, ids=[ids[k] for k in order])
    alone = [
        ATTACKS[name](victim, images[k : k + 1], truth[k : k + 1], allowed, seed=5, ids=[ids[k]]).adversarial
        for k in order
    ]
    for other in (turned.adversarial, torch.cat(alone)):
        near = (other - whole.adversarial[order]).abs() <= 1e-3 * allowed.eps
        assert float(near.double().mean()) > 0.97
    assert torch.equal(turned.queries, whole.queries[order])


def test_a_black_box_and_the_network_itself_give_the_same(name):
    victim, images, truth = right("1 channel")
    box = BlackBox(lambda shown: victim(shown), victim.task, victim.bounds)
    one, other = (ATTACKS[name](asked, images, truth, Threat(0.1)) for asked in (victim, box))
    assert torch.equal(one.adversarial, other.adversarial)
    assert torch.equal(one.queries, other.queries)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_what_is_wrong_already_is_left_as_it_is(norm, name):
    if name == "spsa":
        pytest.skip("it does not look before it steps: early_stop is off")
    victim, images, truth = right("1 channel")
    truth = truth.clone()
    truth[1] = (truth[1] + 1) % 4
    result = ATTACKS[name](victim, images, truth, Threat(0.05, norm))
    assert torch.equal(result.adversarial[1], images[1])
    assert result.success[1]
    assert result.queries[1] == 1
    assert bool((result.queries[[0, 2, 3]] > 1).all())


def test_eps_zero_returns_the_images(name):
    victim, images, truth = right("1 channel")
    for norm in ("linf", "l2"):
        assert torch.equal(ATTACKS[name](victim, images, truth, Threat(0, norm)).adversarial, images)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("kind", ["3 channels", "3-D", "HU"])
def test_a_mask_keeps_the_rest_also_in_what_is_asked(kind, norm, name):
    victim, images, truth = right(kind)
    mask = torch.zeros(images.shape[2:])
    mask[..., 1:4, 1:5] = 1
    seen = []

    def predict(shown: Tensor) -> Tensor:
        seen.append(shown)
        return victim(shown)

    box = BlackBox(predict, victim.task, victim.bounds)
    result = ATTACKS[name](box, images, truth, threat(kind, norm, mask=mask))
    kept = (mask == 0).expand(images.shape[1:])
    assert not bool((result.delta != 0)[:, kept].any())
    # every image that was asked about has the outside of one of those attacked
    outside = images[:, kept]
    for shown in seen:
        assert bool((shown[:, kept].unsqueeze(1) == outside).all(2).any(1).all())


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_on_the_grid_of_the_files(norm, name):
    victim, images, truth = right("1 channel")
    images = (images * 255).round() / 255
    result = ATTACKS[name](victim, images, truth, Threat(12 / 255, norm, quantum=1 / 255))
    steps = result.adversarial.double() * 255
    assert float((steps - steps.round()).abs().max()) < 1e-4


def test_a_radius_for_each_image(name):
    victim, images, truth = right("1 channel")
    eps = torch.tensor([0.0, 0.02, 0.05, 0.1])
    result = ATTACKS[name](victim, images, truth, Threat(eps))
    assert bool((sizes(result.delta, "linf") <= eps * (1 + 1e-5)).all())


def test_towards_a_target():
    victim, images, truth = right("1 channel")
    target = (truth + 1) % 4
    for attack in (Square(queries=60, targeted=True), NES(steps=5, targeted=True)):
        before = victim.task.loss(victim(images), target)
        result = attack(victim, images, target, Threat(0.3))
        assert torch.equal(result.success, victim(result.adversarial).argmax(1) == target)
        assert float((result.loss - before).mean()) < 0


def test_nothing_of_the_global_generator_or_the_model_is_touched(name):
    victim, images, truth = right("1 channel")
    state, weights = torch.get_rng_state(), {k: v.clone() for k, v in victim.model.state_dict().items()}
    ATTACKS[name](victim, images, truth, Threat(0.05))
    assert torch.equal(state, torch.get_rng_state())
    assert victim.model.training
    assert all(torch.equal(value, weights[key]) for key, value in victim.model.state_dict().items())


def test_an_empty_batch(name):
    victim, images, truth = right("1 channel")
    assert ATTACKS[name](victim, images[:0], truth[:0], Threat(0.05)).queries.shape == (0,)


@pytest.mark.parametrize("attack", ["square", "hopskipjump"])
@pytest.mark.parametrize("other", [Threat(0.1, "l1"), Contrast(0.1)])
def test_threats_that_it_cannot_search(attack, other):
    victim, images, truth = right("1 channel")
    with pytest.raises(InputError, match=f"is for changes within linf or l2, the threat is {other.norm}"):
        ATTACKS[attack](victim, images, truth, other)


@pytest.mark.parametrize("attack", ["nes", "spsa"])
@pytest.mark.parametrize("other", [Threat(1.0, "l1"), Contrast(0.3)])
def test_estimates_search_any_threat(attack, other):
    victim, images, truth = right("1 channel")
    result = ATTACKS[attack](BlackBox(victim.model, victim.task), images, truth, other)
    assert float(result.delta.abs().max()) > 0


def test_on_real_images_each_does_more_than_noise(trained, name):
    victim, images, truth = trained
    box = BlackBox(lambda shown: victim(shown), Classification(5, ordinal=True))
    attack = {
        "square": Square(queries=150),
        "square restarts": Square(queries=80, restarts=2),
        "nes": NES(steps=8),
        "spsa": SPSA(steps=6, directions=20),
        "hopskipjump": HopSkipJump(queries=400),
    }[name]
    allowed = Threat(2.0, "l2")
    fooled = attack(box, images, truth, allowed).success
    generator = torch.Generator().manual_seed(0)
    noise = nn.functional.normalize(torch.randn(images.shape, generator=generator).flatten(1)).view_as(images)
    by_noise = victim.task.fooled(victim((images + 2 * noise).clamp(0, 1)), truth)
    assert int(fooled.sum()) >= int(by_noise.sum()) + 4
