"""The objectives over pixels against the papers' formulas, written a second time in NumPy or by a plain loop."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from medrobust.attacks import ASMA, BIM, DAG, SMIA, CosPGD, SegPGD, Stabilized
from medrobust.attacks.case import opened
from medrobust.attacks.dag_loss import DAGLoss
from medrobust.attacks.dense import AdaptiveStep
from medrobust.attacks.dense_losses import ASMALoss, CosPGDLoss, SegPGDLoss
from medrobust.attacks.objectives import Iterate, Terms
from medrobust.attacks.steps import Situation
from medrobust.errors import InputError
from medrobust.tasks import Segmentation, position_mean
from medrobust.threat import Threat
from medrobust.transforms import GaussianSmoothing
from medrobust.victim import Victim

IGNORE = 9


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def at(truth, sign=1, index=0, steps=10) -> Iterate:
    images = torch.zeros(len(truth), 1, *truth.shape[1:])
    return Iterate(index, steps, images, images, truth, sign)


def softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max(0))
    return e / e.sum(0)


def pixel_by_pixel(outputs, truth, weigh) -> list[float]:
    """Mean over the used pixels of weigh(logits, label), one image after the other."""
    values = []
    for z, y in zip(outputs.double().numpy(), truth.numpy(), strict=True):
        terms = [weigh(z[(slice(None), *place)], y[place]) for place in np.ndindex(y.shape) if y[place] != IGNORE]
        values.append(float(np.mean(terms)))
    return values


@pytest.mark.parametrize("spatial", [(5, 4), (3, 4, 2)])
@pytest.mark.parametrize("sign", [1, -1])
def test_segpgd_by_the_formula(spatial, sign):
    outputs, truth = torch.randn(2, 3, *spatial), torch.randint(0, 3, (2, *spatial))
    truth[:, 0, 0] = IGNORE
    for step in (1, 4, 10):  # t counts from 1 in the paper
        share = (step - 1) / (2 * 10)

        def weigh(z, y, share=share):
            reached = (z.argmax() == y) == (sign > 0)  # still to be moved
            return ((1 - share) if reached else share) * -np.log(softmax(z)[y])

        found = SegPGDLoss().deviation(Segmentation(3, ignore_index=IGNORE), outputs, at(truth, sign, step - 1))
        assert found.tolist() == pytest.approx(pixel_by_pixel(outputs, truth, weigh), rel=1e-5)


@pytest.mark.parametrize("sign", [1, -1])
def test_cospgd_by_the_formula(sign):
    """As the authors' package weighs it: `F.cosine_similarity(softmax(f), one_hot(y))`, 1 minus it when targeted."""
    outputs, truth = torch.randn(2, 4, 6, 5), torch.randint(0, 4, (2, 6, 5))
    one_hot = F.one_hot(truth, 4).movedim(-1, 1).float()
    cosine = F.cosine_similarity(outputs.softmax(1), one_hot, dim=1, eps=1e-20)
    weight = cosine if sign > 0 else 1 - cosine
    expected = (weight * F.cross_entropy(outputs, truth, reduction="none")).flatten(1).mean(1)
    found = CosPGDLoss().deviation(Segmentation(4), outputs, at(truth, sign))
    assert torch.allclose(found, expected, atol=1e-6)


def test_the_weights_are_constants():
    """The gradient is the weight times that of the cross-entropy: weight · (p − y) / pixels."""
    outputs, truth = torch.randn(1, 3, 4, 4, requires_grad=True), torch.randint(0, 3, (1, 4, 4))
    p, y = outputs.softmax(1).detach(), F.one_hot(truth, 3).movedim(-1, 1)
    right = (p.argmax(1) == truth).float()
    cosine = (p * y).sum(1) / p.norm(dim=1)
    for loss, weight in ((SegPGDLoss(), 0.75 * right + 0.25 * (1 - right)), (CosPGDLoss(), cosine)):
        value = loss.deviation(Segmentation(3), outputs, at(truth, index=5))
        (gradient,) = torch.autograd.grad(value.sum(), outputs)
        assert torch.allclose(gradient, weight.unsqueeze(1) * (p - y) / 16, atol=1e-6)


