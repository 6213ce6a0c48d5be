"""Gradients estimated from scores: the formula on a linear objective, and parts of the loop around them."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from attacks.asked import Counting, right
from attacks.test_contract import CASES, build
from torch import Tensor, nn

from medrobust.attacks import SMIA, make_attack
from medrobust.attacks.case import opened
from medrobust.attacks.copies import Expectation, Scales
from medrobust.attacks.estimated import NES, SPSA
from medrobust.attacks.estimates import NaturalEvolution, SimultaneousPerturbation
from medrobust.attacks.gradients import VarianceTuning
from medrobust.attacks.losses import Margin
from medrobust.black_box import BlackBox
from medrobust.errors import InputError
from medrobust.tasks import Classification
from medrobust.threat import Threat, sample_generators
from medrobust.victim import Victim

KINDS = (NaturalEvolution, SimultaneousPerturbation)


class Linear(nn.Module):
    """Logits 0 and w·x + b."""

    def __init__(self, weights: Tensor, bias: float = 0.0) -> None:
        super().__init__()
        self.weights, self.bias = weights, bias

    def forward(self, x: Tensor) -> Tensor:
        score = (x * self.weights.to(x)).flatten(1).sum(1) + self.bias
        return torch.stack([torch.zeros_like(score), score], 1)


WEIGHTS = torch.randn(1, 4, 5, generator=torch.Generator().manual_seed(2))
IMAGES = 0.3 + 0.4 * torch.rand(3, 1, 4, 5, generator=torch.Generator().manual_seed(3))


def estimated(kind, images: Tensor = IMAGES, threat: Threat | None = None, **options) -> Tensor:
    """The gradient of w·x at the images."""
    victim = Victim(Linear(WEIGHTS), Classification(2))
    truth = torch.zeros(len(images), dtype=torch.int64)
    with opened(victim, images, truth, threat or Threat(0.1), 4, None, targeted=False) as case:
        source = kind(**options).begin(case, "source 0")

        def evaluate(variables: Tensor, copies: int = 1):
            total = (variables.double() * WEIGHTS.double()).flatten(1).sum(1)
            return SimpleNamespace(total=total), SimpleNamespace(copies=copies)

        return source(evaluate, images)[1]


@pytest.mark.parametrize("at_once", [2, 5, 100])
@pytest.mark.parametrize("kind", KINDS)
def test_the_formula_on_a_linear_objective(kind, at_once):
    """ĝ is the mean of (w·u) u over the directions, whatever the width and however many are asked at once."""
    found = estimated(kind, directions=7, at_once=at_once)
    for row, generator in enumerate(sample_generators(4, range(3), "source 0")):
        wanted = np.zeros((1, 4, 5))
        for _ in range(7):
            if kind is NaturalEvolution:
                u = torch.randn((1, 4, 5), generator=generator).numpy()
            else:
                u = torch.randint(0, 2, (1, 4, 5), generator=generator, dtype=torch.int8).numpy() * 2.0 - 1
            wanted += (WEIGHTS.numpy() * u).sum() * u / 7
        assert np.abs(found[row].numpy() - wanted).max() < 1e-3 * np.abs(wanted).max()


@pytest.mark.parametrize("kind", KINDS)
def test_many_directions_find_the_gradient(kind):
    found = estimated(kind, directions=2000)
    assert float(torch.cosine_similarity(found.flatten(1), WEIGHTS.flatten()[None]).min()) > 0.97
    assert found.flatten(1).norm(dim=1).tolist() == pytest.approx([float(WEIGHTS.norm())] * 3, rel=0.1)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_asked_where_nothing_may_change(kind):
    mask = torch.zeros(4, 5)
    mask[1:3] = 1
    found = estimated(kind, threat=Threat(0.1, mask=mask), directions=300)
    assert not bool(found[:, :, [0, 3]].any())
    inside = torch.cosine_similarity(found[:, :, 1:3].flatten(1), WEIGHTS[:, 1:3].flatten()[None])
    assert float(inside.min()) > 0.9


@pytest.mark.parametrize("kind", KINDS)
def test_pixels_at_their_bounds_are_seen_as_well_as_others(kind):
    found = estimated(kind, torch.rand(1, 1, 4, 5, generator=torch.Generator().manual_seed(0)).round(), directions=3000)
    assert float(torch.cosine_similarity(found.flatten(1), WEIGHTS.flatten()[None])) > 0.97
    assert float(found.norm() / WEIGHTS.norm()) == pytest.approx(1, rel=0.1)


def test_the_width_is_a_share_of_the_bounds():
    class Near(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return Linear(WEIGHTS / 4000)(x)

    seen = []
    victim = Victim(Near(), Classification(2), (-1000, 3000))
    box = BlackBox(lambda x: seen.append(x) or victim(x), Classification(2), victim.bounds)
    images = torch.full((1, 1, 4, 5), 500.0)
    SPSA(steps=1, directions=3)(box, images, torch.zeros(1, dtype=torch.int64), Threat(20))
    largest = max(float((x - images).abs().max()) for x in seen[:3])
    assert largest == pytest.approx(40)  # a hundredth of 4000 HU
    SPSA(steps=1, directions=3, width=7.0)(box, images, torch.zeros(1, dtype=torch.int64), Threat(5))
    assert float((seen[-2] - images).abs().max()) == pytest.approx(7)


@pytest.mark.parametrize("attack", [NES, SPSA])
def test_with_many_directions_it_is_the_attack_on_the_gradient(attack):
    victim = Victim(Linear(WEIGHTS, -50.0), Classification(2))
    truth = torch.zeros(3, dtype=torch.int64)
    result = attack(steps=4, directions=1500, at_once=500)(victim, IMAGES, truth, Threat(0.1))
    sure = (WEIGHTS.abs() > 0.5).expand_as(result.delta)  # the others drown in the noise of 1500 directions
    assert int(sure.sum()) > 20
    wanted = (0.1 * WEIGHTS.sign()).expand_as(result.delta)
    assert float((result.delta - wanted)[sure].abs().max()) < 0.02


COUNTED = {
    "nes": (NES(steps=3, directions=4), 3 * (2 * 4 + 2)),
    "nes to the end": (NES(steps=3, directions=4, early_stop=False), 3 * (2 * 4 + 1)),
    "spsa in parts": (SPSA(steps=2, directions=5, at_once=4), 2 * (2 * 5 + 2)),
    "best kept": (NES(steps=3, directions=4, early_stop=False, keep="best"), 3 * (2 * 4 + 1)),
    "scales": (NES(steps=2, directions=3, inputs=[Scales(3)]), 2 * (3 * (2 * 3 + 1) + 1)),
    "expectation": (
        NES(steps=2, directions=3, inputs=[Expectation({"noise": {"sigma": 0.01}}, samples=2)]),
        2 * (2 * (2 * 3 + 1) + 1),
    ),
    "stabilized": (NES(steps=2, directions=3, loss="stabilized"), 2 * (2 * (2 * 3 + 1) + 1)),
    "variance": (
        NES(steps=3, directions=2, early_stop=False, gradients=[VarianceTuning(neighbours=2)]),
        3 * 5 + 2 * 2 * 5,
    ),
    "restarts": (NES(steps=2, directions=3, restarts=2), 2 * 2 * (2 * 3 + 2)),
}


@pytest.mark.parametrize("name", COUNTED)
def test_every_question_is_counted(name):
    attack, wanted = COUNTED[name]
    victim = Victim(Linear(WEIGHTS, -50.0), Classification(2))  # out of reach
    counting = Counting(victim)
    truth = torch.zeros(3, dtype=torch.int64)
    result = attack(counting.victim, IMAGES, truth, Threat(0.01))
    assert result.queries.tolist() == [wanted] * 3
    measured = 2 if "best" in name or "restarts" in name else 1
    assert counting.asked == 3 * (wanted + measured)


def test_gradients_are_no_questions():
    victim, images, truth = build(CASES["1 channel"])
    assert make_attack("pgd", {"steps": 2})(victim, images, truth, Threat(0.1)).queries.tolist() == [0] * 4


def test_an_image_leaves_before_the_next_estimate():
    victim = Victim(Linear(WEIGHTS, -float((IMAGES[0] * WEIGHTS).sum()) - 0.05), Classification(2))
    image, truth = IMAGES[:1], torch.zeros(1, dtype=torch.int64)
    result = NES(steps=50, directions=20)(victim, image, truth, Threat(0.1))
    assert result.success.item()
    steps = int(result.steps_used)
    assert 1 <= steps < 10
    assert result.queries.item() == steps * 42 + 1


def test_smia_on_a_black_box():
    victim, images, truth = right("1 channel")
    box = BlackBox(victim.model, victim.task)
    smia = make_attack("smia", {"steps": 3, "estimate": {"nes": {"directions": 60}}})
    assert isinstance(smia, SMIA)
    assert smia.describe()["estimate"]["part"] == "NaturalEvolution"
    before = victim.task.loss(victim(images), truth)
    result = smia(box, images, truth, Threat(0.05))
    assert bool((result.loss > before).all())
    assert bool((result.queries > 300).all())
    plain = make_attack("pgd", {"steps": 3, "estimate": "spsa"})(box, images, truth, Threat(0.05))
    assert float((plain.loss - before).mean()) > 0


def test_the_margin_is_climbed_unless_another_loss_is_given():
    assert NES().objective() == Margin()
    assert NES(loss="dlr").objective() != Margin()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: NES(directions=0), "directions must be a whole number of at least 1"),
        (lambda: SPSA(at_once=1), "at_once must be a whole number of at least 2"),
        (lambda: NES(width=0.0), "width must be a finite number above 0"),
        (lambda: make_attack("pgd", {"estimate": "nos"}), "unknown estimate 'nos': did you mean 'nes'"),
    ],
)
def test_options_that_do_not_do(make, words):
    with pytest.raises(InputError, match=words):
        make()
