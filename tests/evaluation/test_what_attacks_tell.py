"""What attacks tell beside their images, and how they are called: budgets together, prepared first, truths moved."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import polars as pl
import pytest
import torch
from torch import nn

import medrobust as mr
from medrobust.attacks.at_once import AtOnce
from medrobust.attacks.attack import BatchAttack
from medrobust.attacks.transfer import Transfer
from medrobust.data import BadSampleError, Dataset, DatasetInfo, InMemoryDataset, Sample
from medrobust.errors import InputError
from medrobust.evaluation import Campaign, measure
from medrobust.evaluation.attacking import Call
from medrobust.evaluation.batches import Batch
from medrobust.evaluation.export import export_adversarial
from medrobust.threat import Contrast, Deformation

TWO = [mr.Threat(eps=4 / 255), mr.Threat(eps=1 / 255)]


def dataset_of(images, truth, **info) -> InMemoryDataset:
    described = {"name": "slices", "task": "ordinal", "classes": tuple("abcde"), "channels": 1, **info}
    samples = [Sample(f"s{k}", image, label) for k, (image, label) in enumerate(zip(images, truth, strict=True))]
    return InMemoryDataset(DatasetInfo(**described), samples)


@dataclass(frozen=True)
class Telling(BatchAttack):
    """PGD that says it asked, searched, and had members; and notes how it is called."""

    shares: bool = False
    calls: list = field(default_factory=list, compare=False)
    targeted: bool = False

    @property
    def shares_budgets(self) -> bool:
        return self.shares

    def attack_batch(self, victim, images, truth, threat, seed, ids):
        result = mr.PGD(steps=2).attack_batch(victim, images, truth, threat, seed, ids)
        place = torch.tensor([float(str(one)[1:]) for one in ids])
        smallest = torch.where(place > 0, place * float(threat.eps), torch.inf)
        return replace(result, queries=10 * place.long(), smallest=smallest, found_by=[f"member {one}" for one in ids])

    def attack_budgets(self, victim, images, truth, threats, seed, ids):
        self.calls.append(([threat.eps for threat in threats], list(ids)))
        return super().attack_budgets(victim, images, truth, threats, seed, ids)


def test_queries_smallest_changes_and_members_are_recorded(trained, tmp_path):
    victim, images, truth = trained
    data = dataset_of(images[:4], truth[:4])
    run = mr.evaluate(victim, data, {"telling": Telling(), "pgd": mr.PGD(steps=1)}, TWO, batch_size=3)
    told = run.records.filter(attack="telling", eps=4 / 255).sort("index")
    assert told["queries"].to_list() == [0, 10, 20, 30]
    assert told["smallest_eps"].to_list() == pytest.approx([torch.inf, 4 / 255, 8 / 255, 12 / 255])
    assert told["found_by"].to_list() == ["member s0", "member s1", "member s2", "member s3"]
    silent = run.records.filter(attack="pgd")
    assert silent["queries"].to_list() == [0] * 8
    assert silent["smallest_eps"].is_null().all()
    assert silent["found_by"].is_null().all()
    run.save(tmp_path / "run")
    assert mr.load_run(tmp_path / "run").records.equals(run.records)


def test_budgets_that_share_work_come_in_one_call_with_their_time_shared(trained):
    victim, images, truth = trained
    data, together, apart = dataset_of(images[:3], truth[:3]), Telling(shares=True), Telling()
    shared = mr.evaluate(victim, data, {"a": together}, TWO).records
    single = mr.evaluate(victim, data, {"a": apart}, TWO).records
    assert together.calls == [([4 / 255, 1 / 255], ["s0", "s1", "s2"])]
    assert [eps for eps, _ in apart.calls] == [[4 / 255], [1 / 255]]
    key = ["eps", "index"]
    assert shared.sort(key).drop("seconds").equals(single.sort(key).drop("seconds"))
    assert shared["seconds"].n_unique() == 1
    assert shared["seconds"][0] > 0


def test_early_stop_is_the_same_at_budgets_together_and_apart_where_it_counts(trained):
    victim, images, truth = trained
    data, attack = dataset_of(images, truth), mr.PGD(steps=5, early_stop=True, random_start=False)
    both = mr.evaluate(victim, data, {"a": attack}, TWO).records
    small = mr.evaluate(victim, data, {"a": attack}, TWO[1:]).records
    assert both.filter(eps=1 / 255).sort("index")["success"].equals(small.sort("index")["success"])
    large, little = (both.filter(eps=eps).sort("index")["success"].to_list() for eps in (4 / 255, 1 / 255))
    assert all(big or not small for big, small in zip(large, little, strict=True))


@dataclass(frozen=True, kw_only=True)
class NeedsAll:
    """Shifts every image by the sign of the whole set's mean difference to 0.5, once it has seen them all."""

    seen: list = field(default_factory=list)
    targeted: bool = False

    def describe(self):
        return {"attack": "NeedsAll"}

    def prepared(self, victim, dataset: Dataset, threat, seed):
        images = torch.stack([dataset[index].image for index in range(len(dataset))])
        self.seen.append((threat.eps, len(images), seed))
        return Shift(float((0.5 - images.mean()).sign()))

    def __call__(self, *_, **__):
        raise AssertionError("it was not prepared")


