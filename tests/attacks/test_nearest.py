"""Minimum-norm attacks: distances worked by hand, one search for all budgets, and what every attack promises."""

from __future__ import annotations

import math

import pytest
import torch
from attacks.test_contract import CASES, Unmoved, assert_same_state, build, state
from torch import Tensor, nn

from medrobust.attacks.carlini_wagner import CarliniWagner
from medrobust.attacks.ddn import DDN
from medrobust.attacks.deepfool import DeepFool
from medrobust.attacks.fab import FAB
from medrobust.attacks.fmn import FMN
from medrobust.attacks.nearest import NearestAttack
from medrobust.errors import InputError
from medrobust.tasks import Classification
from medrobust.threat import Contrast, Threat
from medrobust.victim import Victim

NORMS = ("l2", "linf", "l1")
QUICK = {
    "deepfool": DeepFool(steps=10),
    "ddn": DDN(steps=8),
    "fmn": FMN(steps=8),
    "carlini": CarliniWagner(searches=2, steps=6, rate=0.05, c=1.0),
    "fab": FAB(steps=4),
    "fab-t": FAB(steps=3, targets=2),
}
THOROUGH = {
    "deepfool": DeepFool(),
    "ddn": DDN(steps=100),
    "fmn": FMN(steps=100),
    "carlini": CarliniWagner(),
    "fab": FAB(steps=30),
    "fab-t": FAB(steps=30, targets=3),
}
# DDN climbs the cross-entropy, which pulls to all the wrong answers at once: not exact where there are several
SEVERAL = {"ddn": 1.45}
# of a victim of one answer per image
PAIRS = [(name, norm) for name, attack in QUICK.items() for norm in NORMS if norm in attack.norms]
# the others are in the contract suite
TELLING = ("3 channels", "3-D", "multi-label unknown", "HU", "float16 images")
# of the flat volume all answers are empty masks, which no gradient leads away from
DENSE = [kind for kind in CASES if CASES[kind].task.dense and kind != "flat volume"]


class Plane(nn.Module):
    """Two pixels a, b → logits of them: `weights` (K, 2) and `biases` (K,)."""

    def __init__(self, weights: list[list[float]], biases: list[float]) -> None:
        super().__init__()
        self.register_buffer("weights", torch.tensor(weights, dtype=torch.float64))
        self.register_buffer("biases", torch.tensor(biases, dtype=torch.float64))
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return x.flatten(1).double() @ self.weights.T + self.biases


def pixels(*rows: tuple[float, float]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64).view(-1, 1, 1, 2)


def binary(outputs: int, at: tuple[float, float], gap: float) -> Victim:
    """The logit 3a − 4b + c of class 1, which is −gap at the point."""
    logit = ([3.0, -4.0], -gap - 3 * at[0] + 4 * at[1])
    weights, biases = [logit[0]], [logit[1]]
    if outputs == 2:
        weights, biases = [[0.0, 0.0], *weights], [0.0, *biases]
    return Victim(Plane(weights, biases), Classification(2))


@pytest.mark.parametrize("outputs", [1, 2])
@pytest.mark.parametrize(("name", "norm"), PAIRS)
def test_distance_to_a_plane(name, norm, outputs):
    """|f|/‖w‖_q: 0.42/5 in L2, 0.42/7 in L∞, 0.42/4 in L1."""
    at = (0.5, 0.5)
    victim = binary(outputs, at, 0.42)
    result = THOROUGH[name](victim, pixels(at), torch.tensor([0]), Threat(eps=1, norm=norm))
    exact = {"l2": 0.42 / 5, "linf": 0.42 / 7, "l1": 0.42 / 4}[norm]
    assert bool(result.success)
    assert exact * (1 - 1e-9) <= float(result.smallest) <= exact * 1.006


@pytest.mark.parametrize(("name", "norm"), PAIRS)
def test_distance_to_a_plane_within_the_bounds(name, norm):
    """b has only 0.02 to fall, which closes 0.08 of the 0.42: a must rise by 0.34/3."""
    at, a = (0.5, 0.02), 0.34 / 3
    result = THOROUGH[name](binary(2, at, 0.42), pixels(at), torch.tensor([0]), Threat(eps=1, norm=norm))
    exact = {"l2": math.hypot(a, 0.02), "linf": a, "l1": a + 0.02}[norm]
    assert bool(result.success)
    assert exact * (1 - 1e-9) <= float(result.smallest) <= exact * 1.03


