"""A screen that learned: it tells what it was shown, is kept and read again, and is for the images it learned from."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from torch import nn

import medrobust as mr
from medrobust.data import DatasetInfo
from medrobust.errors import InputError, MedrobustWarning
from medrobust.guards.learned import ScreenInfo, _detector, _pairs

BOUNDS = (-100.0, 300.0)


def scans(count: int, seed: int = 0) -> mr.InMemoryDataset:
    """Smooth images in a unit of their own: what an attack adds is rougher than anything in them."""
    generator = torch.Generator().manual_seed(seed)
    coarse = -60 + 320 * torch.rand(count, 1, 4, 4, generator=generator)
    images = nn.functional.interpolate(coarse, (16, 16), mode="bilinear").clamp(*BOUNDS)
    truth = (images.flatten(1).mean(1) > 100).long()
    samples = [mr.Sample(f"s{seed}-{k}", image, truth[k]) for k, image in enumerate(images)]
    return mr.InMemoryDataset(DatasetInfo("scans", "classification", ("low", "high"), 1, BOUNDS, "HU"), samples)


def victim() -> mr.Victim:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.Tanh(), nn.Flatten(), nn.Linear(4 * 256, 2))
    return mr.Victim(network, mr.Classification(2), BOUNDS, mean=100, std=100)


def fresh() -> mr.LearnedScreen:
    info = ScreenInfo("timm:test_resnet", 1, 2, BOUNDS, "HU", {}, {}, "a", "b", 1, 0.5, 3)
    return mr.LearnedScreen(_detector(info, info.seed), info)


def test_it_learns_from_each_image_as_it_is_and_attacked():
    model, data, threat = victim(), scans(5), mr.Threat(8.0)
    pairs = list(_pairs(model, data, mr.SMIA(steps=2), threat, 4, 3))
    assert [sample.truth.item() for sample in pairs] == [0, 1] * 5
    images, truth, ids = mr.stack(list(data))
    made = mr.SMIA(steps=2)(model, images, truth, threat, seed=4, ids=ids).adversarial
    for place, sample in enumerate(data):
        clean, attacked = pairs[2 * place], pairs[2 * place + 1]
        assert torch.equal(clean.image, sample.image)
        torch.testing.assert_close(attacked.image, made[place])
        assert clean.patient == attacked.patient == sample.id  # never on two sides of a split
        assert clean.id != attacked.id


def test_suspicion_is_the_log_odds_of_attacked_and_differentiable():
    screen, model = fresh(), victim()
    images = mr.stack(list(scans(3)))[0].requires_grad_()
    found = screen(model, images, None)
    probabilities = screen.detector.model((images - 100) / 200).softmax(1)
    torch.testing.assert_close(found, (probabilities[:, 1] / probabilities[:, 0]).log())
    (gradient,) = torch.autograd.grad(found.sum(), images)
    assert bool((gradient.flatten(1).abs().sum(1) > 0).all())


def test_it_is_kept_and_read_again(tmp_path):
    screen, model = fresh(), victim()
    screen.save(tmp_path / "screen")
    again = mr.load_screen(tmp_path / "screen")
    images = mr.stack(list(scans(3)))[0]
    with torch.no_grad():
        assert torch.equal(screen(model, images, None), again(model, images, None))
    assert again.info == screen.info
    with pytest.raises(InputError, match="is not an empty folder"):
        screen.save(tmp_path / "screen")


def test_a_file_cannot_name_code_to_run(tmp_path):
    fresh().save(tmp_path / "screen")
    path = tmp_path / "screen/screen.json"
    told = json.loads(path.read_text())
    path.write_text(json.dumps({**told, "network": "python:os:getcwd"}))
    with pytest.raises(InputError, match="the network of a screen is timm:… or torchvision:…, got 'python:os:getcwd'"):
        mr.load_screen(tmp_path / "screen")
    path.write_text("{")
    with pytest.raises(InputError, match=r"screen\.json is damaged"):
        mr.load_screen(tmp_path / "screen")
    path.write_text(json.dumps({"network": 3}))
    with pytest.raises(InputError, match=r"screen\.json is damaged"):
        mr.load_screen(tmp_path / "screen")
    with pytest.raises(InputError, match="is no learned screen"):
        mr.load_screen(tmp_path)


def test_other_images_than_those_it_learned_from_are_refused():
    screen = fresh()
    brain = mr.Victim(nn.Identity(), mr.Classification(2))
    with pytest.raises(InputError, match=r"for 2-D images of 1 channel\(s\) within \[-100.0, 300.0\]"):
        screen(brain, torch.rand(2, 1, 16, 16), None)
    with pytest.raises(InputError, match="2-D images of 1 channel"):
        screen(victim(), torch.zeros(2, 3, 16, 16), None)
    with pytest.raises(InputError, match="2-D images of 1 channel"):
        screen(victim(), torch.zeros(2, 1, 4, 16, 16), None)


def test_what_cannot_be_trained_is_told():
    with pytest.raises(InputError, match=r"not in .* but in HU: give a threat"):
        mr.train_screen(victim(), scans(4))
    with pytest.raises(InputError, match="timm:… or torchvision:…"):
        mr.train_screen(victim(), scans(4), threat=mr.Threat(8.0), network="python:os:getcwd")


@pytest.mark.slow
def test_it_learns_to_tell_attacked_images_of_other_patients():
    model = victim()
    how = mr.Training(epochs=8, batch_size=16, learning_rate=2e-3, normalisation="batch")
    screen = mr.train_screen(model, scans(120), mr.SMIA(steps=4), mr.Threat(12.0), how=how)
    assert screen.info.accuracy > 0.9
    assert screen.info.attack["attack"] == "SMIA"
    others = scans(60, seed=1)
    images, truth, ids = mr.stack(list(others))
    with torch.no_grad():
        clean = screen(model, images, None)
        for attack in (mr.SMIA(steps=4), mr.FGSM(), mr.PGD(steps=4)):
            made = attack(model, images, truth, mr.Threat(12.0), ids=ids).adversarial
            found = screen(model, made, None)
            assert float((found[:, None] > clean[None]).float().mean()) > 0.9


def test_a_screen_that_saw_the_images_is_told():
    """Those that its threshold is set on, or that it is measured on; and these two must be others."""
    data, others, screen = scans(24), scans(24, seed=1), fresh()
    for calibration, attacked, told in ((data, others, "its threshold is set on"), (others, data, "it is measured on")):
        screen.info = replace(screen.info, data_sha256=data.fingerprint())
        with pytest.warns(MedrobustWarning, match=f"learned from the very images that {told}"):
            mr.screen(
                victim(), attacked, {"seen": screen}, {"fgsm": mr.FGSM()}, [mr.Threat(8.0)],
                calibration=calibration, adaptive={"pgd": mr.PGD(steps=1)},
            )  # fmt: skip
    with pytest.raises(InputError, match="the calibration images are the attacked images"):
        mr.screen(victim(), data, {"seen": screen}, {"fgsm": mr.FGSM()}, [mr.Threat(8.0)], calibration=data)