@dataclass(frozen=True)
class Shift(BatchAttack):
    direction: float
    targeted: bool = False

    def attack_batch(self, victim, images, truth, threat, seed, ids):
        moved = (images + self.direction * threat.eps).clamp(*victim.bounds)
        base = mr.FGSM().attack_batch(victim, images, truth, threat, seed, ids)
        return replace(base, adversarial=moved, delta=moved - images, outputs=victim(moved))


def test_an_attack_that_must_see_the_set_sees_it_once_a_budget_before_any_batch(trained):
    victim, images, truth = trained
    data, attack = dataset_of(images[:5], truth[:5]), NeedsAll()
    stages: list[str] = []
    measured = measure(victim, data, Campaign({"all": attack}, TWO, 7, 2), "p", on_stage=stages.append)
    assert attack.seen == [(4 / 255, 5, 7), (1 / 255, 5, 7)]
    assert stages == [
        f"preparing all for p, linf ≤ {4 / 255:g}",
        f"preparing all for p, linf ≤ {1 / 255:g}",
        "attacking p",
    ]
    through = {name: Transfer(one, victim, "itself") for name, one in (("all", NeedsAll()), ("fgsm", mr.FGSM()))}
    stages.clear()
    measure(victim, data, Campaign(through, TWO[:1], 7, 2), "p", on_stage=stages.append)
    assert stages == [f"preparing all for p, linf ≤ {4 / 255:g}", "attacking p"]
    frame = pl.DataFrame(measured.rows, strict=False)
    assert frame.filter(eps=4 / 255)["linf"].max() == pytest.approx(4 / 255, abs=1e-6)
    assert len(frame) == 10


def test_a_universal_change_is_that_of_the_whole_set_whatever_the_batch(trained):
    victim, images, truth = trained
    data, threat, attack = dataset_of(images, truth), mr.Threat(8 / 255), mr.make_attack("universal", {"epochs": 2})
    ours, theirs = (
        mr.evaluate(victim, data, {"u": attack}, [threat], batch_size=size).records.sort("index") for size in (3, 16)
    )
    assert ours["loss_after"].to_list() == pytest.approx(theirs["loss_after"].to_list(), abs=1e-4)
    change = attack.prepared(victim, data, threat, 0)
    made = change(victim, images, truth, threat, 0, [f"s{k}" for k in range(16)])
    assert ours["loss_after"].to_list() == pytest.approx(made.loss.tolist(), abs=1e-4)


class OneBad(InMemoryDataset):
    def __getitem__(self, index: int) -> Sample:
        if index == 1:
            raise BadSampleError("s1 is cut off")
        return super().__getitem__(index)


def test_bad_samples_are_not_prepared_on(trained, tmp_path):
    victim, images, truth = trained
    good, attack = dataset_of(images[:4], truth[:4]), NeedsAll()
    data = OneBad(good.info, good.samples)
    with pytest.raises(BadSampleError, match="s1 is cut off"):
        mr.evaluate(victim, data, {"all": attack}, TWO[:1])
    mr.evaluate(victim, data, {"all": attack}, TWO[:1], skip_bad=True)
    assert attack.seen == [(4 / 255, 3, 0)]
    export_adversarial(victim, data, attack, mr.Threat(2 / 255), tmp_path / "out", on_bad=lambda _: None)
    assert attack.seen[1:] == [(2 / 255, 3, 0)]


def test_what_a_model_raises_while_an_attack_is_prepared_is_told(trained):
    class Broken(NeedsAll):
        def prepared(self, *_):
            raise RuntimeError("no such layer")

    victim, images, truth = trained
    with pytest.raises(InputError, match="the model fails while an attack is prepared: RuntimeError: no such layer"):
        mr.evaluate(victim, dataset_of(images[:2], truth[:2]), {"a": Broken()}, TWO[:1])


class Threshold(nn.Module):
    """Class 1 where the image is bright: it finds a bright square wherever it lies."""

    def forward(self, x):
        return torch.cat([0.5 - x, x - 0.5], 1) * 20


@dataclass(frozen=True)
class Pushed(BatchAttack):
    """The whole anatomy pushed as far along the last axis as the deformation allows, and its masks with it."""

    targeted: bool = False

    def attack_batch(self, victim, images, truth, threat, seed, ids):
        space = threat.space(images, victim.bounds)
        variables = space.start()
        variables[:, -1] = threat.eps
        moved, along = space.images(variables), space.truth(truth, variables)
        base = mr.FGSM().attack_batch(victim, images, truth, mr.Threat(0.0), seed, ids)
        outputs = victim(moved)
        return replace(base, adversarial=moved, delta=moved - images, outputs=outputs, truth=along)