@pytest.mark.parametrize("sign", [1, -1])
def test_dag_by_the_formula(sign):
    outputs, truth = torch.randn(2, 3, 5, 4), torch.randint(0, 3, (2, 5, 4))
    truth[0, 0] = IGNORE

    def weigh(z, y):
        moved = (z.argmax() != y) == (sign > 0)
        return 0.0 if moved else np.delete(z, y).max() - z[y]

    found = DAGLoss().deviation(Segmentation(3, ignore_index=IGNORE), outputs, at(truth, sign))
    assert found.tolist() == pytest.approx(pixel_by_pixel(outputs, truth, weigh), rel=1e-5)


def test_asma_by_the_formula():
    outputs, target = torch.randn(2, 3, 5, 4), torch.randint(0, 3, (2, 5, 4))
    clean, current = torch.rand(2, 1, 5, 4), torch.rand(2, 1, 5, 4)
    iterate = replace(at(target, -1), clean=clean, current=current)
    raised = pixel_by_pixel(outputs, target, lambda z, y: z[y] * (z.argmax() != y))
    far = ((current - clean) ** 2).sum((1, 2, 3)) / 20
    found = ASMALoss(distance=0.5).deviation(Segmentation(3), outputs, iterate)
    assert found.tolist() == pytest.approx([0.5 * float(f) - r for f, r in zip(far, raised, strict=True)], rel=1e-5)


@pytest.mark.parametrize("loss", [SegPGDLoss(), CosPGDLoss(), DAGLoss()], ids=lambda loss: type(loss).__name__)
@pytest.mark.parametrize("sign", [1, -1])
def test_one_logit_and_a_label_are_two_classes(loss, sign):
    logit, truth = torch.randn(2, 1, 4, 3), torch.randint(0, 2, (2, 4, 3))
    pair = torch.cat([torch.zeros_like(logit), logit], 1)
    expected = loss.deviation(Segmentation(2), pair, at(truth, sign, 3))
    assert torch.allclose(loss.deviation(Segmentation(2), logit, at(truth, sign, 3)), expected, atol=1e-6)
    label = Segmentation(1, multilabel=True)
    assert torch.allclose(loss.deviation(label, logit, at(truth.unsqueeze(1), sign, 3)), expected, atol=1e-6)


def test_asma_takes_one_logit_both_ways():
    logit, target = torch.tensor([[[[2.0, -3.0]]]]), torch.tensor([[[0, 1]]])  # both still wrong
    found = ASMALoss().deviation(Segmentation(2), logit, at(target, -1))
    assert found.tolist() == [-(-2.0 - 3.0) / 2]
    label = Segmentation(1, multilabel=True)
    assert ASMALoss().deviation(label, logit, at(target.unsqueeze(1), -1)).tolist() == found.tolist()


class Threshold(nn.Module):
    """Class 1 where the mean over 3 × 3 pixels is above a half."""

    def forward(self, x):
        bright = 10 * (F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False) - 0.5)
        return torch.cat([-bright, bright], 1)


def bright_batch():
    victim, images = Victim(Threshold(), Segmentation(2)), torch.rand(2, 1, 12, 12)
    return victim, images, victim(images).argmax(1)


def segmenter(classes=3, dims=2) -> nn.Module:
    conv = nn.Conv2d if dims == 2 else nn.Conv3d
    return nn.Sequential(conv(1, 6, 3, padding=1), nn.Tanh(), conv(6, classes, 3, padding=1))


def batch(classes=3, shape=(2, 1, 8, 8)):
    victim = Victim(segmenter(classes, len(shape) - 2), Segmentation(classes))
    images = torch.rand(shape)
    return victim, images, victim(images).argmax(1)