@pytest.mark.parametrize(("name", "norm"), PAIRS)
def test_distance_to_a_plane_along_what_may_change(name, norm):
    """With b fixed a alone must close the gap: 0.42/3 in every norm. A linear picture of a alone is right at once."""
    at = (0.5, 0.5)
    threat = Threat(eps=1, norm=norm, mask=torch.tensor([1.0, 0.0]))
    result = THOROUGH[name](binary(2, at, 0.42), pixels(at), torch.tensor([0]), threat)
    assert 0.14 * (1 - 1e-9) <= float(result.smallest) <= 0.14 * 1.006
    assert name != "deepfool" or result.steps_used.tolist() == [1]


class Curved(nn.Module):
    """Looks at pixels at another scale, and not by a plane."""

    def __init__(self, least: float, width: float) -> None:
        super().__init__()
        self.least, self.width = least, width
        self.plane = Plane([[0.0, 0.0], [3.0, -4.0]], [0.0, -0.4])

    def forward(self, x: Tensor) -> Tensor:
        x = (x - self.least) / self.width
        return self.plane(x + 0.08 * (9 * x).sin())


@pytest.mark.parametrize(("name", "norm"), PAIRS)
def test_the_unit_of_the_data_does_not_matter(name, norm):
    """In HU all lengths are 4095 times those in [0, 1]."""
    least, width = -1024.0, 4095.0
    one = Victim(Curved(0.0, 1.0), Classification(2))
    hounsfield = Victim(Curved(least, width), Classification(2), (least, least + width))
    images = pixels((0.5, 0.1), (0.2, 0.3), (0.1, 0.9))
    truth = one.task.predict(one(images))
    small = QUICK[name](one, images, truth, Threat(eps=1, norm=norm)).smallest
    large = QUICK[name](hounsfield, images * width + least, truth, Threat(eps=width, norm=norm)).smallest
    assert bool(torch.isfinite(small).all())
    assert bool((small > 0).all())
    assert torch.allclose(large, small * width, rtol=1e-5)


@pytest.mark.parametrize(("name", "norm"), PAIRS)
def test_the_nearest_of_several_classes(name, norm):
    """Class 1 is 0.3/1 away in every norm, class 2 further."""
    victim = Victim(Plane([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]], [0.0, -0.7, -1.0]), Classification(3))
    result = THOROUGH[name](victim, pixels((0.4, 0.4)), torch.tensor([0]), Threat(eps=1, norm=norm))
    assert result.outputs.argmax(1).tolist() == [1]
    assert 0.3 * (1 - 1e-9) <= float(result.smallest) <= 0.3 * SEVERAL.get(name, 1.03)


@pytest.mark.parametrize(("name", "norm"), PAIRS)
def test_several_labels_the_first_to_turn(name, norm):
    """Labels a > 0.7 and b > 0.5 at (0.4, 0.4): the second is 0.1 away, the first 0.3."""
    victim = Victim(Plane([[1.0, 0.0], [0.0, 1.0]], [-0.7, -0.5]), Classification(2, multilabel=True, ignore_index=-1))
    truth = torch.tensor([[0, 0], [0, -1]])
    result = THOROUGH[name](victim, pixels((0.4, 0.4), (0.4, 0.4)), truth, Threat(eps=1, norm=norm))
    assert bool(result.success.all())
    for found, exact in zip(result.smallest.tolist(), [0.1, 0.3], strict=True):
        assert exact * (1 - 1e-9) <= found <= exact * SEVERAL.get(name, 1.05)


@pytest.mark.parametrize(("name", "norm"), PAIRS)
def test_ordered_grades_the_next_one(name, norm):
    """Cumulative logits "above k" of a: a > 0.3, a > 0.6. From a = 0.35, of grade 1, down by 0.05."""
    victim = Victim(Plane([[1.0, 0.0], [1.0, 0.0]], [-0.3, -0.6]), Classification(3, ordinal=True))
    result = THOROUGH[name](victim, pixels((0.35, 0.4)), torch.tensor([1]), Threat(eps=1, norm=norm))
    assert victim.task.predict(result.outputs).tolist() == [0]
    assert 0.05 * (1 - 1e-9) <= float(result.smallest) <= 0.05 * 1.05


