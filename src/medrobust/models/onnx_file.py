"""`onnx:<file>`: an exported model, run by ONNX Runtime as a black box.

An ONNX file is a protocol buffer: opening it runs no code of its own, and of no operators but the runtime's built-in
ones.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from medrobust.black_box import Predictor
from medrobust.errors import InputError, MissingExtraError
from medrobust.models.requirements import Requirements

FLOATS: Mapping[str, type[np.floating[Any]]] = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
}

EXPORTED = "medrobust"  # metadata of a file that `medrobust export` wrote


class OnnxModel(Predictor):
    """A Predictor of the first output of an ONNX file with one input `(B, C, *spatial)`.

    A file whose batch axis has a fixed length is asked in parts of that length, the last one filled up.

    Args:
        path: of the file; tensors stored outside lie beside it.

    Raises:
        InputError: the file is missing or damaged, or is not of one image input.
        MissingExtraError: onnxruntime is not installed.
    """

    file_sha256: torch.Tensor
    in_data_units: bool
    """Whether `medrobust export` wrote it: its normalisation is then inside."""

    def __init__(self, path: Path) -> None:
        self.session = _opened(path)
        inputs = self.session.get_inputs()
        if len(inputs) != 1 or inputs[0].type not in FLOATS or len(inputs[0].shape) not in (4, 5):
            found = ", ".join(f"{one.name} {one.type} {one.shape}" for one in inputs)
            raise InputError(f"{path}: a model must have one input of float images (B, C, *spatial), got {found}")
        (self.input,) = inputs
        self.in_data_units = EXPORTED in self.session.get_modelmeta().custom_metadata_map
        length = self.input.shape[0]
        self.length = length if isinstance(length, int) else None
        super().__init__(self._run, numpy=True, batch_size=self.length, name=f"onnx:{path}")
        # the weights are the file: a run's fingerprint is taken over buffers
        digest = hashlib.sha256(path.read_bytes()).digest()
        self.register_buffer("file_sha256", torch.tensor(list(digest), dtype=torch.uint8))

    def check(self, wanted: Requirements) -> None:
        """Raise `InputError` when the file's input is for images of other channels or dimensions."""
        shape = self.input.shape
        dims, channels = len(shape) - 2, shape[1]
        if dims != wanted.spatial_dims or (isinstance(channels, int) and channels != wanted.channels):
            raise InputError(
                f"{self.name} takes images {shape}, the data have {wanted.channels} channel(s) and "
                f"{wanted.spatial_dims} spatial dimensions"
            )

    def _run(self, images: NDArray[np.float32]) -> Any:
        count = len(images)
        missing = 0 if self.length is None else self.length - count
        if missing:
            images = np.concatenate([images, np.repeat(images[-1:], missing, 0)])
        try:
            answer = self.session.run(None, {self.input.name: images.astype(FLOATS[self.input.type])})[0]
        except Exception as error:  # the runtime's own classes share no base
            raise InputError(
                f"{self.name} cannot be run on images {images.shape}: {' '.join(str(error).split())}"
            ) from error
        return answer[:count] if isinstance(answer, np.ndarray) and answer.ndim else answer


def onnx_model(name: str, wanted: Requirements) -> OnnxModel:
    """The model of a file, as `load_model` opens it."""
    if wanted.kind == "detection":
        raise InputError(f"onnx:{name}: a detector is attacked through its raw outputs, which an exported one hides")
    model = OnnxModel(Path(name))
    model.check(wanted)
    return model


def _opened(path: Path) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingExtraError("onnxruntime", "onnx") from error
    if not path.is_file():
        raise InputError(f"{path}: {'is a folder, not an' if path.is_dir() else 'there is no such'} ONNX file")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors are told by the exception
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime's own classes share no base
        raise InputError(f"{path}: no ONNX model that can be run: {' '.join(str(error).split())[:200]}") from error
