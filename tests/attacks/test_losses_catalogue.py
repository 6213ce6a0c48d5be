"""Objectives by name: what may be written, what an attack makes of it, and what is told of a mistake."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import nn

from medrobust.attacks import BIM, Stabilized, TaskLoss
from medrobust.attacks.dense_losses import ASMALoss, CosPGDLoss
from medrobust.attacks.losses import Margin, TargetedDLR
from medrobust.attacks.losses_catalogue import LOSSES, make_loss
from medrobust.attacks.objectives import Iterate
from medrobust.errors import InputError
from medrobust.tasks import Classification
from medrobust.threat import Threat
from medrobust.transforms import GaussianSmoothing
from medrobust.victim import Victim


@dataclass(frozen=True, kw_only=True)
class Climb(BIM):
    """BIM on a loss that is written."""

    loss: object = "cross_entropy"

    def objective(self):
        return make_loss(self.loss)


def small_classifier():
    torch.manual_seed(0)
    victim = Victim(nn.Sequential(nn.Flatten(), nn.Linear(16, 5, bias=False)), Classification(5))
    images = torch.rand(6, 1, 4, 4)
    return victim, images, victim(images).argmax(1)


def test_an_image_beyond_the_confidence_stays():
    victim, images, truth = small_classifier()
    wrong = (truth + 1) % 5
    below = (victim(images).amax(1) - victim(images).gather(1, wrong[:, None])[:, 0]).detach()
    threshold = float(below.median())
    result = Climb(loss={"margin": {"confidence": threshold}}, steps=1)(victim, images, wrong, Threat(eps=0.1))
    assert result.delta.flatten(1).any(1).tolist() == (below < threshold).tolist()
    assert result.zero_gradients.tolist() == [0] * 6


WRITTEN = ["margin", "dlr", "logit", "squared", "js", {"stabilized": {"inner": "margin", "a2": 0.3}}]


@pytest.mark.parametrize("written", [*WRITTEN, "masked_ce", "balanced_masked_ce"], ids=str)
def test_each_fools_a_classifier(written):
    victim, images, truth = small_classifier()
    result = Climb(loss=written)(victim, images, truth, Threat(eps=0.5))
    assert result.success.all()


@pytest.mark.parametrize("targeted", [False, True])
@pytest.mark.parametrize("written", WRITTEN, ids=str)
def test_each_is_climbed(written, targeted):
    victim, images, truth = small_classifier()
    goal = (truth + 1) % 5 if targeted else truth
    result = Climb(loss=written, targeted=targeted)(victim, images, goal, Threat(eps=0.1))
    before, after = (
        make_loss(written)(victim, Iterate(0, 1, images, shown, goal, -1 if targeted else 1)).total
        for shown in (images, result.adversarial)
    )
    assert bool((after > before).all())


def test_stabilized_takes_its_inner_by_position():
    objective = Stabilized(CosPGDLoss(), a2=0.5)
    assert objective == Stabilized(inner=CosPGDLoss(), a2=0.5)
    with pytest.raises(TypeError):
        Stabilized(CosPGDLoss(), 1.0)
    with pytest.raises(InputError, match="inner must be an OutputObjective, got 'cospgd'"):
        Stabilized("cospgd")


@pytest.mark.parametrize("name", LOSSES)
def test_every_name_makes_its_objective(name):
    assert type(make_loss(name)) is LOSSES[name]
    assert type(make_loss({name: None})) is LOSSES[name]


def test_written_losses():
    assert make_loss({"margin": {"confidence": 5}}) == Margin(confidence=5)
    assert make_loss({"asma": {"distance": 0}}) == ASMALoss(0)
    made = make_loss({"stabilized": {"inner": "cospgd", "a2": 0.5}})
    assert made == Stabilized(CosPGDLoss(), a2=0.5)
    written = {"stabilized": {"inner": {"margin": {"confidence": 1}}, "smoothing": {"kernel_size": 5, "sigma": 2}}}
    assert make_loss(written) == Stabilized(Margin(confidence=1), smoothing=GaussianSmoothing(5, 2))
    given = TargetedDLR(torch.tensor([1]))
    assert make_loss(given) is given
    assert make_loss(made) is made
    assert isinstance(make_loss({"stabilized": {"inner": given}}).inner, TargetedDLR)
    assert isinstance(make_loss({"stabilized": {}}).inner, TaskLoss)


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("margn", "unknown loss 'margn': did you mean 'margin'?"),
        ({"dlrr": {}}, "unknown loss 'dlrr': did you mean 'dlr'?"),
        ({"margin": {"confidance": 1}}, "unknown option of loss margin 'confidance': did you mean 'confidence'?"),
        ({"margin": {"confidence": -1}}, "loss margin: confidence must be a finite number, at least 0, got -1"),
        ({"js": {"k": 1}}, "loss js takes no options, got 'k'"),
        ({"asma": {"distance": "far"}}, "loss asma: distance must be a finite number, at least 0, got 'far'"),
        ({"stabilized": {"inner": "cos"}}, "unknown loss 'cos'"),
        ({"stabilized": {"inner": "stabilized"}}, "loss stabilized: inner must be an OutputObjective"),
        ({"stabilized": {"smoothing": {"size": 3}}}, "unknown option of smoothing 'size'"),
        ({"stabilized": {"a2": "much"}}, "loss stabilized: a2 must be a finite number"),
        ({"margin": {}, "dlr": {}}, "loss is a name or {margin: {confidence: 5}} (or an objective itself), got"),
        ({"margin": 5}, "loss is a name"),
        (None, "loss is a name or {margin: {confidence: 5}} (or an objective itself), got None"),
        (Margin, "loss is a name"),
    ],
)
def test_what_is_written_wrongly_is_told(written, message):
    with pytest.raises(InputError) as caught:
        make_loss(written)
    assert str(caught.value).startswith(message)