@pytest.mark.parametrize("name", ["ddn", "fmn", "carlini"])
def test_to_a_target(name):
    """To class 2, 0.5 away, not to class 1, 0.3 away."""
    attack = type(THOROUGH[name])(targeted=True)
    victim = Victim(Plane([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]], [0.0, -0.7, -0.9]), Classification(3))
    result = attack(victim, pixels((0.4, 0.4), (0.1, 0.5)), torch.tensor([2, 0]), Threat(eps=1, norm="l2"))
    assert result.success.tolist() == [True, True]
    assert 0.5 * (1 - 1e-9) <= float(result.smallest[0]) <= 0.5 * SEVERAL.get(name, 1.05)
    assert float(result.smallest[1]) == 0  # is at the target already


@pytest.mark.parametrize(("name", "norm"), PAIRS)
def test_one_search_serves_all_budgets(name, norm):
    victim = binary(2, (0.5, 0.5), 0.42)
    images, truth = pixels((0.5, 0.5), (0.4, 0.6), (0.9, 0.1)), torch.tensor([0, 0, 0])
    threats = [Threat(eps=eps, norm=norm) for eps in (0.02, 0.1, 0.5)]
    attack, model = QUICK[name], victim.model
    before = model.calls
    alone = [attack(victim, images, truth, threat) for threat in threats]
    one = (model.calls - before) / 3
    before = model.calls
    together = attack(victim, images, truth, threats)
    # besides the search a forward for each budget
    assert model.calls - before == one + 2
    for single, shared in zip(alone, together, strict=True):
        for field in ("adversarial", "success", "smallest", "steps_used"):
            assert torch.equal(getattr(single, field), getattr(shared, field))


def test_what_differs_in_more_than_eps_is_searched_again():
    victim = binary(2, (0.5, 0.5), 0.42)
    images, truth = pixels((0.5, 0.5)), torch.tensor([0])
    mask = torch.tensor([1.0, 0.0])
    threats = [Threat(eps=1, norm="linf"), Threat(eps=1, norm="l2"), Threat(eps=1, norm="linf", mask=mask)]
    sizes = [float(result.smallest) for result in FAB(steps=30)(victim, images, truth, threats)]
    assert sizes == pytest.approx([0.06, 0.084, 0.14], rel=0.01)
    before = victim.model.calls
    FAB(steps=3, refine=0)(victim, images, truth, [Threat(eps=eps, mask=mask) for eps in (0.1, 0.2)])
    assert victim.model.calls - before == 3 * 2 + 5  # clean, borders, the one found, two budgets


@pytest.mark.parametrize(("name", "norm"), PAIRS)
def test_success_is_a_size_within_eps(trained, name, norm):
    victim, images, truth = trained
    attack = QUICK[name]
    sizes = attack(victim, images, truth, Threat(eps=0, norm=norm)).smallest
    assert bool((sizes > 0).all())
    found = torch.isfinite(sizes)
    assert int(found.sum()) >= 12
    own = torch.where(found, sizes, 1.0)
    at_its_size = attack(victim, images, truth, Threat(eps=own, norm=norm))
    assert torch.equal(at_its_size.success[found], found[found])
    assert 0 <= float(at_its_size.adversarial.min()) <= float(at_its_size.adversarial.max()) <= 1
    change = at_its_size.delta.double().flatten(1).norm(p={"l2": 2, "linf": math.inf, "l1": 1}[norm], dim=1)
    assert torch.allclose(change[found], sizes[found].double(), rtol=1e-5)
    eps = float(sizes[found].median())
    result = attack(victim, images, truth, Threat(eps=eps, norm=norm))
    assert torch.equal(result.success, result.smallest <= eps)
    assert bool((result.smallest <= sizes).all())
    assert 0 < int(result.success.sum()) < len(images)


