"""What every attack promises, for every attack × kind of victim: the suite that a new attack joins by its name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from medrobust.attacks import ATTACKS, DAG, SMIA, CosPGD, IterativeAttack, make_attack
from medrobust.errors import InputError
from medrobust.tasks import Classification, Segmentation, Task
from medrobust.threat import Threat
from medrobust.victim import Victim

STEPS = 3


def _attacks() -> dict[str, IterativeAttack]:
    def steps(name: str) -> dict[str, object]:
        return {} if name == "fgsm" else {"steps": STEPS}

    attacks = {name: make_attack(name, steps(name)) for name, entry in ATTACKS.items() if not entry.tasks}
    return attacks | {
        "pgd restarts best": make_attack("pgd", {"steps": STEPS, "restarts": 2, "keep": "best"}),
        "smia constant": SMIA(steps=STEPS, a2=0.5, through_target=False),
        "smia released": SMIA(steps=STEPS, a2=0.5, variant="released"),
        "smia perturbation once fooled": SMIA(steps=STEPS, smooth="perturbation", stabilize="once_fooled"),
        "smia momentum traced": SMIA(steps=STEPS, momentum=0.9, random_start=True, trace=True),
        "smia mse targeted": SMIA(steps=STEPS, divergence="mse", targeted=True),
        "dag stabilized": DAG(steps=STEPS, a2=0.3),
        "cospgd targeted": CosPGD(steps=STEPS, targeted=True),
    }


ATTACKS_UNDER_TEST = _attacks()
DENSE = {name for name in ATTACKS_UNDER_TEST if name.split()[0] in ("segpgd", "cospgd", "dag", "asma")}


@dataclass(frozen=True)
class Case:
    """A kind of victim with images and truth for it."""

    task: Task
    model: Callable[[], nn.Module]
    shape: tuple[int, ...]  # (B, C, *spatial)
    outputs: tuple[int, ...]  # of the truth, behind B
    classes: int
    bounds: tuple[float, float] = (0.0, 1.0)
    eps: float = 0.03
    dtype: torch.dtype = torch.float32
    contiguous: bool = True


def classifier(channels: int, outputs: int, dims: int = 2) -> Callable[[], nn.Module]:
    conv, norm, pool = (
        (nn.Conv2d, nn.BatchNorm2d, nn.AdaptiveAvgPool2d)
        if dims == 2
        else (nn.Conv3d, nn.BatchNorm3d, nn.AdaptiveAvgPool3d)
    )
    return lambda: nn.Sequential(
        conv(channels, 6, 3, padding=1),
        norm(6),
        nn.Tanh(),
        pool(2),
        nn.Flatten(),
        nn.Linear(6 * 2**dims, outputs),
    )


def segmenter(channels: int, outputs: int, dims: int = 2) -> Callable[[], nn.Module]:
    conv, norm = (nn.Conv2d, nn.BatchNorm2d) if dims == 2 else (nn.Conv3d, nn.BatchNorm3d)
    return lambda: nn.Sequential(conv(channels, 6, 3, padding=1), norm(6), nn.Tanh(), conv(6, outputs, 3, padding=1))


class HounsfieldScaled(nn.Module):
    """A model that reads HU, as a radiology model's first layer does."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x / 500)