@pytest.mark.parametrize("attack", [SegPGD(), CosPGD(), DAG()], ids=lambda attack: type(attack).__name__)
def test_most_pixels_become_wrong(attack):
    """A budget that is large enough to move most pixels."""
    victim, images, truth = bright_batch()
    result = attack(victim, images, truth, Threat(eps=0.3))
    right = (victim(result.adversarial).argmax(1) == truth).double().mean()
    assert float(right) < 0.35


def test_dag_is_its_algorithm():
    """Algorithm 1 as written: no ball, the step γ·∇/‖∇‖∞ of the sum over the pixels still right, until none is."""
    victim, images, truth = batch(classes=2, shape=(1, 1, 6, 6))
    gamma, steps = 0.02, 12
    x = images.clone()
    for _ in range(steps):
        x = x.detach().requires_grad_()
        z = victim(x)
        active = (z.argmax(1) == truth).float()
        if not active.any():
            break
        true = z.gather(1, truth.unsqueeze(1)).squeeze(1)
        wrong = z.gather(1, 1 - truth.unsqueeze(1)).squeeze(1)
        (r,) = torch.autograd.grad((active * (wrong - true)).sum(), x)
        x = (x + gamma * r / r.abs().max()).clamp(0, 1)
    result = DAG(steps=steps, step_size=gamma)(victim, images, truth, Threat(eps=1.0))
    assert torch.allclose(result.adversarial, x.detach(), atol=1e-5)


def test_dag_stops_when_nothing_is_left():
    victim, images, truth = batch()
    wrong = (truth + 1) % 3
    result = DAG(steps=3)(victim, images, wrong, Threat(eps=0.1))
    assert torch.equal(result.adversarial, images)
    assert result.zero_gradients.tolist() == [0, 0]
    both = torch.stack([truth[0], wrong[1]])
    result = DAG(steps=3)(victim, images, both, Threat(eps=0.1))
    assert [bool(delta.any()) for delta in result.delta] == [True, False]


def test_an_ignored_pixel_is_not_left_to_dag():
    """It stands for class 0 in the sums; where the model answers just that, nothing is left all the same."""
    outputs, truth = torch.tensor([[[[3.0, 0.0]], [[0.0, 3.0]]]]), torch.tensor([[[IGNORE, 0]]])
    task = Segmentation(2, ignore_index=IGNORE)
    assert DAGLoss().left(task, outputs, at(truth)).tolist() == [False]
    assert DAGLoss().left(task, outputs, at(torch.tensor([[[IGNORE, 1]]]))).tolist() == [True]


def test_asma_steps_grow_with_the_overlap():
    task, gradient = Segmentation(2), torch.tensor([[[[2.0, -4.0]]]])
    iterate = at(torch.tensor([[[1, 1]]]), -1)
    victim, images = Victim(nn.Identity(), task), torch.rand(1, 1, 1, 2)
    none, half = torch.tensor([[[[5.0, 5.0]], [[0.0, 0.0]]]]), torch.tensor([[[[5.0, 0.0]], [[0.0, 5.0]]]])
    step = AdaptiveStep(beta=1.0, tau=0.1)
    with opened(victim, images, iterate.truth, Threat(eps=0.1), 0, None, targeted=True) as case:
        for outputs, expected in ((none, [0.05, -0.1]), (half, [0.3, -0.6])):
            situation = Situation(case, 0, 1, images, Terms(torch.zeros(1), outputs), torch.zeros(1), iterate)
            assert step(gradient, situation).flatten().tolist() == pytest.approx(expected)


def test_asma_reaches_a_mask():
    victim, images, truth = bright_batch()
    target = truth.roll(2, dims=2)
    result = ASMA(steps=60)(victim, images, target, Threat(eps=0.4))
    before = victim.task.image_metrics(victim(images), target)["iou"]
    after = victim.task.image_metrics(victim(result.adversarial), target)["iou"]
    assert bool((after > before + 0.3).all())
    assert result.success.tolist() == [True, True]


