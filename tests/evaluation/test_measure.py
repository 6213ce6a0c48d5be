"""Evaluation: one record per image × attack × budget, right in every column, whatever the batch."""

from __future__ import annotations

import re
from dataclasses import replace

import polars as pl
import pytest
import torch
from torch import nn

import medrobust as mr
from medrobust.data import BadSampleError, DatasetInfo, InMemoryDataset, Sample
from medrobust.errors import InputError, MedrobustWarning
from medrobust.evaluation import SCHEMA, export_adversarial, hash_patient

THREATS = [mr.Threat(eps=1 / 255), mr.Threat(eps=4 / 255)]
ATTACKS = {"fgsm": mr.FGSM(), "smia": mr.SMIA(steps=3)}


def dataset_of(images, truth, **info) -> InMemoryDataset:
    described = {"name": "slices", "task": "ordinal", "classes": tuple("abcde"), "channels": 1, **info}
    samples = [
        Sample(f"s{k}", image, label, patient=f"patient {k // 4}")
        for k, (image, label) in enumerate(zip(images, truth, strict=True))
    ]
    return InMemoryDataset(DatasetInfo(**described), samples)


@pytest.fixture(scope="module")
def run(trained) -> mr.Run:
    victim, images, truth = trained
    return mr.evaluate(victim, dataset_of(images, truth), ATTACKS, THREATS, seed=5, batch_size=6)


def test_one_row_each_in_the_documented_schema(run):
    assert dict(run.records.schema) == {name: pl.Schema({name: kind})[name] for name, kind in SCHEMA.items()}
    assert run.records.height == 16 * 2 * 2
    assert run.records.group_by("id", "attack", "eps").len()["len"].unique().to_list() == [1]


def test_columns_say_what_the_attack_itself_says(run, trained):
    victim, images, truth = trained
    ids = [f"s{k}" for k in range(16)]
    result = ATTACKS["smia"](victim, images, truth, THREATS[1], 5, ids)
    rows = run.records.filter((pl.col("attack") == "smia") & (pl.col("eps") == 4 / 255)).sort("index")
    assert rows["success"].to_list() == result.success.tolist()
    assert rows["loss_after"].to_list() == pytest.approx(result.loss.tolist(), abs=1e-3)
    assert rows["prediction_after"].to_list() == [[k] for k in victim.task.predict(result.outputs).tolist()]
    assert rows["truth"].to_list() == [[k] for k in truth.tolist()]
    assert rows["right_before"].to_list() == [True] * 16
    assert rows["linf"].to_list() == pytest.approx(result.delta.flatten(1).abs().amax(1).tolist(), abs=1e-6)
    assert rows["l2"].to_list() == pytest.approx(result.delta.flatten(1).norm(dim=1).tolist(), rel=1e-3)
    mse = result.delta.flatten(1).square().mean(1)
    assert rows["psnr"].to_list() == pytest.approx((-10 * mse.log10()).tolist(), rel=1e-3)
    assert sum(rows["scores_after"][0].to_list()) == pytest.approx(1)


def test_patients_are_hashed(run):
    assert run.records["patient"].n_unique() == 4
    assert run.records["patient"][0] == hash_patient("patient 0")
    assert "patient 0" not in str(run.records.to_dicts())


def test_batch_size_changes_nothing_but_the_time(run, trained):
    victim, images, truth = trained
    other = mr.evaluate(victim, dataset_of(images, truth), ATTACKS, THREATS, seed=5, batch_size=1)
    key = ["index", "attack", "eps"]
    ours, theirs = (r.records.sort(key).drop("seconds") for r in (run, other))
    assert ours["success"].to_list() == theirs["success"].to_list()
    assert ours["loss_after"].to_list() == pytest.approx(theirs["loss_after"].to_list(), abs=1e-3)
    assert ours["loss_before"].to_list() == pytest.approx(theirs["loss_before"].to_list(), abs=1e-5)


def test_info_tells_what_was_done(run, trained):
    victim, images, truth = trained
    (part,) = run.info.parts.values()
    assert part.attacks["smia"] == {"attack": "SMIA", **part.attacks["smia"]}
    assert part.attacks["smia"]["steps"] == 3
    assert part.threats[1] == {
        "norm": "linf",
        "eps": 4 / 255,
        "unit": "[0, 1]",
        "masked": False,
        "quantum": None,
        "region": None,
    }
    assert part.size == part.evaluated == 16
    assert len(part.weights_sha256) == len(part.data_sha256) == 64
    assert part.parameters == sum(p.numel() for p in victim.model.parameters())
    other = dataset_of(images + 0.001, truth)
    assert other.fingerprint() != part.data_sha256