CASES = {
    "1 channel": Case(Classification(4), classifier(1, 4), (4, 1, 9, 8), (), 4),
    "3 channels": Case(Classification(4), classifier(3, 4), (4, 3, 8, 9), (), 4),
    "5 channels": Case(Classification(3), classifier(5, 3), (2, 5, 8, 8), (), 3),
    "3-D": Case(Classification(3), classifier(1, 3, 3), (3, 1, 5, 6, 7), (), 3),
    "two classes": Case(Classification(2), classifier(1, 2), (4, 1, 8, 8), (), 2),
    "one logit": Case(Classification(2), classifier(1, 1), (4, 1, 8, 8), (), 2),
    "one logit, no axis": Case(
        Classification(2), lambda: nn.Sequential(classifier(1, 1)(), nn.Flatten(0)), (4, 1, 8, 8), (), 2
    ),
    "multi-label": Case(Classification(3, multilabel=True), classifier(1, 3), (4, 1, 8, 8), (3,), 2),
    "multi-label unknown": Case(
        Classification(3, multilabel=True, ignore_index=-1), classifier(1, 3), (4, 1, 8, 8), (3,), 2
    ),
    "ordinal": Case(Classification(5, ordinal=True), classifier(1, 5), (4, 1, 8, 8), (), 5),
    "ordinal cumulative": Case(Classification(5, ordinal=True), classifier(1, 4), (4, 1, 8, 8), (), 5),
    "HU": Case(
        Classification(3),
        lambda: HounsfieldScaled(classifier(1, 3)()),
        (3, 1, 8, 8),
        (),
        3,
        (-1024.0, 3071.0),
        20.0,
    ),
    "float64": Case(Classification(3), lambda: classifier(1, 3)().double(), (3, 1, 8, 8), (), 3, dtype=torch.float64),
    "float64 images, float32 model": Case(
        Classification(3), classifier(1, 3), (3, 1, 8, 8), (), 3, dtype=torch.float64
    ),
    "float16 images": Case(Classification(3), classifier(1, 3), (3, 1, 8, 8), (), 3, dtype=torch.float16),
    "non-contiguous": Case(Classification(3), classifier(3, 3), (3, 3, 8, 8), (), 3, contiguous=False),
    "segmentation": Case(Segmentation(3), segmenter(1, 3), (3, 1, 8, 9), (8, 9), 3),
    "segmentation ignored": Case(Segmentation(3, ignore_index=255), segmenter(1, 3), (3, 1, 8, 9), (8, 9), 3),
    "segmentation one logit": Case(Segmentation(2), segmenter(3, 1), (3, 3, 8, 9), (8, 9), 2),
    "segmentation multi-label": Case(Segmentation(2, multilabel=True), segmenter(1, 2), (3, 1, 8, 9), (2, 8, 9), 2),
    "segmentation 3-D": Case(Segmentation(3), segmenter(1, 3, 3), (2, 1, 5, 6, 7), (5, 6, 7), 3),
    "flat volume": Case(Segmentation(2), segmenter(1, 2, 3), (2, 1, 1, 6, 7), (1, 6, 7), 2),
}


def build(case: Case) -> tuple[Victim, Tensor, Tensor]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = case.model()
        model.train()  # a victim must cope, and put it back
        low, high = case.bounds
        images = low + (high - low) * torch.rand(case.shape, dtype=torch.float32)
        truth = torch.randint(0, case.classes, (case.shape[0], *case.outputs))
    images = images.to(case.dtype)
    if not case.contiguous:
        images = images.permute(0, 1, 3, 2)
        assert not images.is_contiguous()
    ignore = getattr(case.task, "ignore_index", None)
    if ignore is not None:
        truth.view(-1)[::3] = ignore
    return Victim(model, case.task, case.bounds), images, truth


def fits(attack: str, case: str) -> bool:
    """Attacks on every pixel run where there is an answer at every pixel."""
    return attack not in DENSE or CASES[case].task.dense


PAIRS = [(attack, case) for case in CASES for attack in ATTACKS_UNDER_TEST if fits(attack, case)]


def pytest_generate_tests(metafunc):
    names = set(metafunc.fixturenames)
    if {"attack", "case"} <= names:
        pairs = [(ATTACKS_UNDER_TEST[attack], CASES[case]) for attack, case in PAIRS]
        metafunc.parametrize("attack, case", pairs, ids=[f"{case}-{attack}" for attack, case in PAIRS])
    elif "attack" in names:  # on a classifier
        chosen = {name: attack for name, attack in ATTACKS_UNDER_TEST.items() if name not in DENSE}
        metafunc.parametrize("attack", chosen.values(), ids=chosen.keys())
    elif "dense_attack" in names:
        metafunc.parametrize("dense_attack", [ATTACKS_UNDER_TEST[name] for name in sorted(DENSE)], ids=sorted(DENSE))


