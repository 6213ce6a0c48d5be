"""Attacks on detectors: what every attack promises, for every family; TOG's goals; SMIA's term at the same anchors."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tiny_detectors import CLASSES, tiny_detector
from torch import Tensor, nn

import medrobust as mr
from medrobust.attacks import ATTACKS, DetectionGoal, IterativeAttack, Stabilized, make_attack
from medrobust.attacks.dag_loss import DAGLoss
from medrobust.attacks.inputs import Diversity
from medrobust.attacks.objectives import Iterate
from medrobust.errors import InputError
from medrobust.tasks import Placement, kl_divergence, position_mean

FAMILIES = ("ssdlite", "retinanet", "fcos", "faster_rcnn")
EPS = 4 / 255
THREAT = mr.Threat(EPS)


# of a set of images; by its answers alone
ELSEWHERE = ("universal", "square", "nes", "spsa", "hopskipjump", "standard", "medrobust")
# the loop with other parts, none of which asks what a detector is: one family will do
ON_ONE_FAMILY = ("ni", "vni", "pi", "ti", "smia-mi", "smia-di", "smia-ti", "smia-vmi")


def _attacks() -> dict[str, IterativeAttack]:
    names = [name for name, entry in ATTACKS.items() if not entry.tasks or "detection" in entry.tasks]
    quick = {"fgsm": {}, "sini": {"steps": 2, "copies": 2}}
    attacks = {name: make_attack(name, quick.get(name, {"steps": 2})) for name in names if name not in ELSEWHERE}
    return attacks | {
        "smia constant": mr.SMIA(steps=2, a2=0.5, through_target=False),
        "smia traced best": mr.SMIA(steps=2, trace=True, keep="best", random_start=True, restarts=2),
        "dag stabilized": mr.DAG(steps=2, a2=0.5, random_start=True),
        "tog vanishing": mr.TOG(steps=2, goal="vanishing", a2=1.0),
        "tog fabrication": mr.TOG(steps=2, goal="fabrication"),
        "tog mislabelling": mr.TOG(steps=2, goal="mislabelling", reference="truth", wrong="least_likely"),
    }


ATTACKS_UNDER_TEST = _attacks()


@pytest.fixture(params=FAMILIES)
def family(request) -> str:
    return request.param


@pytest.fixture(params=ATTACKS_UNDER_TEST.values(), ids=ATTACKS_UNDER_TEST.keys())
def attack(request) -> IterativeAttack:
    return request.param


def pytest_generate_tests(metafunc):
    given = [mark.args[0] for mark in metafunc.definition.iter_markers("parametrize")]
    if {"family", "attack"} <= set(metafunc.fixturenames) and "attack" not in given:
        pairs = [
            (family, name)
            for family in FAMILIES
            for name in ATTACKS_UNDER_TEST
            if name not in ON_ONE_FAMILY or family == FAMILIES[0]
        ]
        ids = [f"{family}-{name}" for family, name in pairs]
        metafunc.parametrize("family, attack", [(family, ATTACKS_UNDER_TEST[name]) for family, name in pairs], ids=ids)


def victim_of(family: str) -> mr.Victim:
    # the score of a tiny random detector is low: 0.3 still leaves some detections to count
    return mr.Victim(tiny_detector(family), mr.Detection(CLASSES, score=0.3))


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.rand(3, 3, 48, 64, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def truth() -> Tensor:
    """Two objects, none, and one."""
    rows = [
        torch.tensor([[4.0, 4, 30, 40, 0], [20, 10, 60, 44, 2]]),
        torch.zeros(0, 5),
        torch.tensor([[8.0, 6, 50, 30, 1]]),
    ]
    return mr.pad_boxes(rows)


def state(model: nn.Module) -> dict[str, Tensor | bool | None]:
    return {
        **{name: tensor.clone() for name, tensor in model.state_dict().items()},
        **{f"{name} training": module.training for name, module in model.named_modules()},
        **{f"{name} learns": weight.requires_grad for name, weight in model.named_parameters()},
        **{f"{name} grad": weight.grad for name, weight in model.named_parameters()},
    }


def test_the_promises_of_an_attack(family, attack, images, truth):
    victim = victim_of(family)
    victim.model.train()  # a victim must cope, and put it back
    before, rng = state(victim.model), torch.get_rng_state()
    result = attack(victim, images, truth, THREAT, seed=3, ids=["a", "b", "c"])

    assert float(result.delta.abs().max()) <= EPS + 1e-6
    assert 0 <= float(result.adversarial.min()) <= float(result.adversarial.max()) <= 1
    assert bool(result.delta.flatten(1).any(1).all()), "an image was not attacked"
    for name, value in state(victim.model).items():
        same = torch.equal(value, before[name]) if isinstance(value, Tensor) else value == before[name]
        assert same, f"{name} changed"
    assert torch.equal(rng, torch.get_rng_state()), "the global generator was used"

    with torch.no_grad():
        fresh = victim(result.adversarial)
    torch.testing.assert_close(result.loss, victim.task.loss(fresh, truth), rtol=1e-4, atol=1e-5)
    assert torch.equal(result.success, victim.task.fooled(fresh, truth))
    assert result.zero_gradients.tolist() == [0] * 3

    # the neighbours and their number of objects change nothing
    alone = attack(victim, images[2:], truth[2:, :1], THREAT, seed=3, ids=["c"])
    differing = (alone.adversarial[0] - result.adversarial[2]).abs() > 1e-6
    # rounding turns a sign here and there, some machines' by a fortieth; what hung on the neighbours would turn half
    assert float(differing.double().mean()) <= 0.05


def test_an_empty_batch(family, attack, images, truth):
    result = attack(victim_of(family), images[:0], truth[:0], THREAT)
    assert result.adversarial.shape == images[:0].shape


@pytest.mark.parametrize("name", ["fgsm", "bim", "pgd", "mi", "di", "smia"])
def test_the_loss_rises(family, name, images, truth):
    victim = victim_of(family)
    with torch.no_grad():
        clean = victim.task.loss(victim(images), truth)
    raised = make_attack(name, {} if name == "fgsm" else {"steps": 5})(victim, images, truth, THREAT).loss
    assert float((raised - clean).mean()) > 0


def test_images_of_different_sizes_are_as_if_alone(family):
    victim, attack = victim_of(family), mr.SMIA(steps=2)
    generator = torch.Generator().manual_seed(1)
    images = [torch.rand(3, *size, generator=generator) for size in ((48, 64), (64, 40), (48, 64))]
    truth = [
        torch.tensor([[4.0, 4, 30, 40, 0]]),
        torch.tensor([[2.0, 3, 20, 50, 1], [5, 5, 30, 30, 2]]),
        torch.zeros(0, 5),
    ]
    together = attack(victim, images, truth, THREAT, ids=["a", "b", "c"])
    for place, name in enumerate("abc"):
        alone = attack(victim, images[place][None], truth[place][None], THREAT, ids=[name])
        assert together.adversarial[place].shape == images[place].shape
        differing = (together.adversarial[place] - alone.adversarial[0]).abs() > 1e-6
        assert float(differing.double().mean()) <= 0.002
        torch.testing.assert_close(together.loss[place], alone.loss[0], rtol=1e-3, atol=1e-4)


def test_smia_without_its_term_is_bim_bit_for_bit(family, images, truth):
    victim = victim_of(family)
    smia, bim = (kind(victim, images, truth, THREAT) for kind in (mr.SMIA(a2=0, step_size=EPS / 4), mr.BIM()))
    assert torch.equal(smia.adversarial, bim.adversarial)


def test_the_term_compares_the_same_anchors_where_an_object_is_seen(family, images, truth):
    """D by hand: KL of class scores at the proposals of x', over those either prediction takes for an object."""
    victim, term = victim_of(family), Stabilized(a1=0.0, a2=1.0)
    current = images.clone().requires_grad_()
    with victim.evaluating(), torch.enable_grad():
        terms = term(victim, Iterate(0, 1, images, current, truth, 1))
        here, smooth = victim.forward(current), victim.forward(term.smoothing(current))
        detector = here.detector
        places = detector.places(here)
        log_p, log_q = (detector.log_probs(outputs, places) for outputs in (here, smooth))
        seen = torch.maximum(1 - log_p[:, 0].exp(), 1 - log_q[:, 0].exp()) >= 0.05
        wanted = position_mean(kl_divergence(log_q, log_p), seen)
        (gradient,) = torch.autograd.grad(terms.total.sum(), current)
    assert bool(seen.flatten(1).any(1).all())
    torch.testing.assert_close(-terms.total, wanted, rtol=1e-4, atol=1e-6)
    assert float(gradient.abs().max()) > 0
    torch.testing.assert_close(position_mean(log_p.exp().sum(1)), torch.ones(3))