def test_images_of_several_sizes_and_volumes():
    class Mean(nn.Module):
        def forward(self, x):
            mean = x.flatten(1).mean(1)
            return torch.stack([mean, 1 - mean], 1)

    sizes = [(1, 8, 8), (1, 8, 8), (1, 12, 9), (1, 8, 8)]
    images = [torch.full(size, 0.6) for size in sizes]
    run = mr.evaluate(
        mr.Victim(Mean(), mr.Classification(2)),
        dataset_of(images, torch.zeros(4).long(), classes=("x", "y"), task="classification"),
        {"fgsm": mr.FGSM()},
        [mr.Threat(eps=0.2)],
    )
    assert run.records["index"].to_list() == [0, 1, 2, 3]
    assert run.records["success"].to_list() == [True] * 4
    volumes = [torch.full((1, 12, 11, 13), 0.6)] * 2
    run = mr.evaluate(
        mr.Victim(Mean(), mr.Classification(2)),
        dataset_of(volumes, torch.zeros(2).long(), classes=("x", "y"), task="classification", spatial_dims=3),
        {"fgsm": mr.FGSM()},
        [mr.Threat(eps=0.2)],
    )
    assert run.gallery[0].clean.shape == (1, 9, 11, 13)
    assert run.gallery[0].attacks[0].adversarial.shape == (1, 9, 11, 13)
    assert run.gallery[0].slices == (0, 2, 3, 4, 6, 7, 8, 10, 11)


def test_segmentation_rows_and_gallery():
    model = nn.Conv2d(1, 3, 1)
    images = torch.rand(3, 1, 16, 12)
    truth = torch.randint(0, 3, (3, 16, 12))
    data = dataset_of(images, truth, classes=("background", "a", "b"), task="segmentation")
    victim = mr.Victim(model, mr.Segmentation(3))
    run = mr.evaluate(victim, data, {"pgd": mr.PGD(steps=2)}, [mr.Threat(eps=0.1)], gallery=2)
    expected = victim.task.image_metrics(victim(images), truth)
    assert run.records["dice_before"].to_list() == pytest.approx(expected["dice"].tolist())
    assert run.records["dice_by_class_before"][0].to_list() == pytest.approx(expected["dice_by_class"][0].tolist())
    assert run.records["scores_before"].is_null().all()
    assert [image.index for image in run.gallery] == [0, 2]
    assert torch.equal(run.gallery[1].truth, truth[2])
    assert run.gallery[1].attacks[0].after.shape == (16, 12)


def test_masks_are_measured_in_millimetres_where_the_spacing_is_known():
    images, truth = torch.rand(2, 1, 12, 14), torch.zeros(2, 12, 14, dtype=torch.int64)
    truth[:, 3:7, 4:9] = 1
    data = dataset_of(images, truth, classes=("background", "a"), task="segmentation")
    samples = [replace(sample, spacing=spacing) for sample, spacing in zip(data, [(2.0, 0.5), None], strict=True)]
    data = InMemoryDataset(data.info, samples)
    victim = mr.Victim(nn.Conv2d(1, 2, 3, padding=1), mr.Segmentation(2, lesion_classes=(1,), surface_tolerance=1.0))
    run = mr.evaluate(victim, data, {"pgd": mr.PGD(steps=2)}, [mr.Threat(eps=0.1)])
    expected = victim.task.image_metrics(victim(images), truth, [(2.0, 0.5), None])
    for name in ("hd95", "surface_dice", "missed_volume"):
        found = run.records[f"{name}_before"].to_list()
        assert found == pytest.approx(expected[name].tolist(), nan_ok=True), name
        assert run.records[f"{name}_by_class_after"].list.len().to_list() == [1, 1]
    assert run.records["hd95_before"].is_nan().to_list() == [False, True]
    assert run.records["volume_unit"].to_list() == ["mm²", "pixels"]
    assert run.records["lesion_volumes_before"].to_list() == [[20.0], [20.0]]
    answer = victim.task.predict(victim(images))
    share = [(answer[k][truth[k] == 1] == 1).double().mean().item() for k in range(2)]
    assert run.records["lesion_covered_before"].to_list() == [[pytest.approx(one)] for one in share]
    named = run.summary.filter(attack="clean")["metric"].to_list()
    assert {"hd95", "surface dice", "missed volume (mm²)", "missed volume (pixels)"} <= set(named)