def test_attacks_on_pixels_refuse_a_task_without(dense_attack):
    victim, images, truth = build(CASES["1 channel"])
    with pytest.raises(InputError, match=r"needs an answer at every pixel .* got classification"):
        dense_attack(victim, images, truth, Threat(eps=0.03))


def state(model: nn.Module) -> dict[str, object]:
    return {
        **{name: tensor.clone() for name, tensor in model.state_dict().items()},
        **{f"{name} training": module.training for name, module in model.named_modules()},
        **{f"{name} grad": parameter.grad for name, parameter in model.named_parameters()},
        **{f"{name} requires_grad": parameter.requires_grad for name, parameter in model.named_parameters()},
    }


def assert_same_state(before: dict[str, object], after: dict[str, object]) -> None:
    assert before.keys() == after.keys()
    for name, value in before.items():
        same = torch.equal(value, after[name]) if isinstance(value, Tensor) else value == after[name]
        assert same, f"{name} changed"


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_in_ball_and_bounds_and_nothing_else_touched(case, attack, norm):
    victim, images, truth = build(case)
    before, kept = state(victim.model), images.clone()
    rng = torch.get_rng_state()
    eps = case.eps if norm == "linf" else case.eps * 3
    result = attack(victim, images, truth, Threat(eps=eps, norm=norm), seed=7)

    low, high = case.bounds
    slack = 0 if case.dtype == torch.float16 else 1e-6 * (high - low)
    assert result.adversarial.shape == images.shape
    assert result.adversarial.dtype == images.dtype
    assert low <= float(result.adversarial.min()) <= float(result.adversarial.max()) <= high
    delta = (result.adversarial.double() - images.double()).flatten(1)
    length = delta.abs().amax(1) if norm == "linf" else delta.norm(dim=1)
    assert float(length.max()) <= eps + slack
    assert float(length.min()) > 0, "an image was not attacked"
    assert torch.equal(result.delta, result.adversarial - images)

    assert torch.equal(images, kept), "the caller's images were changed"
    assert_same_state(before, state(victim.model))
    assert torch.equal(rng, torch.get_rng_state()), "the global generator was used"


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


def test_loss_and_success_are_those_of_a_fresh_forward(case, attack):
    victim, images, truth = build(case)
    result = attack(victim, images, truth, Threat(eps=case.eps))
    with torch.no_grad():
        outputs = victim(result.adversarial)
    assert torch.allclose(result.loss, victim.task.loss(outputs, truth), rtol=1e-5, atol=1e-6)
    fooled = victim.task.fooled(outputs, truth)
    assert torch.equal(result.success, ~fooled if attack.targeted else fooled)
    assert result.steps_used.tolist() == [attack.steps * attack.restarts] * len(images)
    assert result.zero_gradients.tolist() == [0] * len(images)


def test_the_goal_comes_nearer(case, attack):
    """On average over the batch the loss rises (falls, towards a target)."""
    victim, images, truth = build(case)
    result = attack(victim, images, truth, Threat(eps=case.eps))
    with torch.no_grad():
        clean = victim.task.loss(victim(images), truth)
    change = float((result.loss - clean).mean())
    assert change < 0 if attack.targeted else change > 0


def test_same_result_alone_in_another_batch_and_order(case, attack):
    victim, images, truth = build(case)
    ids = [f"image {k}" for k in range(len(images))]
    threat = Threat(eps=case.eps)
    whole = attack(victim, images, truth, threat, seed=3, ids=ids).adversarial
    torch.manual_seed(999)  # somebody else's generator
    order = list(reversed(range(len(images))))
    turned = attack(victim, images[order], truth[order], threat, seed=3, ids=[ids[k] for k in order]).adversarial
    alone = torch.cat(
        [
            attack(victim, images[k : k + 1], truth[k : k + 1], threat, seed=3, ids=[ids[k]]).adversarial
            for k in range(len(ids))
        ]
    )
    tolerance = 1e-6 * (case.bounds[1] - case.bounds[0])
    for other in (turned[order], alone):
        differing = int(((other - whole).abs() > tolerance).sum())
        # a sign step turns on the rounding of a gradient that is nearly zero
        assert differing <= max(1, 0.001 * whole.numel())


