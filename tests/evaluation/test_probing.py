"""Probes: which images and which budget, and that they work, or say why not, for every task, threat and victim."""

from __future__ import annotations

import math

import pytest
import torch
from tiny_detectors import tiny_detector
from torch import nn
from victims import CASES, build

import medrobust as mr
from medrobust.data import DatasetInfo, InMemoryDataset, Sample
from medrobust.data.dataset import pad_boxes
from medrobust.errors import InputError
from medrobust.evaluation.probe_choice import choose
from medrobust.evaluation.probe_forwards import Slopes, apart, output_range
from medrobust.statistics.trust_rules import RULES

BUDGETS = [mr.Threat(eps=eps) for eps in (0.1, 0.2, 0.4)]


def row(index: int, eps: float, before: bool, after: bool, **values) -> dict[str, object]:
    return {
        "index": index,
        "norm": "linf",
        "eps": eps,
        "right_before": before,
        "right_after": after,
        **values,
    }


def test_images_are_spread_over_those_answered_right():
    rows = [row(index, 0.1, index % 2 == 1, True) for index in range(20)]
    assert choose(rows, BUDGETS[:1], 5).images == [1, 5, 9, 13, 17]
    assert choose(rows, BUDGETS[:1], 50).images == list(range(1, 20, 2))
    wrong = choose([row(index, 0.1, False, False) for index in range(8)], BUDGETS[:1], 2)
    assert (wrong.images, wrong.right) == ([0, 4], False)


@pytest.mark.parametrize(
    ("standing", "eps"), [((4, 3, 0), 0.2), ((4, 4, 4), 0.4), ((0, 0, 0), 0.1), ((4, 4, 3), 0.4), ((2, 1, 0), 0.1)]
)
def test_the_budget_is_the_one_at_which_most_is_open(standing, eps):
    """Of four images: as many still right at each budget, in the worst case over two attacks."""
    rows = []
    for threat, count in zip(BUDGETS, standing, strict=True):
        for index in range(4):
            rows += [row(index, threat.eps, True, index < count), row(index, threat.eps, True, True)]
    assert choose(rows, BUDGETS, 4).threat.eps == eps


def test_of_masks_the_dice_tells_what_is_open():
    values = {0.1: 0.9, 0.2: 0.4, 0.4: 0.1}
    rows = [row(0, eps, True, True, dice_before=0.9, dice_after=dice) for eps, dice in values.items()]
    assert choose(rows, BUDGETS, 1).threat.eps == 0.2


def dataset_of(images, truth, **info) -> InMemoryDataset:
    samples = [Sample(f"s{k}", *pair) for k, pair in enumerate(zip(images, truth, strict=True))]
    return InMemoryDataset(DatasetInfo(**{"name": "part", "channels": images.shape[1], **info}), samples)


def answered_right(victim: mr.Victim, images: torch.Tensor) -> torch.Tensor:
    """A truth by which every answer is right."""
    with torch.no_grad():
        return victim.task.predict(victim(images))


def run_of(victim, dataset, threat, attack=None, **options) -> mr.Run:
    attacks = {"pgd": mr.PGD(steps=2)} if attack is None else {"attack": attack}
    run = mr.evaluate(victim, dataset, attacks, [threat], gallery=0, **options)
    (checks,) = run.trust.values()
    assert [check.key for check in checks] == list(RULES)
    for check in checks:
        assert check.sentence.endswith("."), check
        assert (check.verdict == "not applicable") <= (check.measured is None), check
        assert check.measured is None or math.isfinite(check.measured), check
    return run


def verdicts(run: mr.Run) -> dict[str, str]:
    (checks,) = run.trust.values()
    return {check.key: check.verdict for check in checks}