def test_refining_comes_nearer_and_stays_adversarial(trained):
    victim, images, truth = trained
    threat = Threat(eps=100, norm="l2")
    rough, fine = (DDN(steps=10, refine=refine)(victim, images, truth, threat) for refine in (0, 10))
    assert bool(fine.success.all())
    assert bool((fine.smallest <= rough.smallest * (1 + 1e-6)).all())
    assert float((fine.smallest / rough.smallest).median()) < 0.98
    # 0.2 % nearer, and it is right again: the bisection has found the border
    nearer = images + fine.delta * 0.998
    assert float(victim.task.fooled(victim(nearer), truth).float().mean()) < 0.3


def test_an_image_that_is_wrong_already_is_left_alone():
    victim = binary(2, (0.5, 0.5), 0.42)
    images = pixels((0.5, 0.5), (0.9, 0.1))
    for attack in QUICK.values():
        result = attack(victim, images, torch.tensor([0, 0]), Threat(eps=0.3, norm="l2"))
        assert float(result.smallest[1]) == 0
        assert torch.equal(result.adversarial[1], images[1])
        assert int(result.steps_used[0]) > 0 == int(result.steps_used[1])


@pytest.mark.parametrize(("name", "norm"), PAIRS)
def test_a_grid_does_not_undo_the_attack(name, norm):
    """On a grid of 0.05, 3a − 4b must rise by 0.42: one step of each makes 0.35, the next more is enough."""
    at = (0.5, 0.5)
    threats = [Threat(eps=eps, norm=norm, quantum=0.05) for eps in (0.051, 1)]
    tight, wide = THOROUGH[name](binary(2, at, 0.42), pixels(at), torch.tensor([0]), threats)
    steps = wide.delta.flatten() / 0.05
    assert torch.allclose(steps, steps.round(), atol=1e-6)
    assert wide.success.tolist() == [True]
    assert tight.success.tolist() == [False]
    assert float(tight.smallest) == float(wide.smallest)
    power = {"l2": 2, "linf": math.inf, "l1": 1}[norm]
    assert float(wide.smallest) == pytest.approx(float(wide.delta.flatten().norm(p=power)), rel=1e-6)
    # 2 steps each is more than is needed in every norm
    assert float(wide.smallest) <= 0.1 * {"l2": math.sqrt(2), "linf": 1, "l1": 2}[norm] + 1e-6


