"""Certifying whole data sets: true radii are kept, units and batches do not matter, and what is refused."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest
import torch
from scipy.stats import kstest
from torch import nn
from victims import CASES, assert_same_state, build, state

import medrobust as mr
from medrobust.data import DatasetInfo
from medrobust.errors import InputError


def dataset(images: torch.Tensor, truth: torch.Tensor, task: mr.Task, **info) -> mr.InMemoryDataset:
    names = tuple(f"c{number}" for number in range(task.classes))
    told = {"channels": images.shape[1], "spatial_dims": images.ndim - 2, **info}
    samples = [mr.Sample(f"i{k}", image, truth[k], patient=f"p{k // 2}") for k, image in enumerate(images)]
    return mr.InMemoryDataset(DatasetInfo("set", task.name, names, **told), samples)


def half_space(weight: torch.Tensor, bias: float) -> nn.Module:
    """One logit, w·x + b: its smoothed answer is its own, and the true radius is the distance to the plane."""
    linear = nn.Linear(weight.numel(), 1)
    with torch.no_grad():
        linear.weight.copy_(weight.reshape(1, -1))
        linear.bias.fill_(bias)
    return nn.Sequential(nn.Flatten(), linear)


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-1000.0, 3000.0)])
def test_no_radius_is_larger_than_the_true_one_of_a_plane(low, high):
    generator = torch.Generator().manual_seed(0)
    images = low + (high - low) * torch.rand(12, 1, 4, 4, generator=generator)
    weight = torch.randn(16, generator=generator)
    bias = -float(images.flatten(1).mean(0) @ weight)
    victim = mr.Victim(half_space(weight, bias), mr.Classification(2), (low, high))
    logits = victim(images).detach().flatten()
    true = (logits.abs() / weight.norm()).numpy()
    sigma = 0.1 * (high - low)
    data = dataset(images, (logits > 0).long(), victim.task, bounds=(low, high))
    tight = []
    for seed in range(4):
        found = mr.certify(victim, data, sigma, n=2000, alpha=0.001, seed=seed).images
        assert (found["radius"].to_numpy() <= true).all()
        sure = found.filter(pl.col("certified").is_not_null())
        assert (sure["certified"] == sure["truth"]).all()
        inside = true < 2 * sigma  # beyond, so few draws cannot show more
        tight += (found["radius"].to_numpy()[inside] / true[inside]).tolist()
    assert np.median(tight) > 0.7


def test_who_stands_at_the_border_abstains():
    images = torch.full((1, 1, 4, 4), 0.5)
    victim = mr.Victim(half_space(torch.ones(16), -8.0), mr.Classification(2))
    found = mr.certify(victim, dataset(images, torch.tensor([1]), victim.task), 0.25, n=400)
    (row,) = found.images.to_dicts()
    assert (row["certified"], row["prediction"], row["radius"], row["right"]) == (None, None, 0.0, False)
    assert row["p_lower"] < 0.5
    values = dict(found.accuracy.group_by("metric").agg(pl.col("value").max()).iter_rows())
    assert values == {"certified accuracy": 0.0, "accuracy of the vote": 0.0, "abstained": 1.0}


class Seen(nn.Module):
    """Gives class 0, and keeps the images."""

    def __init__(self) -> None:
        super().__init__()
        self.images: list[torch.Tensor] = []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.images.append(images)
        return torch.tensor([[1.0, 0.0]]).expand(len(images), 2)


def test_the_model_sees_the_image_under_independent_noise_that_is_not_cut():
    image, model = torch.full((1, 1, 6, 6), 0.9), Seen()
    victim = mr.Victim(model, mr.Classification(2))
    mr.certify(victim, dataset(image, torch.tensor([0]), victim.task), 0.25, n0=100, n=300, batch_size=50)
    noise = (torch.cat(model.images[1:]) - 0.9) / 0.25  # the first is the image as it is
    assert torch.equal(model.images[0], image)
    assert len(noise) == 400
    assert len(noise.flatten(1).unique(dim=0)) == 400
    assert kstest(noise.flatten().numpy(), "norm").pvalue > 0.01


NAMES = [name for name in CASES if "16" not in name]


@pytest.mark.parametrize("name", NAMES)
def test_every_kind_of_model_is_left_as_it_was_and_the_batch_does_not_matter(name):
    victim, images, truth = build(CASES[name])
    low, high = victim.bounds
    data = dataset(images.float(), truth, victim.task, bounds=victim.bounds, ignore_index=victim.task.ignore_index)
    before = state(victim.model)
    torch.manual_seed(5)
    one, other = (
        mr.certify(victim, data, 0.1 * (high - low), n0=5, n=24, alpha=0.05, batch_size=size) for size in (1, 7)
    )
    drawn = torch.rand(3)
    torch.manual_seed(5)
    assert torch.equal(drawn, torch.rand(3))
    assert_same_state(before, state(victim.model))
    assert one.images.equals(other.images)
    assert one.images["radius"].max() > 0
    reordered = mr.InMemoryDataset(data.info, list(data)[::-1])
    again = mr.certify(victim, reordered, 0.1 * (high - low), n0=5, n=24, alpha=0.05)
    assert one.images.drop("index").equals(again.images.drop("index").sort("id"))


def test_masks_of_a_model_that_looks_at_each_pixel_alone():
    """A pixel is 1 where it is above ½: P(right) = Φ(|x − ½|/σ), which is above tau = 0.75 from |x − ½| = 0.67σ on."""
    images = torch.tensor([0.9, 0.1, 0.505, 0.495, 0.53, 0.8]).reshape(1, 1, 2, 3)
    convolution = nn.Conv2d(1, 1, 1)
    with torch.no_grad():
        convolution.weight.fill_(1.0)
        convolution.bias.fill_(-0.5)
    victim = mr.Victim(convolution, mr.Segmentation(2, ignore_index=9))
    truth = torch.tensor([[1, 0, 1], [0, 1, 9]])[None]
    found = mr.certify(victim, dataset(images, truth, victim.task, ignore_index=9), 0.1, n=500)
    (row,) = found.images.to_dicts()
    assert row["positions"] == 5
    assert row["radius"] == pytest.approx(0.1 * 0.6744897)
    assert row["abstained"] == pytest.approx(3 / 5)
    assert row["right"] == pytest.approx(2 / 5)
    assert "can prove nothing" not in found.summary()
    # 0.75^n ≤ 0.001/5 from n = 30 on
    few = mr.certify(victim, dataset(images, truth, victim.task, ignore_index=9), 0.1, n=29)
    assert few.images["abstained"].to_list() == [1.0]
    assert "29 draws can prove nothing of so many positions: at least 30 are needed" in few.summary()
    # one pixel of class 1 is sure, two of it abstain, and one of class 0 does: 2·1/(1 + 3 + 1)
    assert row["dice_at_least"] == pytest.approx(0.4)


def test_certified_accuracy_falls_with_the_radius_and_its_interval_is_by_patient(trained, tmp_path):
    victim, images, truth = trained
    found = mr.certify(victim, dataset(images, truth, victim.task), 0.1, n=200, radii=[0, 0.1, 0.2, 9])
    held = found.accuracy.filter(metric="certified accuracy")
    assert held["radius"].to_list() == [0, 0.1, 0.2, 9]
    assert held["value"].is_sorted(descending=True)
    assert held["value"][0] > 0.3
    assert held["value"][-1] == 0
    assert set(held["resampled"]) == {"patients"}
    assert set(held["clusters"]) == {8}
    assert found.images["radius"].max() <= found.largest
    found.save(tmp_path / "certified")
    told = json.loads((tmp_path / "certified/certified.json").read_text())
    assert told["sampling"] == {"sigma": 0.1, "n0": 100, "n": 200, "alpha": 0.001, "tau": 0.75}
    assert pl.read_parquet(tmp_path / "certified/images.parquet").equals(found.images)
    assert "p0" not in found.images["patient"].to_list()
    assert pl.read_csv(tmp_path / "certified/accuracy.csv")["value"].to_list() == found.accuracy["value"].to_list()
    assert "not of the model alone" in found.summary()
    with pytest.raises(InputError, match="is not an empty folder"):
        found.save(tmp_path / "certified")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"sigma": 0}, "sigma must be a finite number above 0"),
        ({"n": 9}, "n=9 draws can prove nothing at alpha=0.001: at least 10"),
        ({"alpha": 1.0}, "alpha must be between 0 and 1"),
        ({"tau": 0.5}, "tau must be above 0.5 and below 1"),
        ({"n0": 0}, "n0 must be a whole number of at least 1"),
        ({"radii": [-1]}, "a radius must be a finite number, at least 0"),
    ],
)
def test_what_cannot_be_certified_is_told(trained, options, told):
    victim, images, truth = trained
    with pytest.raises(InputError, match=told):
        mr.certify(victim, dataset(images[:2], truth[:2], victim.task), **{"sigma": 0.1, **options})


def test_masks_and_labels_have_one_radius():
    masks = mr.Victim(nn.Conv2d(1, 2, 1), mr.Segmentation(2))
    with pytest.raises(InputError, match="have the one radius sigma"):
        mr.certify(masks, dataset(torch.rand(1, 1, 4, 4), torch.zeros(1, 4, 4).long(), masks.task), 0.1, radii=[0.1])


def test_a_defence_and_detection_are_refused(trained):
    victim, images, truth = trained
    data = dataset(images[:2], truth[:2], victim.task)
    with pytest.raises(InputError, match="beyond the bounds, which a defence does not take"):
        mr.certify(mr.defended(victim, mr.Smooth()), data, 0.1)
    with pytest.raises(InputError, match="boxes have no vote"):
        mr.certify(mr.Victim(nn.Identity(), mr.Detection(2)), data, 0.1)


def test_a_black_box_is_certified_by_its_answers(trained):
    victim, images, truth = trained
    data = dataset(images[:3], truth[:3], victim.task)
    box = mr.BlackBox(lambda batch: victim(batch).detach(), victim.task)
    assert mr.certify(box, data, 0.1, n=50).images.equals(mr.certify(victim, data, 0.1, n=50).images)
