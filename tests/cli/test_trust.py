"""The checks of trust on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import medrobust as mr

MODEL = """
import torch
from torch import nn

class Net(nn.Module):
    def forward(self, x):
        half = x.shape[-1] // 2
        margin = 20 * (x[..., half:].flatten(1).mean(1) - x[..., :half].flatten(1).mean(1))
        return torch.stack([-margin, margin], 1)

class Rounded(Net):
    def forward(self, x):
        return super().forward((x * 255).round() / 255)

def make(outputs, channels):
    return Net()

def rounded(outputs, channels):
    return Rounded()
"""


@pytest.fixture
def data(tmp_path) -> tuple[str, ...]:
    """Images of which one half is a little brighter; the class says which."""
    rng = np.random.default_rng(0)
    arrays = {}
    for split in ("train", "val", "test"):
        labels = np.arange(16) % 2
        images = rng.integers(100, 120, (16, 28, 28))
        images[labels == 1, :, 14:] += 4
        images[labels == 0, :, :14] += 4
        arrays |= {f"{split}_images": images.astype(np.uint8), f"{split}_labels": labels[:, None].astype(np.uint8)}
    np.savez(tmp_path / "toymnist.npz", **arrays)
    (tmp_path / "halves.py").write_text(MODEL)
    return ("--data", "toymnist.npz", "--attacks", "fgsm,pgd", "--eps", "1/255,2/255,3/255")


def test_an_honest_model_and_the_accuracy_that_was_stated(medrobust, data):
    honest = ("evaluate", *data, "--model", "python:halves:make")
    code, out, _ = medrobust(*honest, "--expect-accuracy", 1.0, "--strict", "--out", "r")
    assert code == 0
    assert "trust: 15 pass, 0 warn, 0 fail, 1 not applicable" in out
    written = json.loads(Path("r/trust.json").read_text())
    assert {check["verdict"] for check in written["toymnist"]} == {"pass", "not applicable"}
    code, out, _ = medrobust(*honest, "--expect-accuracy", 0.5, "--strict", "--trust", 0, "--out", "stated")
    assert code == 4
    assert "0.5 was stated" in out
    assert mr.load_run("stated").info.parts["toymnist"].probes is None


def test_a_broken_model_is_told_and_strict_says_so_by_its_exit(medrobust, data):
    broken = ("evaluate", *data, "--model", "python:halves:rounded")
    code, out, _ = medrobust(*broken, "--out", "r")
    assert code == 0
    assert "fail (gradients" in out
    assert "The gradient was zero" in out
    assert "should not be trusted" in Path("r/report.html").read_text()
    code, again, _ = medrobust("report", "r")
    assert (code, again) == (0, out)
    assert medrobust(*broken, "--strict", "--out", "strict")[0] == 4
    assert Path("strict/report.html").exists()


def test_one_stated_figure_is_of_one_data_set(medrobust):
    code, _, err = medrobust("evaluate", "--expect-accuracy", "0.9")
    assert code == 2
    assert "expect_accuracy is of one data set, and the embedded default has two" in err