def test_an_attack_measures_no_border(monkeypatch):
    """What takes its time is measured on the clean image and on the one handed in, not at every candidate."""
    from medrobust.tasks import segmentation

    calls = []
    real = segmentation.surface_metrics
    monkeypatch.setattr(segmentation, "surface_metrics", lambda *a: calls.append(1) or real(*a))
    images, truth = torch.rand(2, 1, 12, 14), torch.ones(2, 12, 14, dtype=torch.int64)
    data = dataset_of(images, truth, classes=("background", "a"), task="segmentation")
    victim = mr.Victim(nn.Conv2d(1, 2, 3, padding=1), mr.Segmentation(2))
    attacks = {"pgd": mr.PGD(steps=4, keep="best", restarts=2), "erase": mr.Towards(mr.ASMA(steps=4), mr.EmptyMask())}
    mr.evaluate(victim, data, attacks, [mr.Threat(eps=0.1)])
    assert len(calls) == 1 + len(attacks)


class Unreadable(InMemoryDataset):
    def __getitem__(self, index: int) -> Sample:
        if index == 1:
            raise BadSampleError("s1.png is truncated; replace it")
        return super().__getitem__(index)


def test_a_bad_sample_stops_or_is_listed(trained):
    victim, images, truth = trained
    good = dataset_of(images[:3], truth[:3])
    bad = Unreadable(good.info, good.samples)
    with pytest.raises(BadSampleError, match=r"s1.png is truncated.*--skip-bad"):
        mr.evaluate(victim, bad, ATTACKS, THREATS)
    run = mr.evaluate(victim, bad, ATTACKS, THREATS, skip_bad=True)
    (part,) = run.info.parts.values()
    assert (part.size, part.evaluated) == (3, 2)
    assert [(s.index, s.reason) for s in part.skipped] == [(1, "s1.png is truncated; replace it")]
    assert run.records["index"].unique().sort().to_list() == [0, 2]


def test_a_sample_that_the_victim_cannot_take_is_named_or_skipped(trained):
    victim, images, truth = trained
    images = images[:3].clone()
    images[1, 0, 0, 0] = torch.nan
    with pytest.raises(BadSampleError, match="image 's1': images hold NaN"):
        mr.evaluate(victim, dataset_of(images, truth[:3]), ATTACKS, THREATS)
    run = mr.evaluate(victim, dataset_of(images, truth[:3]), ATTACKS, THREATS, skip_bad=True)
    (part,) = run.info.parts.values()
    assert [skipped.index for skipped in part.skipped] == [1]


def test_two_samples_of_one_id_are_refused(trained):
    victim, images, truth = trained
    data = dataset_of(images[:2], truth[:2])
    twins = InMemoryDataset(data.info, [data.samples[0], data.samples[0]])
    with pytest.raises(InputError, match="two samples have the id 's0'"):
        mr.evaluate(victim, twins, ATTACKS, THREATS)


class Softmax(nn.Module):
    def forward(self, x):
        return (3 * x.flatten(1)[:, :3]).softmax(1)


def notes(model, truth, count=24, eps=0.1) -> str:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(count, 1, 3, 3, generator=generator)
    data = dataset_of(images, truth[:count], classes=("a", "b", "c"), task="classification")
    run = mr.evaluate(mr.Victim(model, mr.Classification(3)), data, {"fgsm": mr.FGSM()}, [mr.Threat(eps=eps)])
    (part,) = run.info.parts.values()
    return " ".join(part.dataset.notes)


class Constant(nn.Module):
    def forward(self, x):
        return x.flatten(1)[:, :3] * torch.tensor([1.0, 0.0, 0.0]) + torch.tensor([5.0, 0.0, 0.0])


class Pixels(nn.Module):
    def forward(self, x):
        return 3 * x.flatten(1)[:, :3]


TRUTH = torch.arange(30) % 3


@pytest.mark.parametrize(
    ("model", "truth", "eps", "words"),
    [
        (Softmax(), TRUTH, 0.1, "look like probabilities, not logits"),
        (Constant(), TRUTH, 0.1, "answers 'a' to every clean image"),
        (Pixels(), 1 + torch.arange(30) % 2, 0.1, "do the labels start at 1?"),
        (Pixels(), torch.cat([torch.zeros(18), torch.ones(12)]).long(), 0.1, "no better than always answering"),
    ],
)
def test_what_a_user_hardly_means_is_told(model, truth, eps, words):
    assert words in notes(model, truth, eps=eps)


