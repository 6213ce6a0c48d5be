"""`medrobust stability`: on a user's own model, on the embedded brain, and what cannot be done in one line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import medrobust as mr
from medrobust.config import read_config
from medrobust.stability_jobs import stability_config

MODEL = """
import torch
from torch import nn

def make(outputs, channels):
    torch.manual_seed(0)
    return nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(16 * channels, outputs))

def other(outputs, channels):
    torch.manual_seed(1)
    return nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(16 * channels, outputs))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    arrays = {}
    for split, size in (("train", 2), ("val", 2), ("test", 10)):
        arrays[f"{split}_images"] = rng.integers(0, 256, (size, 28, 28), dtype=np.uint8)
        arrays[f"{split}_labels"] = (np.arange(size) % 2)[:, None].astype(np.uint8)
    np.savez(tmp_path / "toymnist.npz", **arrays)
    (tmp_path / "steady_models.py").write_text(MODEL)
    (tmp_path / "run.yaml").write_text(
        "data: {path: toymnist.npz}\nmodel: python:steady_models:make\n"
        "surrogates: [{source: 'python:steady_models:other', name: two}]\n"
        "attacks: {slow: {attack: pgd, steps: 4}, smia: {steps: 4}}\nthreat: {norm: l2, eps: 0.5}\nseed: 3\n"
        "out: runs/toy\n"
    )
    return tmp_path


def test_a_file_whose_surrogates_are_further_models(medrobust, folder):
    code, out, err = medrobust("stability", "run.yaml", "--images", 6, "--seeds", 2, "--pictures", 1)
    assert (code, "report: runs/toy/stability/stability.html" in err) == (0, True)
    found = mr.load_stability("runs/toy/stability")
    assert out.splitlines() == found.sentences()
    assert list(found.info.parts) == ["toymnist, python:steady_models:make", "toymnist, two"]
    assert found.info.seeds == [3, 4]
    assert found.info.parts["toymnist, two"].threats[0]["norm"] == "l2"
    assert set(found.outcomes["attack"]) == {"slow", "smia"}
    assert found.components.filter(component="model")["value"].null_count() == 0
    page = Path("runs/toy/stability/stability.html").read_text(encoding="utf-8")
    assert "medrobust stability run.yaml --seeds 2 --images 6 --pictures 1" in page
    code, _, err = medrobust("stability", "run.yaml")
    assert (code, "is not an empty folder; give another --out" in err) == (2, True)


def test_what_was_taken_where_nothing_was_named_stands_in_the_configuration_that_is_kept(folder, monkeypatch):
    monkeypatch.chdir(folder)
    config = read_config(None, {"data": "toymnist.npz", "model": "python:steady_models:make"})
    kept = stability_config(config, seeds=1, images=2, pictures=0).info.config
    assert list(kept["attacks"]) == ["pgd", "mi", "smia"]
    assert kept["threat"]["eps"] == ["4/255"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--eps", "1/255,2/255"), "ways are compared at one budget, got 2: give one --eps"),
        (("--attacks", "square,smia"), "attack 'square' takes no steps whose way could be noted: leave it out"),
        (("--attacks", "tog,smia"), "attack 'tog' is for detection"),
    ],
)
def test_what_cannot_be_done(medrobust, options, words):
    code, _, err = medrobust("stability", "--data", "embedded:level", *options)
    assert (code, words in err) == (2, True), err
    assert list(Path().iterdir()) == []


@pytest.mark.slow
def test_on_the_embedded_brain(medrobust):
    code, out, _ = medrobust("stability", "--images", 4, "--seeds", 2, "--pictures", 1, "--out", "brain")
    assert code == 0
    assert "There are too few images to tell whether smia or pgd is the steadier one" in out
    found = mr.load_stability("brain")
    assert set(found.info.parts) == {"mni152-tissue", "mni152-level"}
    assert set(found.components["scope"]) == {"mni152-tissue", "mni152-level", "all data sets"}
    final = found.steps.filter(measure="kl_final", attack="pgd").sort("part", "step")
    for part in found.info.parts:
        medians = final.filter(part=part)["median"].to_list()
        assert medians[0] > medians[5] > medians[-1] == 0, "the prediction moves to where it ends"
    # every attack raises the loss
    assert found.quantities["loss rise"].min() > 0