def test_masks_are_measured_against_the_truth_that_moved_along():
    """The model is right wherever the square lies: only against the old truth would it look wrong."""
    truth = torch.zeros(2, 24, 24, dtype=torch.int64)
    truth[:, 8:14, 12:18] = 1
    truth[0, 8:14, 2:4] = 1  # a second lesion, pushed out of the image
    images = (0.2 + 0.6 * truth).unsqueeze(1)
    data = dataset_of(images, truth, classes=("background", "lesion"), task="segmentation")
    victim = mr.Victim(Threshold(), mr.Segmentation(2, lesion_classes=(1,)))
    threat = Deformation(4.0, grid=2)
    run = mr.evaluate(victim, data, {"push": Pushed()}, [threat], gallery=1)
    rows = run.records.sort("index")
    assert rows["norm"].unique().to_list() == ["deformation grid 2"]
    assert rows["dice_after"].to_list() == [1.0, 1.0]
    assert rows["success"].to_list() == [False, False]
    assert rows["lesion_volumes_before"].to_list() == [[12.0, 36.0], [36.0]]
    assert rows["lesion_volumes_after"].to_list() == [[36.0], [36.0]]
    assert rows["lesion_covered_after"].to_list() == [[1.0], [1.0]]
    assert run.summary.filter(attack="push", metric="dice")["value"].item() == 1.0
    (shown,) = run.gallery
    assert torch.equal(shown.truth, truth[1])
    assert torch.equal(shown.attacks[0].truth, truth[1].roll(-4, 1))


def test_a_moved_truth_is_kept_with_the_gallery_and_drawn(tmp_path):
    truth = torch.zeros(1, 24, 24, dtype=torch.int64)
    truth[:, 8:14, 12:18] = 1
    data = dataset_of((0.2 + 0.6 * truth).unsqueeze(1), truth, classes=("background", "lesion"), task="segmentation")
    victim = mr.Victim(Threshold(), mr.Segmentation(2))
    run = mr.evaluate(victim, data, {"push": Pushed()}, [Deformation(4.0)])
    run.save(tmp_path / "run")
    loaded = mr.load_run(tmp_path / "run")
    assert torch.equal(loaded.gallery[0].attacks[0].truth, run.gallery[0].attacks[0].truth)
    assert (tmp_path / "run" / "report.html").read_bytes()
    still = replace(run.gallery[0].attacks[0], truth=None)
    unmoved = mr.Run(run.records, run.info, [replace(run.gallery[0], attacks=[still])])
    unmoved.report(tmp_path / "unmoved.html")
    assert (tmp_path / "unmoved.html").read_text() != (tmp_path / "run" / "report.html").read_text()


def test_families_are_told_apart_by_their_options(trained):
    from medrobust.threat import BandNoise, BiasField

    victim, images, truth = trained
    threats = [
        BandNoise(4 / 255),
        BandNoise(4 / 255, low=0.1, high=0.5),
        BiasField(0.1),
        BiasField(0.1, grid=6),
        Contrast(0.05),
    ]
    run = mr.evaluate(victim, dataset_of(images[:2], truth[:2]), {"pgd": mr.PGD(steps=1)}, threats)
    assert run.records["norm"].unique(maintain_order=True).to_list() == [
        "band noise", "band noise 0.1-0.5", "bias field", "bias field grid 6", "contrast",
    ]  # fmt: skip
    assert len(run.records) == 10
    (part,) = run.info.parts.values()
    assert [threat["unit"] for threat in part.threats] == ["[0, 1]", "[0, 1]", "%", "%", "%"]
    with pytest.raises(InputError, match=r"budget band noise 0\.1-0\.5 eps=0\.1 is given twice"):
        Campaign({"pgd": mr.PGD()}, [BandNoise(0.1, low=0.1, high=0.5), BandNoise(0.1, low=0.1, high=0.5)])


def test_a_mask_of_channels_is_not_cut_with_the_images():
    """Two volumes of two channels, one at a time: the first channel of each may change, not all of the first volume."""
    torch.manual_seed(0)
    victim = mr.Victim(nn.Sequential(nn.Flatten(), nn.Linear(2 * 27, 3)), mr.Classification(3))
    images, mask = torch.rand(2, 2, 3, 3, 3), torch.zeros(2, 3, 3, 3)
    mask[0] = 1
    truth = victim(images).argmax(1)
    batch = Batch([0, 1], [Sample(f"s{k}", images[k], truth[k]) for k in range(2)], images, truth)
    (found,) = Call(mr.BIM(steps=2), [mr.Threat(0.1, mask=mask)]).on(victim, batch, 0, AtOnce(1))
    assert (found.delta.abs().flatten(2).amax(2) > 0).tolist() == [[True, False], [True, False]]
