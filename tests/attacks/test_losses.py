"""The objectives against their formulas, written a second time as plain loops over images and positions in NumPy."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from tiny_detectors import tiny_detector

from medrobust.attacks.dag_loss import DAGLoss
from medrobust.attacks.dense_losses import (
    ASMALoss,
    BalancedMaskedCrossEntropy,
    CosPGDLoss,
    DiceLoss,
    MaskedCrossEntropy,
    SegPGDLoss,
)
from medrobust.attacks.losses import DLR, JensenShannon, Logit, Margin, SquaredScore, TargetedDLR
from medrobust.attacks.objectives import Iterate, OutputObjective
from medrobust.errors import InputError
from medrobust.tasks import Classification, Detection, Placement, Segmentation
from medrobust.victim import Victim

UNKNOWN = 9


@dataclass(frozen=True)
class Head:
    """A task, the shapes of its outputs and truth, how many answers there are, and how `answers` is to read them."""

    task: object
    shape: tuple[int, ...]
    truth: tuple[int, ...]
    labels: int
    kind: str = "softmax"

    def draw(self, seed=0):
        generator = torch.Generator().manual_seed(seed)
        outputs = 2 * torch.randn(self.shape, generator=generator, dtype=torch.float64)
        truth = torch.randint(0, self.labels, self.truth, generator=generator)
        if self.task.can_ignore:
            truth[torch.rand(self.truth, generator=generator) < 0.3] = UNKNOWN
            truth[-1] = UNKNOWN  # an image of which nothing is known
        return outputs, truth


HEADS = {
    "classes": Head(Classification(5), (3, 5), (3,), 5),
    "three": Head(Classification(3), (3, 3), (3,), 3),
    "two": Head(Classification(2), (3, 2), (3,), 2),
    "one_logit": Head(Classification(2), (3, 1), (3,), 2, "yes_no"),
    "flat_logit": Head(Classification(2), (3,), (3,), 2, "yes_no"),
    "labels": Head(Classification(4, multilabel=True, ignore_index=UNKNOWN), (3, 4), (3, 4), 2, "yes_no"),
    "grades": Head(Classification(4, ordinal=True), (3, 4), (3,), 4),
    "cumulative": Head(Classification(4, ordinal=True), (3, 3), (3,), 4, "cumulative"),
    "mask": Head(Segmentation(4, ignore_index=UNKNOWN), (3, 4, 3, 2), (3, 3, 2), 4),
    "volume": Head(Segmentation(4), (2, 4, 2, 3, 2), (2, 2, 3, 2), 4),
    "mask_logit": Head(Segmentation(2, ignore_index=UNKNOWN), (3, 1, 3, 2), (3, 3, 2), 2, "yes_no"),
    "mask_labels": Head(
        Segmentation(2, multilabel=True, ignore_index=UNKNOWN), (3, 2, 3, 2), (3, 2, 3, 2), 2, "yes_no"
    ),
}
DENSE = ["mask", "volume", "mask_logit", "mask_labels"]
SMOOTH = [Margin(), DLR(), Logit(), SquaredScore(), JensenShannon()]
EVERYWHERE = [*SMOOTH, MaskedCrossEntropy(), BalancedMaskedCrossEntropy()]
FOR_MASKS = [DiceLoss(), SegPGDLoss(), CosPGDLoss(), DAGLoss()]
ALL = [(loss, head) for loss in EVERYWHERE for head in HEADS] + [(loss, head) for loss in FOR_MASKS for head in DENSE]


def named(value):
    return value if isinstance(value, str | int) else type(value).__name__


def at(truth, sign=1, index=0, steps=10) -> Iterate:
    images = torch.zeros(len(truth), 1, 2, 2)
    return Iterate(index, steps, images, images, truth, sign)


def answers(head: Head, outputs, truth) -> list[list[tuple[np.ndarray, np.ndarray, int]]]:
    """Per image every (logits that softmax takes, logits as the model gives them, true answer) that is known."""
    found = []
    for z, y in zip(outputs.numpy(), truth.numpy(), strict=True):
        places = []
        if head.kind == "softmax":
            for place in np.ndindex(y.shape):
                vector = z[(slice(None), *place)]
                places.append((vector, vector, int(y[place])))
        elif head.kind == "cumulative":  # question k: is the grade above k?
            for k, logit in enumerate(z):
                places.append((np.array([0, logit]), np.array([-logit, logit]), int(y > k)))
        else:
            for logit, answer in zip(z.reshape(-1), y.reshape(-1), strict=True):
                places.append((np.array([0, logit]), np.array([-logit, logit]), int(answer)))
        found.append([place for place in places if place[2] != UNKNOWN])
    return found


def softmax(z):
    e = np.exp(z - z.max())
    return e / e.sum()


def cross_entropy(z, y):
    return -math.log(softmax(z)[y])


def still(z, y, sign):
    """Is it still right, or (targeted) not yet the target?"""
    return (z.argmax() == y) == (sign > 0)


def margin(z, f, y, sign):
    return max(z[k] for k in range(len(z)) if k != y) - z[y]


def dlr(z, f, y, sign):
    ordered = sorted(z, reverse=True)
    if sign > 0:
        if len(z) < 3:
            return margin(z, f, y, sign)
        return -(z[y] - max(z[k] for k in range(len(z)) if k != y)) / (ordered[0] - ordered[2])
    best_other = max(z[k] for k in range(len(z)) if k != y)
    if len(z) < 4:
        return best_other - z[y]
    return -(-(best_other - z[y]) / (ordered[0] - (ordered[2] + ordered[3]) / 2))


def logit(z, f, y, sign):
    return -f[y]


def brier(z, f, y, sign):
    return sum((p - (k == y)) ** 2 for k, p in enumerate(softmax(z)))


def jensen_shannon(z, f, y, sign):
    p, e = softmax(z), np.eye(len(z))[y]
    m = (p + e) / 2

    def kl(a, b):
        return sum(a[k] * math.log(a[k] / b[k]) for k in range(len(a)) if a[k] > 0)

    return (kl(p, m) + kl(e, m)) / 2


def masked(z, f, y, sign):
    return cross_entropy(z, y) if still(z, y, sign) else 0.0


def segpgd(z, f, y, sign):  # at step 4 of 10
    share = 3 / 20
    return ((1 - share) if still(z, y, sign) else share) * cross_entropy(z, y)


def cospgd(z, f, y, sign):
    p, e = softmax(z), np.eye(len(z))[y]
    cosine = p @ e / (np.sqrt(p @ p) * np.sqrt(e @ e))
    return (cosine if sign > 0 else 1 - cosine) * cross_entropy(z, y)


def dag(z, f, y, sign):
    return margin(z, f, y, sign) if still(z, y, sign) else 0.0


FORMULAS = {
    Margin: margin,
    DLR: dlr,
    Logit: logit,
    SquaredScore: brier,
    JensenShannon: jensen_shannon,
    MaskedCrossEntropy: masked,
    SegPGDLoss: segpgd,
    CosPGDLoss: cospgd,
    DAGLoss: dag,
}


def balanced(places, sign) -> float:
    classes = sorted({y for _, _, y in places})
    means = [np.mean([masked(z, f, y, sign) for z, f, y in places if y == c]) for c in classes]
    return float(np.mean(means)) if means else 0.0


def soft_dice(head: Head, z, y) -> float:
    """Of one image: a mask for each class but the background, or for each label."""
    terms, shares = [], []
    for c in range(head.task.classes) if head.task.multilabel else range(1, head.task.classes):
        common = found = true = count = 0.0
        mask = y[c] if head.task.multilabel else y
        for place in np.ndindex(mask.shape):
            if mask[place] == UNKNOWN:
                continue
            if head.kind == "softmax":
                p = softmax(z[(slice(None), *place)])[c]
            else:
                p = 1 / (1 + math.exp(-z[(c if head.task.multilabel else 0, *place)]))
            wanted = float(mask[place] == (1 if head.task.multilabel else c))
            common, found, true, count = common + p * wanted, found + p, true + wanted, count + 1
        shares.append(found / max(count, 1))
        if true:
            terms.append(2 * common / (found + true))
    return 1 - float(np.mean(terms)) if terms else float(np.mean(shares))


def by_hand(loss, head: Head, outputs, truth, sign) -> list[float]:
    if isinstance(loss, DiceLoss):
        return [soft_dice(head, z, y) for z, y in zip(outputs.numpy(), truth.numpy(), strict=True)]
    images = answers(head, outputs, truth)
    if isinstance(loss, BalancedMaskedCrossEntropy):
        return [balanced(places, sign) for places in images]
    formula = FORMULAS[type(loss)]
    return [float(np.mean([formula(z, f, y, sign) for z, f, y in places])) if places else 0.0 for places in images]


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(("loss", "name"), ALL, ids=named)
def test_by_the_formula(loss, name, sign):
    head = HEADS[name]
    for seed in range(3):
        outputs, truth = head.draw(seed)
        found = loss.deviation(head.task, outputs, at(truth, sign, index=3))
        assert found.dtype == torch.float64
        assert found.tolist() == pytest.approx(by_hand(loss, head, outputs, truth, sign), rel=1e-6, abs=1e-9)
        half = loss.deviation(head.task, outputs.float(), at(truth, sign, index=3))
        assert torch.allclose(half.double(), found, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", HEADS)
def test_targeted_dlr_by_the_formula(name):
    head = HEADS[name]
    outputs, truth = head.draw()
    wanted = torch.where(truth == UNKNOWN, truth, (truth + 1) % head.labels)
    values = []
    for left, goal in zip(answers(head, outputs, truth), answers(head, outputs, wanted), strict=True):
        terms = []
        for (z, _, y), (_, _, t) in zip(left, goal, strict=True):
            ordered = sorted(z, reverse=True)
            spread = 1.0 if len(z) < 4 else ordered[0] - (ordered[2] + ordered[3]) / 2
            terms.append(-(z[y] - z[t]) / spread)
        values.append(float(np.mean(terms)) if terms else 0.0)
    assert TargetedDLR(wanted).deviation(head.task, outputs, at(truth)).tolist() == pytest.approx(values, rel=1e-6)
    with pytest.raises(InputError, match="it needs targeted=False"):
        TargetedDLR(wanted).deviation(head.task, outputs, at(truth, -1))


def test_targets_move_with_their_images():
    head = HEADS["volume"]
    outputs, truth = head.draw()
    wanted = (truth + 1) % 4
    images = torch.zeros(2, 1, 2, 3, 2)
    placement = Placement(sizes=[(1, 2, 2), (2, 2, 1)], corners=[(1, 0, 0), (0, 1, 1)])
    moved = {
        name: head.task.placed(labels, placement, images.shape[2:])
        for name, labels in {"y": truth, "t": wanted}.items()
    }
    iterate = replace(at(moved["y"]), clean=images, placement=placement)
    found = TargetedDLR(wanted).deviation(head.task, outputs, iterate)
    assert torch.equal(found, TargetedDLR(moved["t"]).deviation(head.task, outputs, at(moved["y"])))
    assert not torch.equal(found, TargetedDLR(wanted).deviation(head.task, outputs, at(moved["y"])))


FOUR = torch.tensor([[4.0, 3.0, 1.0, 0.0]])
PIXELS = torch.tensor([[[[0.9, 0.5], [0.2, 0.4]]]]).logit()  # the foreground's probabilities


@pytest.mark.parametrize(
    ("loss", "task", "outputs", "truth", "sign", "value"),
    [
        (Margin(), Classification(3), torch.tensor([[2.0, 5.0, 1.0]]), 0, 1, 5 - 2),
        (Margin(), Classification(2), torch.tensor([[3.0]]), 0, 1, 3),
        (Margin(confidence=1), Classification(3), torch.tensor([[2.0, 5.0, 1.0]]), 0, 1, 1),
        (Margin(confidence=1), Classification(3), torch.tensor([[2.0, 5.0, 1.0]]), 1, -1, -1),
        (Margin(confidence=1), Classification(3), torch.tensor([[2.0, 5.0, 1.0]]), 0, -1, 3),
        (DLR(), Classification(4), FOUR, 0, 1, -(4 - 3) / (4 - 1)),
        (DLR(), Classification(4), FOUR, 2, 1, -(1 - 4) / (4 - 1)),
        (DLR(), Classification(4), FOUR, 1, -1, (4 - 3) / (4 - 0.5)),
        (TargetedDLR(torch.tensor([2])), Classification(4), FOUR, 0, 1, -(4 - 1) / (4 - 0.5)),
        (Logit(), Classification(4), FOUR, 1, -1, -3),
        (Logit(), Classification(2), torch.tensor([3.0]), 0, 1, 3),
        (SquaredScore(), Classification(3), torch.tensor([[0.7, 0.2, 0.1]]).log(), 0, 1, 0.09 + 0.04 + 0.01),
        (JensenShannon(), Classification(2), torch.zeros(1, 2), 0, 1, 0.75 * math.log(4 / 3)),
        (MaskedCrossEntropy(), Segmentation(2), PIXELS, [[0, 1], [0, 0]], 1, -(math.log(0.8) + math.log(0.6)) / 4),
        (MaskedCrossEntropy(), Segmentation(2), PIXELS, [[0, 1], [0, 0]], -1, -(math.log(0.1) + math.log(0.5)) / 4),
        (
            BalancedMaskedCrossEntropy(),
            Segmentation(2),
            PIXELS,
            [[1, 0], [0, 0]],
            1,
            (-math.log(0.9) - (math.log(0.8) + math.log(0.6)) / 3) / 2,
        ),
        (DiceLoss(), Segmentation(2), PIXELS, [[1, 1], [0, 0]], 1, 1 - 2 * 1.4 / (2 + 2)),
        (DiceLoss(), Segmentation(2), PIXELS, [[0, 0], [0, 0]], 1, 2.0 / 4),
        (CosPGDLoss(), Segmentation(2), PIXELS[..., :1, :1], [[1]], 1, 0.9 / math.sqrt(0.82) * -math.log(0.9)),
        (SegPGDLoss(), Segmentation(2), PIXELS[..., :1, :1], [[0]], 1, 0.0),
        (DAGLoss(), Segmentation(2), PIXELS[..., :1, :1], [[1]], 1, -math.log(9)),
        (ASMALoss(), Segmentation(2), PIXELS[..., :1, :1], [[0]], -1, math.log(9)),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, OutputObjective) else "",
)
def test_numbers_worked_by_hand(loss, task, outputs, truth, sign, value):
    iterate = at(torch.tensor([truth]), sign)
    assert loss.deviation(task, outputs, iterate).tolist() == pytest.approx([value], rel=1e-5, abs=1e-6)


@pytest.mark.parametrize(("loss", "name"), ALL, ids=named)
@pytest.mark.parametrize("sign", [1, -1])
def test_an_image_for_itself(loss, name, sign):
    head = HEADS[name]
    outputs, truth = head.draw()
    together = loss.deviation(head.task, outputs, at(truth, sign, 2))
    for i in range(len(truth)):
        alone = loss.deviation(head.task, outputs[i : i + 1], at(truth[i : i + 1], sign, 2))
        assert alone.tolist() == pytest.approx([float(together[i])], rel=1e-12)


@pytest.mark.parametrize(
    ("loss", "name"),
    [(loss, head) for loss in SMOOTH for head in HEADS] + [(DiceLoss(), head) for head in DENSE],
    ids=named,
)
def test_nothing_is_held_constant(loss, name):
    """The gradient is that of finite differences: no part of these is a constant in it."""
    head = HEADS[name]
    outputs, truth = head.draw(1)
    for sign in (1, -1):
        assert torch.autograd.gradcheck(
            lambda z, sign=sign: loss.deviation(head.task, z, at(truth, sign)), outputs.requires_grad_()
        )


@pytest.mark.parametrize("spatial", [(), (3, 2), (2, 2, 3)])
@pytest.mark.parametrize("sign", [1, -1])
def test_dlr_ignores_scale_and_shift(spatial, sign):
    outputs, truth = torch.randn(3, 5, *spatial, dtype=torch.float64), torch.randint(0, 5, (3, *spatial))
    task = Segmentation(5) if spatial else Classification(5)
    other = 37 * outputs - 11
    for loss in [DLR(), *([TargetedDLR((truth + 2) % 5)] if sign > 0 else [])]:
        value = loss.deviation(task, outputs, at(truth, sign))
        assert torch.allclose(loss.deviation(task, other, at(truth, sign)), value, rtol=1e-9)
    plain = Margin().deviation(task, outputs, at(truth, sign))
    assert torch.allclose(Margin().deviation(task, other, at(truth, sign)), 37 * plain)


def test_dlr_agrees_with_torchattacks():
    torchattacks = pytest.importorskip("torchattacks")
    generator = torch.Generator().manual_seed(0)
    outputs, truth = torch.randn(20, 6, generator=generator), torch.randint(0, 6, (20,), generator=generator)
    theirs = torchattacks.APGD.dlr_loss(None, outputs, truth)
    assert torch.allclose(DLR().deviation(Classification(6), outputs, at(truth)), theirs, rtol=1e-4, atol=1e-5)
    wanted = (truth + 1) % 6
    theirs = torchattacks.APGDT.dlr_loss_targeted(None, outputs, truth, wanted)
    found = TargetedDLR(wanted).deviation(Classification(6), outputs, at(truth))
    assert torch.allclose(found, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(("loss", "name"), ALL, ids=named)
def test_gradients_are_finite(loss, name, sign):
    """Where the model is sure, where it does not know at all, and where it has shut alternatives off."""
    head = HEADS[name]
    drawn, truth = head.draw()
    drawn = drawn.float()
    shut = drawn.clone()
    shut[(slice(None), *([slice(1, None)] if drawn.ndim > 1 else []))] = -torch.inf
    for outputs in (1e4 * drawn, torch.zeros_like(drawn), shut):
        outputs = outputs.clone().requires_grad_()
        value = loss.deviation(head.task, outputs, at(truth, sign, 2))
        (gradient,) = torch.autograd.grad(value.sum(), outputs)
        assert not value.isnan().any()
        assert bool(gradient.isfinite().all())


@pytest.mark.parametrize("loss", [*EVERYWHERE, TargetedDLR(torch.zeros(2, dtype=torch.int64))], ids=named)
def test_detection_has_no_positions(loss):
    victim = Victim(tiny_detector("retinanet"), Detection(3))
    images, truth = torch.rand(2, 3, 64, 64), torch.tensor([[[8.0, 8, 30, 40, 1]]] * 2)
    with pytest.raises(InputError, match="which a detector's boxes are not"):
        loss(victim, replace(at(truth), clean=images, current=images))


@pytest.mark.parametrize("loss", [*FOR_MASKS, ASMALoss()], ids=named)
def test_masks_are_needed(loss):
    outputs, truth = HEADS["classes"].draw()
    with pytest.raises(InputError, match=r"needs an answer at every pixel .*, got classification"):
        loss.deviation(HEADS["classes"].task, outputs, at(truth, -1))


def test_shapes_that_do_not_fit_are_told():
    with pytest.raises(InputError, match=r"needs model outputs \(B, 5\), got \(2, 4\)"):
        Margin().deviation(Classification(5), torch.zeros(2, 4), at(torch.tensor([0, 1])))


def test_what_is_left():
    task, outputs = Classification(3), torch.tensor([[2.0, 5.0, 1.0], [2.0, 2.5, 1.0]])
    truth = torch.tensor([0, 0])
    assert Margin().left(task, outputs, at(truth)) is None
    assert Margin(confidence=1).left(task, outputs, at(truth)).tolist() == [False, True]
    assert Margin(confidence=1).left(task, outputs, at(truth + 1, -1)).tolist() == [False, True]
    assert MaskedCrossEntropy().left(task, outputs, at(torch.tensor([0, 1]))).tolist() == [False, True]
    assert MaskedCrossEntropy().left(task, outputs, at(torch.tensor([0, 1]), -1)).tolist() == [True, False]
    ignoring, labels = HEADS["labels"].task, torch.tensor([[UNKNOWN, 1, 1, UNKNOWN]])
    wrong = torch.tensor([[-1.0, -3.0, -3.0, 1.0]])
    for loss in (Margin(confidence=2), BalancedMaskedCrossEntropy()):
        assert loss.left(ignoring, wrong, at(labels)).tolist() == [False]
        assert loss.left(ignoring, wrong, at(labels.where(labels != 1, 0))).tolist() == [True]
