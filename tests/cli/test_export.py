"""`medrobust export`, and the file that it wrote attacked as a black box."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

import medrobust as mr

pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
MODEL = """
import torch
from torch import nn

def make(outputs, channels):
    torch.manual_seed(1)
    features = nn.Sequential(nn.Conv2d(channels, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten())
    return nn.Sequential(features, nn.Linear(16, outputs))
"""


@pytest.fixture
def of_model(tmp_path) -> tuple[str, ...]:
    rng = np.random.default_rng(0)
    arrays = {"test_images": rng.integers(0, 256, (12, 28, 28)).astype(np.uint8)}
    arrays["test_labels"] = (np.arange(12) % 2)[:, None].astype(np.uint8)
    np.savez(tmp_path / "noisemnist.npz", **arrays)
    (tmp_path / "net_to_export.py").write_text(MODEL)
    (tmp_path / "run.yaml").write_text(
        "data: noisemnist.npz\nmodel: {source: 'python:net_to_export:make', mean: 0.5, std: 0.01}\n"
    )
    return ("export", "run.yaml")


@pytest.mark.filterwarnings("default::medrobust.errors.MedrobustWarning")
def test_the_file_is_attacked_as_the_network_is(medrobust, of_model):
    """Also with the run.yaml of the network, whose mean and std are inside the file: they are not applied twice."""
    code, _, err = medrobust(*of_model, "--out", "files")
    assert code == 0, err
    assert sorted(path.name for path in Path("files").iterdir()) == ["export.json", "model-card.md", "model.onnx"]
    attacked = ("--set", "attacks={square: {queries: 20}}", "--eps", "8/255", "--trust", 0)
    code, _, err = medrobust("evaluate", "run.yaml", "--model", "onnx:files/model.onnx", *attacked, "--out", "box")
    assert code == 0, err
    assert "has its normalisation inside, as medrobust exported it: mean and std are left out" in err
    code, _, err = medrobust("evaluate", "run.yaml", *attacked, "--out", "network")
    assert code == 0, err
    box, network = (mr.load_run(folder).records for folder in ("box", "network"))
    for column in ("prediction_before", "prediction_after", "queries"):
        assert box[column].equals(network[column]), column
    difference = box["loss_after"] - network["loss_after"]
    assert float(difference.abs().max()) < 1e-5
    assert float(network.select(pl.col("loss_after") - pl.col("loss_before")).to_series().max()) > 1e-4


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--to", "onnx,pickle"), "unknown export format 'pickle'"),
        (("--out", "."), "is not an empty folder"),
        (("--model", "onnx:nothing.onnx"), "there is no such ONNX file"),
        (("--weights", "none.safetensors"), "there is no such weights file"),
        (("--data", "embedded"), "give the data that the files are to be checked on"),
    ],
)
def test_what_is_wrong_is_told_in_a_line(medrobust, of_model, options, told):
    out = () if "--out" in options else ("--out", "files")
    code, _, err = medrobust(*of_model, *out, *options)
    assert (code, err.count("\n")) == (2, 1), err
    assert told in err
    assert not Path("files").exists()