def test_the_trajectory_ends_at_its_own_fixed_spot(family, images, truth):
    path = mr.SMIA(steps=3, trace=True)(victim_of(family), images, truth, THREAT).trajectory
    assert path.deviation.shape == (4, 3)
    assert path.kl_final[-1].abs().max() < 1e-6
    assert path.kl_initial[0].abs().max() < 1e-6
    assert bool((path.kl_initial[1:] > 0).all())
    assert torch.isfinite(path.stabilization).all()


class TestGoals:
    """TOG: each goal does to the detections what its name says."""

    @pytest.fixture
    def victim(self, family) -> mr.Victim:
        return victim_of(family)

    def test_vanishing_and_fabrication(self, victim, images, truth):
        def seen(pictures: Tensor) -> float:
            """How much of an object all anchors together see."""
            with torch.no_grad():
                return float((1 - victim.task.log_probs(victim(pictures))[:, 0].exp()).sum())

        less, more = (
            seen(mr.TOG(goal=goal)(victim, images, truth, mr.Threat(8 / 255)).adversarial)
            for goal in ("vanishing", "fabrication")
        )
        assert less < seen(images) < more

    def test_the_objects_to_leave_are_all_it_detects(self, victim, images, truth):
        with victim.evaluating(), torch.no_grad():
            wanted = DetectionGoal().begin(victim, images, truth).wanted
            found = victim.forward(images).detections
        for rows, one in zip(wanted, found, strict=True):
            chosen = one.where(one.scores >= victim.task.score)
            assert len(chosen.labels) > 1, "too little is found: the test proves nothing"
            rows = rows[rows[:, 4] >= 0]
            torch.testing.assert_close(rows[:, :4], chosen.boxes)
            assert rows[:, 4].tolist() == chosen.labels.tolist()

    @pytest.mark.parametrize(("goal", "sign"), [("vanishing", -1), ("fabrication", 1)])
    def test_nothing_is_what_the_image_is_to_show_or_to_leave(self, victim, images, truth, goal, sign):
        iterate = Iterate(0, 1, images, images, truth, 1)
        with victim.evaluating(), torch.no_grad():
            found = DetectionGoal(goal=goal).begin(victim, images, truth)(victim, iterate).total
            empty = victim.task.loss(victim.forward(images), torch.zeros(3, 0, 5))
        torch.testing.assert_close(found, sign * empty)

    def test_they_move_the_loss_against_the_truth_they_make_up(self, victim, images, truth):
        empty = truth[:, :0]
        with torch.no_grad():
            clean, own = victim(images), victim.task.predict(victim(images))
            before = {"empty": victim.task.loss(clean, empty), "own": victim.task.loss(clean, own)}
        for goal, against, sign in (
            ("vanishing", "empty", -1),
            ("fabrication", "empty", 1),
            ("untargeted", "own", 1),
        ):
            attacked = mr.TOG(goal=goal)(victim, images, truth, THREAT).adversarial
            with torch.no_grad():
                after = victim.task.loss(victim(attacked), empty if against == "empty" else own)
            assert sign * float((after - before[against]).mean()) > 0, goal

    def test_untargeted_from_the_truth_is_pgd(self, victim, images, truth):
        tog = mr.TOG(reference="truth")(victim, images, truth, THREAT, seed=5)
        pgd = mr.PGD(step_size=EPS / 4)(victim, images, truth, THREAT, seed=5)
        assert torch.equal(tog.adversarial, pgd.adversarial)

    @pytest.mark.parametrize("wrong", ["most_likely", "least_likely"])
    def test_mislabelling_takes_the_wrong_class_of_least_or_most_loss(self, victim, images, truth, wrong):
        goal = DetectionGoal(goal="mislabelling", reference="truth", wrong=wrong)
        with victim.evaluating():
            wanted = goal.begin(victim, images, truth).wanted
        outputs, chosen = victim(images), min if wrong == "most_likely" else max
        for image, place in ((0, 0), (0, 1), (2, 0)):
            own = int(truth[image, place, 4])
            losses = {}
            for label in set(range(CLASSES)) - {own}:
                changed = truth.clone()
                changed[image, place, 4] = label
                losses[label] = float(victim.task.loss(outputs, changed)[image])
            assert int(wanted[image, place, 4]) == chosen(losses, key=losses.get)
        assert torch.equal(wanted[..., :4], truth[..., :4])
        assert wanted[1].tolist() == truth[1].tolist(), "an image without objects has none to mislabel"

    def test_what_it_wants_moves_with_the_images(self, victim, images, truth):
        """Images made smaller and moved show the boxes elsewhere; TOG's own truth goes along."""
        placement = Placement([(24, 32)] * 3, [(10, 20)] * 3)
        frame = torch.Size([48, 64])
        moved, elsewhere = placement.images(images, 0.0), placement.boxes(truth, frame)
        goal = replace(DetectionGoal(reference="truth"), wanted=truth)
        with victim.evaluating(), torch.no_grad():
            iterate = Iterate(0, 1, moved, moved, elsewhere, 1, placement=placement)
            assert torch.equal(goal(victim, iterate).total, victim.task.loss(victim.forward(moved), elsewhere))


