"""Trained models are kept: a run that is stopped goes on without training them again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path

import safetensors.torch
from safetensors import SafetensorError, safe_open
from torch import nn

from medrobust.errors import InputError
from medrobust.evaluation.storage import write_whole
from medrobust.models import load_weights


def trained_once(network: nn.Module, train: Callable[[], None], path: Path, made_of: Mapping[str, object]) -> None:
    """Fill `network` from `path`, or train it and write its weights there.

    Args:
        network: untrained.
        train: trains it in place.
        path: a `.safetensors` file.
        made_of: all that decides what training gives; a file that was made of something else is refused.

    Raises:
        InputError: the file is of another training, damaged, or cannot be written.
    """
    fingerprint = hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()
    if path.exists():
        if _fingerprint(path) != fingerprint:
            raise InputError(f"{path} holds a model that was trained in another way; give another --out, or remove it")
        load_weights(network, path)
        return
    train()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{path.parent} cannot be made: {error.strerror}") from error
    write_whole(path, safetensors.torch.save(network.state_dict(), {"fingerprint": fingerprint}))


def _fingerprint(path: Path) -> str | None:
    try:
        with safe_open(path, framework="pt") as file:
            return (file.metadata() or {}).get("fingerprint")
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path} is damaged; remove it, then the model is trained again") from error
