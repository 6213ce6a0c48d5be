"""Reading weights from disk safely, whole or not at all, and telling one set of weights from another."""

from __future__ import annotations

import hashlib
import pickle
import re
import warnings
from collections.abc import Collection, Mapping
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn

from medrobust.errors import InputError

_PICKLED = {".pt", ".pth", ".bin", ".ckpt"}
# what training scripts put a state dict under, and what wrappers put before the names in it
_WRAPPERS = ("state_dict", "model_state_dict", "model")
_PREFIXES = ("module.", "model.", "_orig_mod.")
_SHOWN = 3


def load_weights(model: nn.Module, path: str | Path) -> None:
    """Fill `model` from a `.safetensors` file or a `.pt`, `.pth`, `.bin` or `.ckpt` state dict.

    A state dict may lie under `state_dict`, `model_state_dict` or `model`, and its names may begin with
    `module.`, `model.` or `_orig_mod.`. No code from the file is run.

    Raises:
        InputError: the file is missing, damaged, or holds something else than tensors; a name is missing or
            unexpected, a shape differs, or a weight is NaN. The model is then as it was.
    """
    path = Path(path)
    wanted = {name: value for name, value in model.state_dict().items() if isinstance(value, Tensor)}
    state = _without_prefix(_state_dict(_read(path), path), wanted)
    # as torch does: files from before this counter existed lack it, and nothing but training reads it
    missing = [name for name in wanted if name not in state and not name.endswith("num_batches_tracked")]
    unexpected = [name for name in state if name not in wanted]
    reshaped = [
        f"{name} {tuple(state[name].shape)} instead of {tuple(value.shape)}"
        for name, value in wanted.items()
        if name in state and state[name].shape != value.shape
    ]
    problems = [
        f"{len(names)} {kind} ({_first(names)})"
        for kind, names in (("missing", missing), ("unexpected", unexpected), ("of another shape", reshaped))
        if names
    ]
    if problems:
        raise InputError(
            f"{path}: weights do not fit the model: {', '.join(problems)}; nothing was loaded, "
            "check the model's name and its numbers of classes and channels"
        )
    not_numbers = [name for name, value in state.items() if bool(value.isnan().any())]
    if not_numbers:
        raise InputError(
            f"{path}: {len(not_numbers)} weights hold NaN ({_first(not_numbers)}); nothing was loaded, "
            "take a checkpoint from before the training diverged"
        )
    model.load_state_dict(state)


def weights_file(model: nn.Module) -> bytes:
    """The content of a `.safetensors` file that holds the parameters and buffers."""
    content: bytes = safetensors.torch.save({name: one.contiguous() for name, one in model.state_dict().items()})
    return content


def weights_fingerprint(model: nn.Module) -> str:
    """SHA-256 (hex) over names, dtypes, shapes and bytes of the model's parameters and buffers.

    What a wrapper (a defence, a sliding window) puts before all the names, `model.`, is left out: the weights are the
    same. How they are used is told by `Victim.describe`.
    """
    state = {name: value for name, value in model.state_dict().items() if isinstance(value, Tensor)}
    while prefix := _common_prefix(state):
        state = _shortened(state, prefix)
    digest = hashlib.sha256()
    for name, value in sorted(state.items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _read(path: Path) -> object:
    suffix = path.suffix.lower()
    if suffix != ".safetensors" and suffix not in _PICKLED:
        raise InputError(f"{path}: weights must be a .safetensors, .pt, .pth, .bin or .ckpt file")
    if not path.is_file():
        raise InputError(f"{path}: {'is a folder, not a' if path.is_dir() else 'there is no such'} weights file")
    try:
        if suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        with warnings.catch_warnings():
            # torch warns of foreign pickles and TorchScript before it refuses them
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except PermissionError as error:
        raise InputError(f"{path}: the weights file may not be read; check its permissions") from error
    except Exception as error:  # a damaged pickle can fail in any way
        raise InputError(f"{path}: {_what_is_wrong(error)}") from error


_HOW_TO_SAVE = "save model.state_dict() with torch.save or safetensors and give that file"


def _what_is_wrong(error: Exception) -> str:
    if "TorchScript" in str(error):
        return f"a TorchScript program, not weights; {_HOW_TO_SAVE}"
    refused = re.search(r"GLOBAL ([\w.]+)", str(error))
    if isinstance(error, pickle.UnpicklingError) and refused:
        return (
            f"holds {refused[1]}, which was not loaded since it can run code (a whole pickled model, or "
            f"worse); {_HOW_TO_SAVE}"
        )
    return "the weights file is damaged, cut short or of another format; copy it again, or " + _HOW_TO_SAVE


def _state_dict(content: object, path: Path) -> dict[str, Tensor]:
    """The innermost mapping of names to tensors."""
    while isinstance(content, Mapping):
        inner = next((content[key] for key in _WRAPPERS if isinstance(content.get(key), Mapping)), None)
        if inner is None:
            break
        content = inner
    if not isinstance(content, Mapping) or not content:
        raise InputError(f"{path}: holds {type(content).__name__}, no state dict of weights; {_HOW_TO_SAVE}")
    foreign = [str(key) for key, value in content.items() if not isinstance(value, Tensor)]
    if foreign:
        raise InputError(
            f"{path}: {len(foreign)} entries are no tensors ({_first(foreign)}), so this is no state dict; "
            f"{_HOW_TO_SAVE}"
        )
    return {str(key): value for key, value in content.items()}


def _without_prefix(state: dict[str, Tensor], wanted: Collection[str]) -> dict[str, Tensor]:
    while not any(name in wanted for name in state):
        prefix = _common_prefix(state)
        if prefix is None:
            break
        state = _shortened(state, prefix)
    return state


def _common_prefix(names: Collection[str]) -> str | None:
    """What a wrapper put before all of the names, if it did."""
    return next((prefix for prefix in _PREFIXES if names and all(name.startswith(prefix) for name in names)), None)


def _shortened(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in state.items()}


def _first(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")