@pytest.mark.parametrize(
    ("threat", "words"),
    [(mr.Threat(eps=2.0), "was 2/255 meant?"), (mr.Contrast(5.0), "of contrast is 500 %: was 5% meant?")],
)
def test_a_budget_of_the_whole_range_is_told_before_anything_is_attacked_and_in_the_report(trained, threat, words):
    victim, images, truth = trained
    asked: list[object] = []
    hook = victim.model.register_forward_pre_hook(lambda *_: asked.append(None))
    small, data = mr.Threat(eps=0.01), dataset_of(images[:2], truth[:2])
    with pytest.raises(MedrobustWarning, match=re.escape(words)):  # here a warning is an error
        mr.evaluate(victim, data, {"fgsm": mr.FGSM()}, [small, threat])
    assert asked == []
    with pytest.warns(MedrobustWarning, match=re.escape(words)) as caught:
        run = mr.evaluate(victim, data, {"fgsm": mr.FGSM()}, [small, threat])
    hook.remove()
    assert (len(caught), len(asked) > 0) == (1, True)
    (part,) = run.info.parts.values()
    assert any(words in note for note in part.dataset.notes)


def test_it_is_told_before_images_are_written(trained, tmp_path):
    victim, images, truth = trained
    with pytest.raises(MedrobustWarning, match=r"was 4/255 meant\?"):
        export_adversarial(victim, dataset_of(images, truth), mr.FGSM(), mr.Threat(eps=4), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_told_of_a_sound_run(trained):
    victim, images, truth = trained
    run = mr.evaluate(victim, dataset_of(images, truth), {"fgsm": mr.FGSM()}, THREATS)
    (part,) = run.info.parts.values()
    assert part.dataset.notes == ()


class NotANumber(nn.Module):
    def forward(self, x):
        return x.flatten(1)[:, :2] / 0 * 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"attacks": {}}, "at least one attack"),
        ({"threats": []}, "at least one attack and one budget"),
        ({"threats": [THREATS[0], THREATS[0]]}, "given twice"),
        ({"batch_size": 0}, "batch_size"),
        ({"gallery": -1}, "gallery"),
        ({"attacks": [mr.FGSM()]}, "attacks must be a mapping"),
        ({"threats": THREATS[0]}, "threats must be a list of Threat"),
        ({"threats": [0.1]}, "threats must be a list of Threat"),
        ({"attacks": {"clean": mr.FGSM()}}, "labelled 'clean'"),
        ({"attacks": {"t": mr.PGD(targeted=True)}}, "targeted"),
    ],
)
def test_refuses_what_cannot_be_measured(trained, arguments, message):
    victim, images, truth = trained
    given = {"attacks": ATTACKS, "threats": THREATS, **arguments}
    with pytest.raises(InputError, match=message):
        mr.evaluate(victim, dataset_of(images, truth), **given)


def test_refuses_nan_an_empty_set_and_wrong_ranges(trained):
    victim, images, truth = trained
    with pytest.raises(InputError, match="NaN or infinite outputs for the clean image 's0'"):
        mr.evaluate(mr.Victim(NotANumber(), mr.Classification(2)), dataset_of(images, truth * 0), ATTACKS, THREATS)
    with pytest.raises(InputError, match="is empty"):
        mr.evaluate(victim, dataset_of([], []), ATTACKS, THREATS)
    with pytest.raises(InputError, match="outside the bounds"):
        mr.evaluate(victim, dataset_of(images * 255, truth), ATTACKS, THREATS)
    with pytest.raises(InputError, match="label 7"):
        mr.evaluate(victim, dataset_of(images, truth * 0 + 7), ATTACKS, THREATS)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_nan_under_attack_is_told(value):
    class Fragile(nn.Module):
        def forward(self, x):
            z = x.flatten(1)[:, :2]
            return torch.where(x.flatten(1).sum(1, keepdim=True) == 1.0, z, z * value)

    image = torch.tensor([[[0.5, 0.5]]])
    data = dataset_of([image], torch.tensor([0]), classes=("x", "y"))
    with pytest.raises(InputError, match="NaN or infinite outputs for the attacked image 's0'"):
        mr.evaluate(mr.Victim(Fragile(), mr.Classification(2)), data, {"fgsm": mr.FGSM()}, THREATS)