class TestDAG:
    """DAG: objects of the clean image, until none is seen."""

    def test_by_the_formula(self, family, images, truth):
        """Anchor by anchor: the targets of the clean image, and what is left of them on another image."""
        victim = victim_of(family)
        current = (images + 0.05 * torch.randn(images.shape, generator=torch.Generator().manual_seed(2))).clamp(0, 1)
        iterate = Iterate(0, 1, images, current, truth, 1)
        with victim.evaluating(), torch.no_grad():
            clean, after = victim.forward(images), victim.forward(current)
            places = clean.detector.places(clean)
            p, q = (clean.detector.log_probs(outputs, places) for outputs in (clean, after))
            terms = DAGLoss().begin(victim, images, truth)(victim, iterate)
        moved = 0
        for image in range(3):
            values = []
            for place in range(p.shape[2]):
                label, other = sorted(range(p.shape[1]), key=lambda k: -p[image, k, place])[:2]
                if label == 0:
                    continue
                scores = q[image, :, place]
                still = int(scores.argmax()) == label
                moved += not still
                values.append(float(scores[other] - scores[label]) if still else 0.0)
            assert values, "nothing is seen: the test proves nothing"
            assert float(terms.total[image]) == pytest.approx(sum(values) / len(values), rel=1e-3, abs=1e-5)
            assert bool(terms.left[image]) == any(values)
        assert moved, "nothing was moved: the test proves nothing"

    def test_fewer_objects_keep_their_answer(self, family, images, truth):
        """Most of them are moved, and more than by PGD, which is after the loss."""
        victim, threat = victim_of(family), mr.Threat(32 / 255)
        with torch.no_grad():
            clean = victim(images)
            places = victim.task.places(clean)
            label = victim.task.log_probs(clean).argmax(1)

        def kept(attack: IterativeAttack) -> float:
            outputs = attack(victim, images, truth, threat).outputs
            with torch.no_grad():
                same = victim.task.log_probs_at(outputs, places).argmax(1) == label
            return float(same[label != 0].double().mean())

        ours = kept(mr.DAG(steps=6))
        assert ours < 0.7
        assert ours < kept(mr.PGD(steps=6)) - 0.1

    def test_an_image_in_which_nothing_is_seen_stays(self, images, truth):
        victim = victim_of("ssdlite")
        with torch.no_grad():
            dark = torch.zeros_like(images[:1])
            for layer in victim.model.head.classification_head.modules():
                if isinstance(layer, nn.Conv2d) and layer.bias is not None:
                    layer.bias.view(-1, CLASSES + 1)[:, 0] += 200
            assert int((victim.task.log_probs(victim(images)).argmax(1) != 0).sum()) == 0
        result = mr.DAG(steps=2, a2=1.0)(victim, torch.cat([images, dark]), torch.cat([truth, truth[:1]]), THREAT)
        assert not result.delta.any()
        assert result.zero_gradients.tolist() == [0] * 4

    def test_what_it_cannot_do(self, images, truth):
        victim = victim_of("ssdlite")
        with pytest.raises(InputError, match="against a detector DAG has no target to reach"):
            mr.DAG(steps=1, targeted=True)(victim, images, truth, THREAT)

        class Moved(mr.DAG):
            def input_parts(self) -> tuple[Diversity]:
                return (Diversity(),)

        with pytest.raises(InputError, match="targets are places of the clean image"):
            Moved(steps=1)(victim, images, truth, THREAT)


