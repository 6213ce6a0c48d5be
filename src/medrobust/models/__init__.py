"""Where a model comes from: a library's architecture, the user's own code, or the embedded default."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from torch import nn

from medrobust.data.dataset import TaskName
from medrobust.errors import InputError, unknown
from medrobust.models.embedded import embedded_model, load_embedded_model
from medrobust.models.libraries import smp_model, timm_model, torchvision_model
from medrobust.models.onnx_file import onnx_model
from medrobust.models.randomness import seeded
from medrobust.models.requirements import Requirements
from medrobust.models.user_code import user_model
from medrobust.models.volumes import OverSlices, SlidingWindow
from medrobust.models.weights import load_weights, weights_file, weights_fingerprint

__all__ = [
    "MODELS",
    "OverSlices",
    "SlidingWindow",
    "load_embedded_model",
    "load_model",
    "load_weights",
    "weights_file",
    "weights_fingerprint",
]

MODELS = {
    "embedded": "embedded:tissue, :level, :structures: small networks for the brain slices, trained at first use",
    "timm": "timm:<name>, a classification network of timm, e.g. timm:resnet18",
    "torchvision": "torchvision:<name>, classification (also 3-D), segmentation or detection, e.g. torchvision:r3d_18",
    "smp": "smp:<architecture>-<encoder>, segmentation-models-pytorch, e.g. smp:unet-resnet34 (extra: smp)",
    "onnx": "onnx:<file>, an exported model, run by ONNX Runtime as a black box without gradients (extra: onnx)",
    "python": "python:<module>:<factory>, your own code, called with outputs= and channels= if it takes them",
}
"""Prefix of a model's source → what it stands for."""

_UNTRAINED: dict[str, Callable[[str, Requirements], nn.Module]] = {
    "embedded": lambda name, wanted: embedded_model(name, wanted, trained=False),
    "timm": timm_model,
    "torchvision": torchvision_model,
    "smp": smp_model,
    "onnx": onnx_model,
    "python": user_model,
}


def load_model(
    source: str,
    *,
    outputs: int,
    channels: int,
    task: TaskName,
    weights: str | Path | None = None,
    spatial_dims: int = 2,
    seed: int = 0,
) -> nn.Module:
    """Build the model that `source` names and load its weights.

    Nothing is downloaded: without `weights`, a library's architecture has random weights, always the same.
    Only `embedded:` models, and `python:` ones when their factory sees to it, come trained.

    Args:
        source: a prefix of `MODELS`, a colon and a name, e.g. "timm:resnet18".
        outputs: width of the model's answer, e.g. the number of classes (for detection without a background).
        channels: number of image channels.
        task: what the answer is for; a network of another kind is refused.
        weights: a `.safetensors` file, or a state dict in `.pt`, `.pth`, `.bin` or `.ckpt`; see `load_weights`.
        spatial_dims: 2 for images `(B, C, H, W)`, 3 for volumes `(B, C, D, H, W)`.
        seed: of the random weights that an architecture begins with.

    Returns:
        The model on the CPU, in eval mode, giving a tensor of logits; a detector as its library makes it. Of an ONNX
        file, or of a factory that returns a function, a `Predictor`: its `differentiable` is False.

    Raises:
        InputError: the source is unknown or does not fit the task and data, the user's code fails, or the
            weights do not fit.
        MissingExtraError: the library is not installed.
    """
    kind, colon, name = source.partition(":")
    if not colon:
        raise InputError(f"model {source!r} does not say where it is from: write e.g. timm:{source}")
    if kind not in MODELS:
        raise unknown("model source", kind, MODELS)
    wanted = Requirements(outputs, channels, task, spatial_dims)
    if kind == "embedded" and weights is None:
        return embedded_model(name, wanted)
    with seeded(seed):
        model = _UNTRAINED[kind](name, wanted)
    if weights is not None and kind == "onnx":
        raise InputError(f"{source} holds its own weights: leave out weights")
    if weights is not None:
        load_weights(model, weights)
    return model.eval()
