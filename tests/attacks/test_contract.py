"""What every attack promises, for every attack × kind of victim: the suite that a new attack joins by its name."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from victims import CASES, Case, assert_same_state, build, state

from medrobust.attacks import (
    ATTACKS,
    BIM,
    DAG,
    PGD,
    SMIA,
    CosPGD,
    Diversity,
    Ensemble,
    Expectation,
    IterativeAttack,
    make_attack,
)
from medrobust.attacks.attack import SearchAttack
from medrobust.attacks.nearest import NearestAttack
from medrobust.errors import InputError
from medrobust.tasks import Classification
from medrobust.threat import Threat
from medrobust.transforms import Smooth
from medrobust.victim import Victim

STEPS = 3
QUICK = {
    "fgsm": {},
    "universal": {"epochs": 2},
    "sea": {"steps": 3},
    "apgd-t": {"steps": STEPS, "targets": 2},
    "fab": {"steps": 8},
    "fab-t": {"steps": 8, "targets": 2},
    "cw": {"steps": 4, "searches": 2},
    "square": {"queries": 30},
    "nes": {"steps": 2, "directions": 4},
    "spsa": {"steps": 2, "directions": 4},
    "hopskipjump": {"queries": 80, "steps": 2, "directions": 10},
    "standard": {"steps": STEPS, "targets": 2, "queries": 10},
    "medrobust": {"steps": STEPS, "targets": 2, "queries": 10},
}
"""Options under which an attack is quick; of the others three steps are."""


def _attacks() -> dict[str, SearchAttack | Ensemble]:
    attacks = {
        name: make_attack(name, QUICK.get(name, {"steps": STEPS}))
        for name, entry in ATTACKS.items()
        if set(entry.tasks) & {"classification", "segmentation"} or not entry.tasks
    }
    return attacks | {
        "pgd restarts best": PGD(steps=STEPS, restarts=2, keep="best"),
        "pgd early": PGD(steps=STEPS, restarts=2, early_stop=True),
        "bim adam cosine": BIM(steps=STEPS, step={"adam": {"schedule": "cosine"}}, loss="margin"),
        "pgd all parts": PGD(
            steps=STEPS,
            inputs=[
                Diversity(probability=1.0),
                {"si": {"copies": 2}},
                {"mix": {"others": 1}},
                Expectation(Smooth(), samples=1),
            ],
            gradients=[{"vt": {"neighbours": 1}}, {"ti": {"kernel_size": 3}}, "low_frequency"],
            momentum=1.0,
        ),
        "ensemble": Ensemble(members=[("pgd", PGD(steps=2)), ("smia", SMIA(steps=2))]),
        "smia constant": SMIA(steps=STEPS, a2=0.5, through_target=False),
        "smia released": SMIA(steps=STEPS, a2=0.5, variant="released"),
        "smia perturbation once fooled": SMIA(steps=STEPS, smooth="perturbation", stabilize="once_fooled"),
        "smia momentum traced": SMIA(steps=STEPS, momentum=0.9, random_start=True, trace=True),
        "smia mse targeted": SMIA(steps=STEPS, divergence="mse", targeted=True),
        "smia early": SMIA(steps=STEPS, early_stop=True, momentum=1.0),
        "dag stabilized": DAG(steps=STEPS, a2=0.3),
        "cospgd targeted": CosPGD(steps=STEPS, targeted=True),
    }


ATTACKS_UNDER_TEST = _attacks()
DENSE = {name for name in ATTACKS_UNDER_TEST if name.split()[0] in ("segpgd", "cospgd", "dag", "asma", "sea")}
OF_A_SET = {"universal"}  # an image's result hangs on the others
BY_ANSWERS = {"square", "nes", "spsa", "hopskipjump"}
GRADIENTS = {
    name
    for name, attack in ATTACKS_UNDER_TEST.items()
    if isinstance(attack, SearchAttack) and attack.needs == "gradients" and name not in OF_A_SET
}


def threat_for(attack: SearchAttack, eps: float) -> Threat:
    """Of the first norm that the attack can keep to."""
    norm = "linf" if attack.norms is None or "linf" in attack.norms else attack.norms[0]
    return Threat(eps if norm == "linf" else 6 * eps, norm=norm)


def loop(name: str) -> bool:
    """Does the attack run the loop to its end for every image?"""
    attack = ATTACKS_UNDER_TEST[name]
    return isinstance(attack, IterativeAttack) and not attack.early_stop and name not in ("apgd-t",)


def fits(attack: str, case: str) -> bool:
    """Attacks on every pixel run where there is an answer at every pixel, those on one answer where there is one."""
    dense = CASES[case].task.dense
    return (attack not in DENSE or dense) and not (ATTACKS_UNDER_TEST[attack].answers == "image" and dense)


RADII = {"linf": 1, "l2": 3, "l1": 20}  # in eps of the case


def norms_of(name: str) -> list[str]:
    """Those that the attack can keep to."""
    norms = getattr(ATTACKS_UNDER_TEST[name], "norms", None) or RADII
    return [norm for norm in RADII if norm in norms]


def pairs():
    """Every attack on every kind of victim in every norm; half of the victims, in norms that go round, at once.

    The rest comes where there is more time.
    """
    for place, case in enumerate(CASES):
        for turn, name in enumerate(ATTACKS_UNDER_TEST):
            norms = norms_of(name) if fits(name, case) else []
            for number, norm in enumerate(norms):
                at_once = number == (place + turn) % len(norms) and (place // 2 + turn) % 2 == 0
                marks = () if at_once else pytest.mark.slow
                yield pytest.param(name, CASES[case], norm, id=f"{case}-{name}-{norm}", marks=marks)


def pytest_generate_tests(metafunc):
    names = set(metafunc.fixturenames)
    if {"name", "case", "norm"} <= names:
        metafunc.parametrize("name, case, norm", list(pairs()))
    elif "attack" in names:  # on a classifier, by gradients
        chosen = {name: ATTACKS_UNDER_TEST[name] for name in sorted(GRADIENTS - DENSE)}
        metafunc.parametrize("attack", chosen.values(), ids=chosen.keys())
    elif "loop_attack" in names:
        chosen = {name: ATTACKS_UNDER_TEST[name] for name in sorted(GRADIENTS - DENSE) if loop(name)}
        metafunc.parametrize("loop_attack", chosen.values(), ids=chosen.keys())
    elif "dense_attack" in names:
        chosen = sorted(DENSE - {"sea"})
        metafunc.parametrize("dense_attack", [ATTACKS_UNDER_TEST[name] for name in chosen], ids=chosen)


def threat_in(norm: str, case: Case, mask: Tensor | None = None) -> Threat:
    return Threat(eps=RADII[norm] * case.eps, norm=norm, mask=mask)


def lengths(delta: Tensor, norm: str) -> Tensor:
    flat = delta.double().flatten(1)
    return flat.abs().amax(1) if norm == "linf" else flat.norm(p=1 if norm == "l1" else 2, dim=1)


def test_what_is_handed_in(name, case, norm):
    """In the ball and the bounds, judged by a fresh forward, nearer to the goal, and nothing else touched."""
    attack, (victim, images, truth) = ATTACKS_UNDER_TEST[name], build(case)
    before, kept, rng = state(victim.model), images.clone(), torch.get_rng_state()
    low, high = case.bounds
    with torch.no_grad():
        clean = victim(images)
        wrong, clean_loss = victim.task.fooled(clean, truth), victim.task.loss(clean, truth)
    threat = threat_in(norm, case)
    result = attack(victim, images, truth, threat, seed=7)
    assert result.adversarial.shape == images.shape
    assert result.adversarial.dtype == images.dtype
    assert low <= float(result.adversarial.min()) <= float(result.adversarial.max()) <= high
    size = lengths(result.adversarial.double() - images.double(), norm)
    slack = 0 if case.dtype == torch.float16 else 1e-6 * threat.eps + 1e-6 * (high - low)
    assert float(size.max()) <= threat.eps + slack
    stops = not loop(name) and name not in OF_A_SET  # what is wrong already may stay as it is
    attacked = ~wrong if stops else torch.ones_like(wrong)
    # few questions need not find anything: what these attacks are worth is shown in their own tests
    attacked &= name not in BY_ANSWERS
    assert bool((size[attacked] > 0).all()), "an image was not attacked"
    assert torch.equal(result.delta, result.adversarial - images)
    with torch.no_grad():
        outputs = victim(result.adversarial)
    assert torch.allclose(result.loss, victim.task.loss(outputs, truth), rtol=1e-5, atol=1e-6)
    fooled = victim.task.fooled(outputs, truth)
    assert torch.equal(result.success, ~fooled if attack.targeted else fooled)
    # who looks for the nearest border need not raise the loss, the mean over several labels, on the way
    # and the largest hundredth of a smoothed gradient is the middle of a tiny image, whatever the loss
    smoothed = norm == "l1" and name in ("ti", "smia-ti", "pgd all parts")
    if bool(attacked.any()) and not isinstance(attack, NearestAttack) and not smoothed:
        change = float((result.loss - clean_loss)[attacked].mean())
        assert change < 0 if attack.targeted else change > 0
    if loop(name):
        assert result.steps_used.tolist() == [attack.steps * attack.restarts] * len(images)
    # of three classes DLR is constant where the truth comes last
    assert not bool(result.zero_gradients[~wrong].any())
    assert_same_state(before, state(victim.model))
    assert torch.equal(images, kept), "the caller's images were changed"
    assert torch.equal(rng, torch.get_rng_state()), "the global generator was used"


def test_alone_in_another_order_at_no_budget_and_in_a_mask(name, case, norm):
    """An image's result is its own; nothing to change changes nothing; a mask keeps the rest as it is."""
    attack, (victim, images, truth) = ATTACKS_UNDER_TEST[name], build(case)
    ids = [f"image {k}" for k in range(len(images))]
    threat = threat_in(norm, case)
    assert torch.equal(attack(victim, images, truth, Threat(0, norm=norm)).adversarial, images)
    empty = attack(victim, images[:0], truth[:0], threat)
    assert empty.adversarial.shape == images[:0].shape
    assert empty.success.shape == empty.loss.shape == (0,)
    if name in OF_A_SET:
        return
    whole = attack(victim, images, truth, threat, seed=3, ids=ids).adversarial
    torch.manual_seed(999)  # somebody else's generator
    order = list(reversed(range(len(images))))
    turned = attack(victim, images[order], truth[order], threat, seed=3, ids=[ids[k] for k in order]).adversarial
    alone = attack(victim, images[-1:], truth[-1:], threat, seed=3, ids=ids[-1:]).adversarial
    # outside L∞ rounding grows along the curve of the ball, and chooses between iterates that are equally good
    tolerance = 1e-6 * (case.bounds[1] - case.bounds[0]) if norm == "linf" else 2e-3 * threat.eps
    for other, same in ((turned[order], whole), (alone, whole[-1:])):
        # a sign step turns on the rounding of a gradient that is nearly zero
        assert int(((other - same).abs() > tolerance).sum()) <= max(1, 0.001 * same.numel())
    mask = torch.zeros(images.shape[2:])
    mask[..., : mask.shape[-1] // 2] = 1
    changed = attack(victim, images, truth, threat_in(norm, case, mask)).delta != 0
    assert not bool(changed[..., mask.shape[-1] // 2 :].any())
    if loop(name):
        assert bool(changed.flatten(1).any(1).all())


def test_attacks_on_pixels_refuse_a_task_without(dense_attack):
    victim, images, truth = build(CASES["1 channel"])
    with pytest.raises(InputError, match=r"needs an answer at every pixel .* got classification"):
        dense_attack(victim, images, truth, Threat(eps=0.03))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize(("bounds", "eps"), [((0, 1), 0.0101), ((0, 1), 3e-4), ((0, 1), 1e-4), ((-1024, 3071), 7.3)])
def test_half_precision_never_leaves_the_ball(dtype, norm, bounds, eps):
    """Rounding to the caller's dtype goes towards the clean image: no slack is needed."""
    victim, images, truth = build(CASES["float16 images"])
    victim = Victim(victim.model, victim.task, bounds)
    images = (bounds[0] + images.double() * (bounds[1] - bounds[0])).clamp(*bounds).to(dtype)
    images = images.clamp(
        *(torch.nextafter(torch.tensor(b, dtype=dtype), torch.zeros((), dtype=dtype)).item() for b in bounds)
    )
    result = make_attack("bim")(victim, images, truth, Threat(eps=eps, norm=norm))
    delta = (result.adversarial.double() - images.double()).flatten(1)
    length = delta.abs().amax(1) if norm == "linf" else delta.norm(dim=1)
    assert float(length.max()) <= eps * (1 + 1e-6)
    assert bounds[0] <= float(result.adversarial.double().min())
    assert float(result.adversarial.double().max()) <= bounds[1]


class Unmoved(nn.Module):
    """Depends on its input by a path whose gradient is exactly zero."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([0 * x.flatten(1).sum(1), torch.ones(len(x), dtype=x.dtype)], 1)


def test_zero_gradient_is_counted_and_does_not_stand_still(loop_attack):
    attack = loop_attack
    victim = Victim(Unmoved(), Classification(2))
    images, truth = torch.full((2, 1, 6, 6), 0.5), torch.tensor([0, 1])
    result = attack(victim, images, truth, Threat(eps=0.1))
    expected = attack.steps * attack.restarts
    # SMIA's stabilization term is as flat as the loss
    assert result.zero_gradients.tolist() == [expected] * 2
    assert torch.isfinite(result.adversarial).all()
    if attack.keep == "last":
        assert float(result.delta.flatten(1).abs().amax(1).min()) > 0


class PoisonedGradient(nn.Module):
    """Finite outputs, but the gradient of the second image of a batch is NaN."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(36, 3)

    def forward(self, x: Tensor) -> Tensor:
        outputs = []
        for image in x:
            output = self.linear(image.flatten())
            if image.mean() > 0.5:
                output = output + torch.sqrt((image - image.detach()).sum())  # 0, with an infinite gradient
            outputs.append(output)
        return torch.stack(outputs)


def test_a_gradient_that_is_not_finite_touches_its_own_sample_alone(attack):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        victim = Victim(PoisonedGradient(), Classification(3))
    images = torch.stack([torch.full((1, 6, 6), 0.3), torch.full((1, 6, 6), 0.7)])
    truth = victim(images).argmax(1)
    result = attack(victim, images, truth, threat_for(attack, 0.05))
    assert result.zero_gradients[0] == 0
    assert result.zero_gradients[1] > 0
    assert torch.isfinite(result.adversarial).all()


def test_frozen_batch_norm_stays_as_it_was(attack):
    victim, images, truth = build(CASES["1 channel"])
    norm = victim.model[1]
    norm.eval()
    attack(victim, images, truth, threat_for(attack, 0.03))
    assert not norm.training
    assert victim.model.training


def test_the_model_is_put_back_when_it_raises(attack):
    class Broken(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm2d(1)
            self.register_buffer("count", torch.zeros(1))

        def forward(self, x: Tensor) -> Tensor:
            self.count += 1
            raise RuntimeError("out of paper")

    model = Broken().train()
    before = state(model)
    with pytest.raises(RuntimeError, match="out of paper"):
        attack(Victim(model, Classification(2)), torch.rand(1, 1, 4, 4), torch.tensor([0]), threat_for(attack, 0.1))
    assert_same_state(before, state(model))


def test_gradients_of_the_user_stay(attack):
    victim, images, truth = build(CASES["1 channel"])
    victim.model(images).sum().backward()
    before = {name: parameter.grad.clone() for name, parameter in victim.model.named_parameters()}
    attack(victim, images, truth, threat_for(attack, 0.03))
    for name, parameter in victim.model.named_parameters():
        assert torch.equal(parameter.grad, before[name])


def test_works_where_gradients_are_off(attack):
    victim, images, truth = build(CASES["1 channel"])
    expected = attack(victim, images, truth, threat_for(attack, 0.03)).adversarial
    with torch.no_grad():
        assert torch.equal(attack(victim, images, truth, threat_for(attack, 0.03)).adversarial, expected)
    with torch.inference_mode():
        assert torch.equal(attack(victim, images, truth, threat_for(attack, 0.03)).adversarial, expected)


def test_on_the_grid_of_the_quantum(attack):
    victim, images, truth = build(CASES["1 channel"])
    images = (images * 255).round() / 255
    for norm, eps in (("linf", 4 / 255), ("l2", 0.2), ("l1", 2.0)):
        if attack.norms is not None and norm not in attack.norms:
            continue
        result = attack(victim, images, truth, Threat(eps=eps, norm=norm, quantum=1 / 255))
        levels = result.adversarial.double() * 255
        assert float((levels - levels.round()).abs().max()) < 1e-4
        assert float(lengths(result.delta, norm).max()) <= eps + 1e-6


def test_a_model_without_a_differentiable_path_is_told(attack):
    class Stepped(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return (x.flatten(1)[:, :3].detach() > 0.5).float()

    victim, images = Victim(Stepped(), Classification(3)), torch.rand(2, 1, 4, 4)
    with pytest.raises(InputError, match="differentiable path"):
        attack(victim, images, victim(images).argmax(1), threat_for(attack, 0.1))


@pytest.mark.parametrize("name", ["bim", "smia"])
def test_later_restarts_start_at_random(trained, name):
    """Else several restarts of an attack from the clean image were one."""
    victim, images, truth = trained
    options, threat = {"steps": 2, "keep": "last"}, Threat(eps=2 / 255)
    one = make_attack(name, options)(victim, images, truth, threat)
    two = make_attack(name, options | {"restarts": 2})(victim, images, truth, threat)
    assert not torch.equal(one.adversarial, two.adversarial)
    assert bool((two.loss >= one.loss - 1e-5).all())


def test_the_goal_comes_before_the_loss():
    """Of two candidates the one that fools is kept, though the other has the higher loss."""
    from medrobust.attacks.case import beats

    success, goal = torch.tensor([True, False, True, False]), torch.tensor([1.0, 5.0, 1.0, 1.0])
    kept_success, kept_goal = torch.tensor([False, True, True, False]), torch.tensor([5.0, 1.0, 0.5, 2.0])
    assert beats(success, goal, kept_success, kept_goal).tolist() == [True, False, True, False]


def test_a_tiny_gradient_is_a_gradient():
    """Logits a millionth as steep are followed all the same; only an exact zero is replaced."""

    class Faint(nn.Module):
        def forward(self, x):
            return 1e-12 * x.flatten(1)[:, :2]

    images, truth = torch.full((1, 1, 1, 2), 0.5), torch.tensor([0])
    for norm, expected in (("linf", [-0.1, 0.1]), ("l2", [-0.1 / 2**0.5, 0.1 / 2**0.5])):
        result = make_attack("fgsm")(Victim(Faint(), Classification(2)), images, truth, Threat(eps=0.1, norm=norm))
        assert result.zero_gradients.tolist() == [0]
        assert result.delta.flatten().tolist() == pytest.approx(expected, abs=1e-6)


# those whose way does not hang on the number of steps, once the step size is given
SAME_WAY = ("bim", "pgd", "mi", "ni", "sini", "di", "ti", "vmi", "vni", "pi", "smia", "smia-mi", "smia-ti", "smia-vmi")


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_keep_best_is_never_weaker_with_more_steps(norm):
    victim, images, truth = build(CASES["1 channel"])
    threat = Threat(eps={"linf": 0.08, "l2": 0.5, "l1": 3.0}[norm], norm=norm)
    for name in SAME_WAY:
        if norm not in (ATTACKS[name].attack.norms or (norm,)):
            continue
        last_success = torch.zeros(len(images), dtype=torch.bool)
        last_loss = torch.full((len(images),), -torch.inf)
        for steps in (1, 2, 4, 8):
            attack = make_attack(name, {"steps": steps, "step_size": 0.03, "keep": "best"})
            result = attack(victim, images, truth, threat)
            assert bool((last_success <= result.success).all())
            same = last_success == result.success
            assert bool((result.loss[same] >= last_loss[same] - 1e-6).all())
            last_success, last_loss = result.success, result.loss


def test_restarts_are_at_least_each_of_them(trained):
    victim, images, truth = trained
    threat = Threat(eps=2 / 255)
    one = make_attack("pgd", {"steps": 3})(victim, images, truth, threat)
    three = make_attack("pgd", {"steps": 3, "restarts": 3})(victim, images, truth, threat)
    assert bool((one.success <= three.success).all())
    same = one.success == three.success
    assert bool((three.loss[same] >= one.loss[same] - 1e-6).all())


def test_random_starts_follow_seed_and_id(trained):
    victim, images, truth = trained
    attack, threat = make_attack("pgd", {"steps": 1}), Threat(eps=4 / 255)
    first = attack(victim, images, truth, threat, seed=1).adversarial
    assert torch.equal(first, attack(victim, images, truth, threat, seed=1).adversarial)
    assert not torch.equal(first, attack(victim, images, truth, threat, seed=2).adversarial)
    same_image = images[:1].expand(2, -1, -1, -1)
    twins = attack(victim, same_image, truth[:1].expand(2), threat, ids=["a", "b"]).adversarial
    assert not torch.equal(twins[0], twins[1])


@pytest.mark.parametrize("name", ["pgd", "mi", "smia"])
def test_real_images_get_the_same_result_whatever_their_batch(trained, name):
    victim, images, truth = trained
    ids, attack, threat = list("abcdefghijklmnop"), make_attack(name), Threat(eps=4 / 255)
    whole = attack(victim, images, truth, threat, ids=ids)
    order = torch.tensor([5, 2, 15, 0, 7])
    some = attack(victim, images[order], truth[order], threat, ids=[ids[k] for k in order])
    same = (some.adversarial - whole.adversarial[order]).abs() <= 1e-6
    assert float(same.double().mean()) >= 0.999
    assert torch.equal(some.success, whole.success[order])
    assert torch.allclose(some.loss, whole.loss[order], atol=1e-3)
