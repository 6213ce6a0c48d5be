"""An exported model through ONNX Runtime: the scores of the network it was made of, and files that do not do."""

from __future__ import annotations

import sys
import warnings

import numpy as np
import pytest
import torch
from torch import nn

from medrobust.errors import InputError, MissingExtraError
from medrobust.models import load_model, weights_fingerprint

onnx = pytest.importorskip("onnx", reason="the package onnx, with which the tests export, is not installed")
pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")


def network(channels: int = 1, outputs: int = 3) -> nn.Module:
    torch.manual_seed(0)
    pooled = nn.Sequential(nn.Conv2d(channels, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return nn.Sequential(pooled, nn.Linear(4, outputs)).eval()


def exported(model: nn.Module, path, size=(1, 1, 8, 8), free=(0, 2, 3)) -> str:
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        axes = {"image": {axis: f"axis{axis}" for axis in free}}
        torch.onnx.export(model, torch.rand(size), str(path), input_names=["image"], dynamic_axes=axes, dynamo=False)
    return f"onnx:{path}"


def load(source: str, channels: int = 1, task: str = "classification", **options):
    return load_model(source, outputs=3, channels=channels, task=task, **options)


@pytest.mark.parametrize("free", [(0, 2, 3), ()])
def test_the_scores_are_those_of_the_network(tmp_path, free):
    """Also of a file whose batch has a fixed length: it is asked in parts."""
    size = (1, 1, 8, 8) if free else (2, 1, 8, 8)
    with torch.random.fork_rng(devices=[]):
        original = network()
        images = torch.rand(5, 1, 8, 8)
    model = load(exported(original, tmp_path / "m.onnx", size, free))
    assert not model.differentiable
    assert torch.allclose(model(images), original(images), atol=1e-5)


def test_the_fingerprint_is_the_files(tmp_path):
    with torch.random.fork_rng(devices=[]):
        source = exported(network(), tmp_path / "a.onnx")
        other = exported(network(outputs=2), tmp_path / "b.onnx")
    assert weights_fingerprint(load(source)) == weights_fingerprint(load(source))
    assert weights_fingerprint(load(source)) != weights_fingerprint(load(other))


def test_files_that_do_not_do(tmp_path):
    with torch.random.fork_rng(devices=[]):
        source = exported(network(3), tmp_path / "m.onnx", (1, 3, 8, 8))
        two = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.INT64, [None, 3])
        out = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.INT64, [None, 3])
    graph = onnx.helper.make_graph([onnx.helper.make_node("Identity", ["x"], ["y"])], "g", [two], [out])
    onnx.save(
        onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)], ir_version=8),
        tmp_path / "words.onnx",
    )
    (tmp_path / "text.onnx").write_text("no model")
    for name, channels, options, words in (
        (f"onnx:{tmp_path}/none.onnx", 3, {}, "there is no such ONNX file"),
        (f"onnx:{tmp_path}", 3, {}, "is a folder, not an ONNX file"),
        (f"onnx:{tmp_path}/text.onnx", 3, {}, "no ONNX model that can be run"),
        (f"onnx:{tmp_path}/words.onnx", 3, {}, "must have one input of float images"),
        (source, 1, {}, r"the data have 1 channel\(s\) and 2 spatial dimensions"),
        (source, 3, {"spatial_dims": 3}, "3 spatial dimensions"),
        (source, 3, {"weights": "w.safetensors"}, "holds its own weights"),
        (source, 3, {"task": "detection"}, "a detector is attacked through its raw outputs"),
    ):
        with pytest.raises(InputError, match=words):
            load(name, channels, **options)


def test_images_of_a_size_that_the_file_does_not_take(tmp_path):
    with torch.random.fork_rng(devices=[]):
        model = load(exported(network(), tmp_path / "m.onnx", free=(0,)))
    with pytest.raises(InputError, match=r"cannot be run on images \(2, 1, 9, 9\)"):
        model(torch.zeros(2, 1, 9, 9))


def test_scores_alone_are_read_where_there_are_several_outputs(tmp_path):
    class Two(nn.Module):
        def forward(self, x):
            return x.flatten(1)[:, :3], x.mean()

    model = load(exported(Two(), tmp_path / "m.onnx"))
    images = torch.from_numpy(np.random.default_rng(0).random((2, 1, 8, 8), dtype=np.float32))
    assert torch.equal(model(images), images.flatten(1)[:, :3])


def test_without_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingExtraError, match=r"onnxruntime is not installed; run: pip install 'medrobust\[onnx\]'"):
        load(f"onnx:{tmp_path}/m.onnx")