@pytest.mark.parametrize("kind", TELLING)
@pytest.mark.parametrize(("name", "norm"), PAIRS)
def test_in_ball_bounds_and_mask_and_nothing_else_touched(name, norm, kind):
    victim, images, truth = build(CASES[kind])
    answers = victim.task.predict(victim(images)).detach()
    truth = torch.where(truth < 0, truth, answers)  # all right, so that all are attacked
    before, kept, rng = state(victim.model), images.clone(), torch.get_rng_state()
    low, high = victim.bounds
    mask = torch.zeros(images.shape[2:])
    mask[..., : mask.shape[-1] // 2] = 1
    eps = CASES[kind].eps * {"linf": 1, "l2": 3, "l1": 20}[norm]
    ids = [f"image {k}" for k in range(len(images))]
    zero, result = QUICK[name](
        victim, images, truth, [Threat(eps=e, norm=norm, mask=mask) for e in (0, eps)], seed=3, ids=ids
    )
    assert torch.equal(zero.adversarial, images)
    slack = 0 if images.dtype == torch.float16 else 1e-6 * (high - low)
    assert result.adversarial.dtype == images.dtype
    assert low <= float(result.adversarial.min()) <= float(result.adversarial.max()) <= high
    delta = (result.adversarial.double() - images.double()).flatten(1)
    assert float(delta.norm(p={"l2": 2, "linf": math.inf, "l1": 1}[norm], dim=1).max()) <= eps + slack
    assert not bool((result.delta != 0)[..., mask.shape[-1] // 2 :].any())
    assert float(delta.abs().amax(1).min()) > 0, "an image was not attacked"
    with torch.no_grad():
        fooled = victim.task.fooled(victim(result.adversarial), truth)
    assert torch.equal(result.success, fooled)
    assert torch.equal(images, kept)
    assert_same_state(before, state(victim.model))
    assert torch.equal(rng, torch.get_rng_state())
    # alone, with somebody else's generator: the same
    torch.manual_seed(999)
    last = slice(len(images) - 1, None)
    alone = QUICK[name](victim, images[last], truth[last], Threat(eps=eps, norm=norm, mask=mask), seed=3, ids=ids[last])
    assert torch.allclose(alone.smallest.float(), result.smallest[last].float(), rtol=2e-2)
    differing = int(((alone.adversarial - result.adversarial[last]).abs() > 1e-3 * (high - low)).sum())
    assert differing <= max(1, 0.02 * images[0].numel())


@pytest.mark.parametrize("kind", DENSE)
@pytest.mark.parametrize("name", ["ddn", "fmn", "carlini"])
def test_masks_are_attacked_until_their_dice_is_low(name, kind):
    victim, images, truth = build(CASES[kind])
    answers = victim.task.predict(victim(images)).detach()
    truth = torch.where(truth == 255, truth, answers)
    assert not bool(victim.task.fooled(victim(images), truth).any())
    attack = {
        "ddn": DDN(steps=30),
        "fmn": FMN(steps=30),
        "carlini": CarliniWagner(searches=4, steps=30, c=10.0, rate=0.05),
    }
    result = attack[name](victim, images, truth, Threat(eps=100, norm="l2"))
    assert bool(result.success.any())
    assert torch.equal(result.success, torch.isfinite(result.smallest))


@pytest.mark.parametrize(("name", "norm"), PAIRS)
def test_an_image_without_a_gradient_is_counted(name, norm):
    victim = Victim(Unmoved(), Classification(2))
    images = torch.full((2, 1, 6, 6), 0.5)
    result = QUICK[name](victim, images, torch.tensor([1, 1]), Threat(eps=0.1, norm=norm))
    assert result.success.tolist() == [False, False]
    assert torch.isinf(result.smallest).all()
    assert torch.isfinite(result.adversarial).all()
    # every step of Carlini and Wagner has the pull to the clean image, once it has left it
    if name != "carlini":
        assert torch.equal(result.zero_gradients, result.steps_used)
    assert bool((result.zero_gradients > 0).all())


def test_deepfool_lets_images_go_one_by_one(trained):
    victim, images, truth = trained
    result = DeepFool(refine=0)(victim, images, truth, Threat(eps=100, norm="l2"))
    assert bool(result.success.all())
    assert len(set(result.steps_used.tolist())) > 1
    assert int(result.steps_used.max()) < 50


@pytest.mark.parametrize(
    ("attack", "threat", "message"),
    [
        (DDN(), Threat(eps=1), "DDN is for changes within l2, the threat is linf"),
        (CarliniWagner(), Threat(eps=1, norm="l1"), "CarliniWagner is for changes within l2"),
        (DeepFool(), Threat(eps=1, norm="l1"), "DeepFool is for changes within l2 or linf"),
        (FAB(), Contrast(eps=0.1), "FAB is for changes within linf or l2 or l1, the threat is contrast"),
    ],
)
def test_a_threat_that_it_does_not_know_is_refused(attack: NearestAttack, threat, message):
    victim, images, truth = build(CASES["1 channel"])
    with pytest.raises(InputError, match=message):
        attack(victim, images, truth, threat)


@pytest.mark.parametrize("attack", [DeepFool(), FAB(), FAB(targets=2)])
def test_a_border_needs_one_answer_per_image(attack):
    victim, images, _ = build(CASES["segmentation"])
    right = victim.task.predict(victim(images)).detach()
    for truth in (right, 1 - right):
        with pytest.raises(InputError, match=r"needs one answer per image, got segmentation"):
            attack(victim, images, truth, Threat(eps=1))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DDN(gamma=1), "gamma must be below 1"),
        (lambda: FMN(max_step=0), "max_step must be a finite number above 0"),
        (lambda: FAB(alpha=2), "alpha and beta must be at most 1"),
        (lambda: FAB(targets=-1), "targets must be a whole number"),
        (lambda: DeepFool(candidates=0), "candidates must be a whole number of at least 1"),
        (lambda: CarliniWagner(searches=0), "searches must be a whole number"),
        (lambda: DDN(refine=-1), "refine must be a whole number of at least 0"),
    ],
)
def test_options_are_checked(make, message):
    with pytest.raises(InputError, match=message):
        make()