@pytest.mark.parametrize("name", CASES)
def test_every_kind_of_victim_is_probed(name):
    case = CASES[name]
    victim, images, _ = build(case)
    images = images.float().contiguous()
    info = {
        "task": "segmentation" if case.task.dense else case.task.name,
        "classes": tuple(f"c{k}" for k in range(victim.task.classes)),
        "bounds": case.bounds,
        "unit": "HU" if case.bounds[0] < 0 else "[0, 1]",
        "spatial_dims": images.ndim - 2,
    }
    run = run_of(victim, dataset_of(images, answered_right(victim, images), **info), mr.Threat(eps=case.eps), probes=8)
    probes = run.info.parts["part"].probes
    assert probes.missing == {}
    assert len(probes.images) == len(probes.again) == len(probes.gradients) == len(probes.loss_by_step)
    assert all(len(tried.left) == len(probes.images) for tried in probes.tried.values())
    assert max(probes.again) == 0
    assert {verdicts(run)[key] for key in ("repeated", "company", "gradients")} == {"pass"}
    assert all(slope is None or slope == pytest.approx(1, abs=0.2) for slope in probes.slopes)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["ssdlite", "faster_rcnn"])
def test_detectors_are_probed(family):
    victim = mr.Victim(tiny_detector(family), mr.Detection(3, score=0.5, success_f1=0.01))
    images = torch.rand(2, 3, 64, 80, generator=torch.Generator().manual_seed(0))
    found = answered_right(victim, images)
    with_area = [rows[(rows[:, 2] - rows[:, 0] > 1) & (rows[:, 3] - rows[:, 1] > 1)][:20] for rows in found]
    truth = pad_boxes(with_area)
    dataset = dataset_of(images, truth, task="detection", classes=("a", "b", "c"))
    run = run_of(victim, dataset, mr.Threat(eps=4 / 255), probes=8)
    probes = run.info.parts["part"].probes
    assert probes.missing == {"answers alone": "no attack on answers alone is for detection"}
    assert verdicts(run)["repeated"] == verdicts(run)["company"] == "pass"
    assert verdicts(run)["logits"] == verdicts(run)["answers alone"] == "not applicable"


THREATS = {
    "l2": mr.Threat(eps=1.0, norm="l2"),
    "l1": mr.Threat(eps=8.0, norm="l1"),
    "a grid": mr.Threat(eps=8 / 255, quantum=1 / 255),
    "contrast": mr.Contrast(eps=0.2),
    "bias field": mr.BiasField(eps=0.2),
    "deformation": mr.Deformation(eps=1.5),
    "band noise": mr.BandNoise(eps=0.05),
    "a region": mr.Threat(eps=0.05, region=mr.Region([1])),
}


@pytest.mark.parametrize("name", THREATS)
def test_every_threat_is_probed(name):
    images = (torch.rand(4, 1, 12, 12, generator=torch.Generator().manual_seed(0)) * 255).round() / 255
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(1, 8, 5, padding=2), nn.Tanh(), nn.Conv2d(8, 3, 3, padding=1))
    victim = mr.Victim(model, mr.Segmentation(3))
    dataset = dataset_of(images, answered_right(victim, images), task="segmentation", classes=("background", "a", "b"))
    run = run_of(victim, dataset, THREATS[name], probes=8)
    probes = run.info.parts["part"].probes
    assert probes.missing == {}
    found = verdicts(run)
    assert found["gradients"] == "pass"
    if name in ("contrast", "bias field", "deformation"):
        assert found["noise"] == "not applicable"
    if name == "a grid":
        assert found["saved"] == "pass"
        assert probes.tried["saved"].left == pytest.approx(probes.tried["pgd"].left, abs=1e-6)


def test_a_black_box_has_the_checks_that_need_no_gradient():
    images = torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(0))

    def predict(batch):
        mean = batch.flatten(1).mean(1, keepdim=True)
        return torch.cat([mean, 1 - mean], 1)

    victim = mr.BlackBox(predict, mr.Classification(2), probabilities=True)
    dataset = dataset_of(images, answered_right(victim, images), task="classification", classes=("a", "b"))
    run = run_of(victim, dataset, mr.Threat(eps=0.05), mr.Square(queries=20), probes=6)
    found = verdicts(run)
    assert found["repeated"] == found["company"] == "pass"
    for key in ("logits", "gradients", "slopes", "steps", "noise", "restarts", "unlimited", "saved"):
        assert found[key] == "not applicable", key
    assert run.info.parts["part"].probes.missing["gradients"] == "a black box gives no gradients"