def test_asma_hands_in_the_best_of_its_iterates():
    """One pixel of 0.6, to be of class 0, in steps of β·IoU + τ of 0.16.

    At an IoU of 0 they are of 0.08: 0.6, 0.52, 0.44, which reaches it. There is nothing left to raise then but the
    nearness to the image, whose gradient leads back: a step of 0.176 (IoU 1) ends at 0.616.
    """
    victim, image = Victim(Threshold(), Segmentation(2)), torch.full((1, 1, 1, 1), 0.6)
    wanted, options = torch.zeros(1, 1, 1, dtype=torch.int64), {"step_size": 0.16, "beta": 0.6, "tau": 0.5}
    for steps, point in ((1, 0.52), (2, 0.44), (3, 0.616)):
        at = ASMA(steps=steps, keep="last", **options)(victim, image, wanted, Threat(eps=0.5)).adversarial
        assert float(at) == pytest.approx(point, abs=1e-6)
    assert float(ASMA(steps=3, **options)(victim, image, wanted, Threat(eps=0.5)).adversarial) == pytest.approx(0.44)


def test_asma_needs_a_target():
    with pytest.raises(InputError, match="needs targeted=True"):
        ASMA(targeted=False)
    victim, images, truth = batch()
    with pytest.raises(InputError, match="needs targeted=True"):
        ASMALoss()(victim, replace(at(truth), current=images))


@pytest.mark.parametrize("kind", [SegPGD, CosPGD, DAG, ASMA])
def test_a2_adds_smias_term(kind):
    """J = a1·inner − a2·D( f(x') ; f(S(x')) ), D the mean over pixels of KL(smoothed ‖ x')."""
    victim, images, truth = batch()
    attack = kind(a2=0.7)
    iterate = replace(at(truth, attack.objective() and (-1 if attack.targeted else 1)), clean=images, current=images)
    alone = attack.inner()(victim, iterate).total
    p, q = victim(images).log_softmax(1), victim(GaussianSmoothing()(images)).log_softmax(1)
    distance = position_mean((q.exp() * (q - p)).sum(1))
    found = attack.objective()(victim, iterate).total
    assert torch.allclose(found, alone - 0.7 * distance, atol=1e-6)
    assert isinstance(attack.objective(), Stabilized)


def test_smia_is_what_it_was():
    """SMIA shares its options with them, and keeps its own defaults."""
    assert (SMIA().a1, SMIA().a2, SegPGD().a2) == (1.0, 1.0, 0.0)
    victim, images, truth = batch()
    threat = Threat(eps=0.1)
    ours = SMIA(steps=3, a2=0, step_size=0.03)(victim, images, truth, threat).adversarial
    assert torch.equal(ours, BIM(steps=3, step_size=0.03)(victim, images, truth, threat).adversarial)


def test_segpgd_begins_as_pgd_on_the_right_pixels():
    """At the first step λ is 0: where all is right, it is PGD's step."""
    victim, images, truth = batch()
    threat = Threat(eps=0.1)
    options = {"steps": 1, "step_size": 0.05, "random_start": False}
    ours = SegPGD(**options)(victim, images, truth, threat).adversarial
    assert torch.equal(ours, BIM(steps=1, step_size=0.05)(victim, images, truth, threat).adversarial)


class Flat(nn.Module):
    """Depends on its input by a path whose gradient is exactly zero."""

    def forward(self, x):
        return torch.cat([0 * x, torch.ones_like(x)], 1)


@pytest.mark.parametrize("attack", [SegPGD(steps=4), CosPGD(steps=4), DAG(steps=4), ASMA(steps=4, distance=0)])
def test_zero_gradients_are_counted_and_do_not_stand_still(attack):
    images, truth = torch.full((2, 1, 6, 6), 0.5), torch.zeros(2, 6, 6, dtype=torch.int64)
    truth[:, 3:] = 1  # half of it is right
    result = attack(Victim(Flat(), Segmentation(2)), images, truth, Threat(eps=0.1))
    assert result.zero_gradients.tolist() == [4, 4]
    assert float(result.delta.flatten(1).abs().amax(1).min()) > 0
