"""Models that show no gradient, from the command line: which attacks are refused, and how."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from medrobust import cli
from medrobust.config import read_config
from medrobust.errors import InputError
from medrobust.jobs import build_parts

MODEL = """
import torch
from torch import nn

def make(outputs, channels):
    return nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(16 * channels, outputs))

def remote(outputs, channels):
    model = make(outputs, channels)
    def predict(images):
        return model(images).softmax(1)
    return predict
"""


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A small MedMNIST file and a user's module, in the current folder."""
    rng = np.random.default_rng(0)
    arrays = {}
    for split, size in (("train", 6), ("val", 4), ("test", 6)):
        arrays[f"{split}_images"] = rng.integers(0, 256, (size, 28, 28), dtype=np.uint8)
        arrays[f"{split}_labels"] = (np.arange(size) % 2)[:, None].astype(np.uint8)
    np.savez(tmp_path / "toymnist.npz", **arrays)
    (tmp_path / "black_box_model.py").write_text(MODEL)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    sys.modules.pop("black_box_model", None)


def refused(monkeypatch, capsys, *arguments: str) -> str:
    monkeypatch.setattr(sys, "argv", ["medrobust", "evaluate", "--data", "toymnist.npz", *arguments])
    with pytest.raises(SystemExit) as exit_:
        cli.main()
    assert exit_.value.code == 2
    return " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("attack", ["pgd", "smia"])
def test_a_gradient_attack_on_a_function(folder, monkeypatch, capsys, attack):
    told = refused(monkeypatch, capsys, "--model", "python:black_box_model:remote", "--attacks", attack)
    assert "needs gradients, and a black box gives none: use square, nes or hopskipjump" in told


def test_a_gradient_attack_on_an_onnx_file(folder, monkeypatch, capsys):
    pytest.importorskip("onnx", reason="the package onnx, with which the tests export, is not installed")
    pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 2)).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        axes = {"image": {0: "count"}}
        torch.onnx.export(
            model, torch.rand(1, 1, 28, 28), "m.onnx", input_names=["image"], dynamic_axes=axes, dynamo=False
        )
    assert "a black box gives none" in refused(monkeypatch, capsys, "--model", "onnx:m.onnx", "--attacks", "smia")
    (part,) = build_parts(read_config(None, {"data": "toymnist.npz", "model": "onnx:m.onnx"}))
    assert not part.victim.differentiable
    image = part.dataset[0].image.unsqueeze(0)
    assert torch.allclose(part.victim(image), model(image), atol=1e-5)


def test_probabilities_in_the_configuration(folder):
    options = {"data": "toymnist.npz", "model.source": "python:black_box_model:remote", "model.probabilities": True}
    (part,) = build_parts(read_config(None, options))
    image = part.dataset[0].image.unsqueeze(0)
    assert torch.allclose(part.victim(image).exp().sum(1), torch.ones(1), atol=1e-5)
    with pytest.raises(InputError, match=r"model\.probabilities is for black boxes"):
        list(build_parts(read_config(None, {**options, "model.source": "python:black_box_model:make"})))