def test_eps_zero_returns_the_images(case, attack):
    victim, images, truth = build(case)
    for norm in ("linf", "l2"):
        result = attack(victim, images, truth, Threat(eps=0, norm=norm))
        assert torch.equal(result.adversarial, images)


def test_mask_keeps_the_rest(case, attack):
    victim, images, truth = build(case)
    mask = torch.zeros(images.shape[2:])
    mask[..., : mask.shape[-1] // 2] = 1
    for norm in ("linf", "l2"):
        result = attack(victim, images, truth, Threat(eps=case.eps, norm=norm, mask=mask))
        changed = result.delta != 0
        assert not bool(changed[..., mask.shape[-1] // 2 :].any())
        assert bool(changed.flatten(1).any(1).all())


def test_empty_batch(case, attack):
    victim, images, truth = build(case)
    result = attack(victim, images[:0], truth[:0], Threat(eps=case.eps))
    assert result.adversarial.shape == images[:0].shape
    assert result.success.shape == result.loss.shape == (0,)


class Unmoved(nn.Module):
    """Depends on its input by a path whose gradient is exactly zero."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([0 * x.flatten(1).sum(1), torch.ones(len(x), dtype=x.dtype)], 1)


def test_zero_gradient_is_counted_and_does_not_stand_still(attack):
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
    truth = torch.tensor([0, 1])
    result = attack(victim, images, truth, Threat(eps=0.05))
    assert result.zero_gradients[0] == 0
    assert result.zero_gradients[1] > 0
    assert torch.isfinite(result.adversarial).all()


def test_frozen_batch_norm_stays_as_it_was(attack):
    victim, images, truth = build(CASES["1 channel"])
    norm = victim.model[1]
    norm.eval()
    attack(victim, images, truth, Threat(eps=0.03))
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
        attack(Victim(model, Classification(2)), torch.rand(1, 1, 4, 4), torch.tensor([0]), Threat(eps=0.1))
    assert_same_state(before, state(model))


def test_gradients_of_the_user_stay(attack):
    victim, images, truth = build(CASES["1 channel"])
    victim.model(images).sum().backward()
    before = {name: parameter.grad.clone() for name, parameter in victim.model.named_parameters()}
    attack(victim, images, truth, Threat(eps=0.03))
    for name, parameter in victim.model.named_parameters():
        assert torch.equal(parameter.grad, before[name])


def test_works_where_gradients_are_off(attack):
    victim, images, truth = build(CASES["1 channel"])
    expected = attack(victim, images, truth, Threat(eps=0.03)).adversarial
    with torch.no_grad():
        assert torch.equal(attack(victim, images, truth, Threat(eps=0.03)).adversarial, expected)
    with torch.inference_mode():
        assert torch.equal(attack(victim, images, truth, Threat(eps=0.03)).adversarial, expected)


def test_on_the_grid_of_the_quantum(attack):
    victim, images, truth = build(CASES["1 channel"])
    images = (images * 255).round() / 255
    for norm, eps in (("linf", 4 / 255), ("l2", 0.2)):
        result = attack(victim, images, truth, Threat(eps=eps, norm=norm, quantum=1 / 255))
        levels = result.adversarial.double() * 255
        assert float((levels - levels.round()).abs().max()) < 1e-4
        delta = result.delta.flatten(1)
        length = delta.abs().amax(1) if norm == "linf" else delta.norm(dim=1)
        assert float(length.max()) <= eps + 1e-6


def test_a_model_without_a_differentiable_path_is_told(attack):
    class Stepped(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return (x.flatten(1)[:, :3].detach() > 0.5).float()

    with pytest.raises(InputError, match="differentiable path"):
        attack(
            Victim(Stepped(), Classification(3)),
            torch.rand(2, 1, 4, 4),
            torch.tensor([0, 1]),
            Threat(eps=0.1),
        )


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


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_keep_best_is_never_weaker_with_more_steps(norm):
    victim, images, truth = build(CASES["1 channel"])
    threat = Threat(eps=0.08 if norm == "linf" else 0.5, norm=norm)
    for name in ("bim", "mi", "smia"):
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