def test_images_of_several_sizes_keep_their_order():
    class Mean(nn.Module):
        def forward(self, x):
            mean = x.flatten(1).mean(1)
            return torch.stack([mean, 1 - mean], 1)

    sizes, levels = [(8, 8), (8, 8), (12, 9), (8, 8)], [0.9, 0.52, 0.9, 0.52]
    samples = [
        Sample(f"s{k}", torch.full((1, *size), level), torch.tensor(0))
        for k, (size, level) in enumerate(zip(sizes, levels, strict=True))
    ]
    info = DatasetInfo("part", "classification", ("a", "b"), 1)
    run = run_of(mr.Victim(Mean(), mr.Classification(2)), InMemoryDataset(info, samples), mr.Threat(eps=0.1), probes=4)
    assert run.info.parts["part"].probes.tried["pgd"].left == [1.0, 0.0, 1.0, 0.0]


def test_nothing_is_probed_unless_asked_for(trained):
    victim, images, truth = trained
    dataset = dataset_of(images, truth, task="ordinal", classes=tuple("abcde"))
    run = run_of(victim, dataset, mr.Threat(eps=4 / 255))
    assert run.info.parts["part"].probes is None
    assert verdicts(run)["unlimited"] == "not applicable"
    with pytest.raises(InputError, match="probes must be a whole number of at least 0"):
        mr.evaluate(victim, dataset, threats=[mr.Threat(eps=0.1)], probes=-1)


def test_what_cannot_be_measured_does_not_stop_the_run_and_names_no_image(trained):
    victim, images, truth = trained

    class Delicate(nn.Module):
        """Gives NaN where the dark rim of a slice is lit."""

        def __init__(self) -> None:
            super().__init__()
            self.inner = victim.model

        def forward(self, x):
            lit = (x[:, :, 0] > 0.05).flatten(1).any(1, keepdim=True)
            return self.inner(x).masked_fill(lit, torch.nan)

    dataset = dataset_of(images, truth, task="ordinal", classes=tuple("abcde"))
    run = run_of(mr.Victim(Delicate(), victim.task), dataset, mr.Threat(eps=4 / 255), probes=8)
    probes = run.info.parts["part"].probes
    assert probes.missing == {"unlimited": "the model gives NaN or infinite outputs there"}
    assert "unlimited" not in probes.tried
    assert verdicts(run)["unlimited"] == "not applicable"
    assert verdicts(run)["steps"] == "pass"


def test_slopes_are_those_of_a_line():
    class Line(nn.Module):
        """loss = softplus(2 · (1 − mean)); with half of the slope in the backward pass when asked."""

        def __init__(self, share: float) -> None:
            super().__init__()
            self.share = share

        def forward(self, x):
            kept = self.share * x + (1 - self.share) * x.detach()
            mean = kept.flatten(1).mean(1)
            return torch.stack([mean, 1 - mean], 1)

    images = torch.full((2, 1, 8, 8), 0.5)
    for share in (1.0, 0.5, 2.0):
        victim = mr.Victim(Line(share), mr.Classification(2))
        space = mr.Threat(eps=0.1).space(images, (0.0, 1.0))
        batch = _Batch(images, torch.zeros(2, dtype=torch.int64))
        assert Slopes(victim, batch, space).kept(images, 0.1) == pytest.approx([1 / share] * 2, rel=0.02)


class _Batch:
    def __init__(self, images, truth):
        self.images, self.truth = images, truth


def test_how_far_outputs_are_apart_by_hand():
    task = mr.Classification(2)
    first = torch.tensor([[3.0, 4.0], [0.0, 5.0]])
    assert apart(task, first, first + torch.tensor([[0.0, 0.5], [0.0, 0.0]])) == pytest.approx([0.1, 0.0])
    found = output_range(task, torch.tensor([[0.2, 0.8], [0.5, 0.4]]), None)
    assert (found.least, found.most) == pytest.approx((0.2, 0.8))
    assert found.off_one == pytest.approx(0.1)
    wider = output_range(task, torch.tensor([[-1.0, 2.0]]), found)
    assert (wider.least, wider.most, wider.off_one) == pytest.approx((-1.0, 2.0, 0.1))
    assert output_range(task, torch.tensor([[0.3]]), None).off_one is None
    labels = mr.Classification(2, multilabel=True)
    assert output_range(labels, torch.tensor([[0.2, 0.8]]), None).off_one is None
