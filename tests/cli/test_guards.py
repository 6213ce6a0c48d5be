"""`medrobust certify` and `medrobust screen`: from files to folders, and what cannot be done in one line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

MODEL = """
import torch
from torch import nn

def make(outputs, channels):
    linear = nn.Linear(4, outputs)
    with torch.no_grad():
        linear.weight.copy_(torch.tensor([[-20.0] * 4, [20.0] * 4]))
        linear.bias.copy_(torch.tensor([40.0, -40.0]))
    return nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), linear)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Dark and bright images; the model is right, and sure."""
    rng = np.random.default_rng(0)
    arrays = {}
    for split, size in (("train", 20), ("val", 24), ("test", 12)):
        labels = np.arange(size) % 2
        levels = 112 + 32 * labels[:, None, None]
        arrays[f"{split}_images"] = (levels + rng.integers(-8, 9, (size, 28, 28))).astype(np.uint8)
        arrays[f"{split}_labels"] = labels[:, None].astype(np.uint8)
    np.savez(tmp_path / "lightmnist.npz", **arrays)
    (tmp_path / "light_models.py").write_text(MODEL)
    (tmp_path / "run.yaml").write_text(
        "data: {path: lightmnist.npz}\nmodel: python:light_models:make\nattacks: {pgd: {steps: 3}}\nout: runs/light\n"
    )
    return tmp_path


def test_certificates_are_written_and_told(medrobust, folder):
    arguments = ("certify", "run.yaml", "--sigma", "0.1", "--n", 100, "--radii", "0.05,0.1,9")
    code, out, err = medrobust(*arguments, "--out", "certified")
    assert code == 0, err
    assert "12 images under noise of sigma 0.1, 100 draws each" in out
    assert "certified accuracy within L2 ≤ 0.1: 1.000 (0.735 to 1.000)" in out
    assert "the vote over noisy copies, not of the model alone" in out
    assert "certificates: certified" in err
    assert len(pl.read_parquet("certified/images.parquet")) == 12
    told = json.loads(Path("certified/certified.json").read_text())
    assert told["radii"] == [0.05, 0.1, 9]
    assert told["config"]["data"]["path"] == "lightmnist.npz"
    assert not Path("runs").exists()
    code, _, err = medrobust(*arguments, "--out", "certified")
    assert (code, "certified is not an empty folder; give another --out" in err) == (2, True)


def test_squeezing_is_measured(medrobust, folder):
    usual = ("--eps", "24/255", "--calibration-split", "val", "--adaptive", "pgd", "--false-positives", "0.2")
    code, out, err = medrobust("screen", "run.yaml", *usual, "--out", "screened")
    assert code == 0, err
    assert "thresholds for 20% false alarms, set on 24 others" in out
    assert "  pgd, linf ≤ 24/255: fooled 1.00" in out
    assert "  pgd that knows squeezing, linf ≤ 24/255: fooled" in out
    assert "worth nothing on its own" in out
    told = json.loads(Path("screened/screened.json").read_text())
    assert told["screens"]["squeezing"]["squeezers"][0] == {"transform": "BitDepth", "bits": 5}
    assert told["false_positives"] == 0.2


@pytest.mark.slow
def test_screens_are_measured_trained_and_read_again(medrobust, folder):
    usual = ("screen", "run.yaml", "--eps", "16/255", "--calibration-split", "val", "--adaptive", "pgd")
    code, out, err = medrobust(*usual, "--screens", "squeezing,learned", "--out", "screened")
    assert code == 0, err
    assert "squeezing: false alarms" in out
    assert "pgd that knows learned, linf ≤ 16/255: fooled" in out
    assert {path.name for path in Path("screened").iterdir()} == {
        "screened.json", "scores.parquet", "figures.csv", "learned",
    }  # fmt: skip
    code, again, err = medrobust(*usual, "--screens", "screened/learned", "--out", "again")
    assert code == 0, err
    assert [line for line in out.splitlines() if "learned" in line] == [
        line for line in again.splitlines() if "learned" in line
    ]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("certify", "--sigma", "much"), "sigma 'much' is not a budget"),
        (("certify", "--sigma", "20HU"), "sigma 20HU does not fit the data, whose unit is [0, 1]"),
        (("certify", "--set", "model.defence=smooth"), "which a defence does not take"),
        (("screen", "--screens", "nowhere"), "nowhere is no learned screen: it has no screen.json"),
        (("screen", "--adaptive", "square"), "attack square cannot be told of a screen"),
        (("screen", "--screens", "squeezing,squeezing"), "screen 'squeezing' is given twice"),
        (("screen", "--calibration-split", "test"), "the calibration images are the attacked images"),
        (("screen",), "clean images cannot set a threshold of 0.05 false positives: at least 19"),
        (("screen", "--data", "embedded", "--model", "embedded"), "give the data that screens are measured on"),
    ],
)
def test_what_cannot_be_done_is_one_line(medrobust, folder, arguments, told):
    command, *rest = arguments
    code, _, err = medrobust(command, "run.yaml", *rest, "--out", "made")
    assert code == 2
    assert told in err
    assert len(err.strip().splitlines()) == 1
    assert not Path("made").exists()