@pytest.mark.parametrize("attack", [mr.DAG(a2=0.7), mr.TOG(a2=0.7, goal="vanishing")], ids=["dag", "tog"])
def test_a2_adds_smias_term(family, attack, images, truth):
    """J = inner − a2·D, D as the task has it."""
    victim, iterate = victim_of(family), Iterate(0, 1, images, images, truth, 1)
    objective = attack.objective()
    with victim.evaluating(), torch.no_grad():
        alone = attack.inner().begin(victim, images, truth)(victim, iterate).total
        found = objective.begin(victim, images, truth)(victim, iterate).total
        here, smooth = victim.forward(images), victim.forward(objective.smoothing(images))
        distance = victim.task.consistency(here, smooth)
    assert bool((distance > 0).all())
    torch.testing.assert_close(found, alone - 0.7 * distance, rtol=1e-3, atol=1e-4)


def test_a_detector_in_half_precision(family, images, truth):
    single, half = victim_of(family), victim_of(family)
    half.model.to(torch.bfloat16)
    result = mr.SMIA(steps=2)(half, images, truth, THREAT)
    assert result.adversarial.dtype == torch.float32
    assert bool(result.delta.flatten(1).any(1).all())
    with torch.no_grad():
        loss = single.task.loss(single(images), truth)
        torch.testing.assert_close(half.task.loss(half(images), truth), loss, rtol=0.15, atol=0.1)


def test_goals_that_cannot_be():
    with pytest.raises(InputError, match="goal must be one of untargeted, vanishing, fabrication, mislabelling"):
        mr.TOG(goal="hiding")
    classifier = nn.Sequential(nn.Flatten(), nn.Linear(16, 2))
    with pytest.raises(InputError, match="TOG is for detection, the task is classification"):
        mr.TOG()(mr.Victim(classifier, mr.Classification(2)), torch.rand(1, 1, 4, 4), torch.tensor([0]), THREAT)


def test_a_classifier_is_no_detector(images, truth):
    victim = mr.Victim(nn.Sequential(nn.Flatten(), nn.Linear(9216, 2)), mr.Detection(CLASSES))
    with pytest.raises(InputError, match="Sequential is no detector of a known family"):
        mr.PGD()(victim, images, truth, THREAT)
