"""What is left of an attack after saving, compression, smoothing, resampling, and on another model."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import medrobust as mr
from medrobust.errors import InputError
from medrobust.evaluation import SURVIVAL, Aftercheck, another_model
from medrobust.evaluation.afterchecks import eight_bit, half_and_back, jpeg, smoothed

UNIT = (0.0, 1.0)


def network(seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(64, 3))


@pytest.fixture
def dataset() -> mr.InMemoryDataset:
    generator = torch.Generator().manual_seed(0)
    samples = [
        mr.Sample(f"image {place}", torch.rand(1, 16, 16, generator=generator), torch.tensor(place % 3))
        for place in range(7)
    ]
    return mr.InMemoryDataset(mr.DatasetInfo("noise", "classification", ("a", "b", "c"), channels=1), samples)


def test_eight_bits_are_the_levels_of_a_file():
    images = torch.tensor([0.0, 0.4 / 255, 0.6 / 255, 1.0]).view(1, 1, 1, 4)
    assert torch.equal(eight_bit(images, UNIT) * 255, torch.tensor([0.0, 0, 1, 255]).view(1, 1, 1, 4))
    hu = torch.tensor([-1024.0, 3071.0, -1016.5]).view(1, 1, 1, 3)
    step = 4095 / 255
    torch.testing.assert_close(
        eight_bit(hu, (-1024.0, 3071.0)).flatten(), torch.tensor([-1024.0, 3071.0, -1024 + 0 * step])
    )


@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_is_what_pillow_writes_and_reads(channels: int):
    levels = torch.randint(0, 256, (2, channels, 16, 24), dtype=torch.uint8)
    changed = jpeg(75)(levels / 255, UNIT)
    for image, result in zip(levels, changed, strict=True):
        pixels = image.movedim(0, -1).numpy()
        file = io.BytesIO()
        Image.fromarray(pixels if channels == 3 else pixels[..., 0]).save(file, "JPEG", quality=75)
        wanted = np.asarray(Image.open(file)).reshape(16, 24, channels)
        assert np.array_equal((result.movedim(0, -1) * 255).round().numpy().astype(np.uint8), wanted)


def test_smoothing_and_halving_keep_what_is_constant_and_flatten_what_is_not():
    for change in (smoothed, half_and_back):
        flat = torch.full((2, 1, 9, 7), 0.3)
        torch.testing.assert_close(change(flat, UNIT), flat)
        checkers = (torch.arange(12)[:, None] + torch.arange(12)) % 2 * 1.0
        assert float(change(checkers.expand(1, 1, 12, 12), UNIT).std()) < 0.5 * float(checkers.std())
        volume = torch.rand(1, 1, 3, 8, 8)
        assert change(volume, UNIT).shape == volume.shape


def test_an_aftercheck_is_a_part_measured_on_the_same_attacked_images(dataset: mr.InMemoryDataset):
    victim = mr.Victim(network(0), mr.Classification(3))
    other = another_model(mr.Victim(network(1), mr.Classification(3)), victim, "second seed")
    attack, threat = mr.PGD(), mr.Threat(8 / 255)
    run = mr.evaluate(victim, dataset, {"pgd": attack}, [threat], afterchecks=[*SURVIVAL, other], batch_size=3)
    names = ["noise", *(f"noise, {check.name}" for check in (*SURVIVAL, other))]
    assert list(run.info.parts) == names
    assert run.records.group_by("part").len()["len"].to_list() == [7] * len(names)

    images, truth = torch.stack([s.image for s in dataset]), torch.stack([s.truth for s in dataset])
    attacked = attack(victim, images, truth, threat, ids=[s.id for s in dataset]).adversarial
    for check in (*SURVIVAL, other):
        seen_by = check.victim or victim
        rows = run.records.filter(part=f"noise, {check.name}").sort("index")
        for when, images_then in (("before", images), ("after", attacked)):
            outputs = seen_by(check.change(images_then, UNIT))
            assert rows[f"prediction_{when}"].list.first().to_list() == outputs.argmax(1).tolist()
            losses = seen_by.task.loss(outputs, truth).detach().double()
            torch.testing.assert_close(
                torch.tensor(rows[f"loss_{when}"].to_list(), dtype=torch.float64), losses, rtol=1e-4, atol=1e-5
            )
        assert rows["success"].to_list() == [not right for right in rows["right_after"].to_list()]
    assert run.info.parts["noise, second seed"].weights_sha256 != run.info.parts["noise"].weights_sha256


def test_a_run_with_afterchecks_is_saved_and_reported(dataset: mr.InMemoryDataset, tmp_path):
    victim = mr.Victim(network(0), mr.Classification(3))
    run = mr.evaluate(victim, dataset, {"pgd": mr.PGD()}, [mr.Threat(8 / 255)], afterchecks=SURVIVAL)
    run.save(tmp_path / "run")
    assert list(mr.load_run(tmp_path / "run").info.parts) == list(run.info.parts)
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert page.count('<section class="part"') == 1, "an aftercheck is a row in its part, no section"
    assert "<bdi>JPEG 75</bdi>" in page.partition("What survives")[2]


def test_another_model_needs_the_same_bounds():
    victim = mr.Victim(network(0), mr.Classification(3))
    with pytest.raises(InputError, match=r"another model has the bounds \(0.0, 2.0\), the attacked model \(0.0, 1.0\)"):
        another_model(mr.Victim(network(1), mr.Classification(3), bounds=(0, 2)), victim)


def test_an_aftercheck_that_breaks_the_model_is_told(dataset: mr.InMemoryDataset):
    victim = mr.Victim(network(0), mr.Classification(3))
    nothing = Aftercheck("not a number", lambda images, bounds: images * float("nan"))
    with pytest.raises(InputError, match=r"NaN or infinite outputs for the clean \(not a number\) image"):
        mr.evaluate(victim, dataset, {"pgd": mr.PGD()}, [mr.Threat(8 / 255)], afterchecks=[nothing])
