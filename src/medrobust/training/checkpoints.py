"""A training on disk, at any step: written whole or not at all, read without running any code."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from medrobust.errors import InputError
from medrobust.evaluation.storage import write_whole

_STATE = "medrobust"


@dataclass
class Checkpoint:
    """All that a training needs to go on.

    Attributes:
        made_of: fingerprint of all that decides how it goes on; another training's is refused.
        told: step, history and whatever else is no tensor, as JSON holds it.
        tensors: name → groups of tensors: weights, their average, the best weights, the optimizer's.
    """

    made_of: str
    told: dict[str, Any]
    tensors: dict[str, dict[str, Tensor]] = field(default_factory=dict)

    def write(self, path: Path) -> None:
        """Replace the file.

        Raises:
            InputError: it cannot be written.
        """
        flat = {
            f"{group}/{name}": value.detach().cpu().contiguous().clone()
            for group, values in self.tensors.items()
            for name, value in values.items()
        }
        write_whole(path, save(flat, {_STATE: json.dumps({"made_of": self.made_of, **self.told})}))

    @classmethod
    def read(cls, path: Path, made_of: str) -> Checkpoint:
        """Read it again.

        Raises:
            InputError: the file is damaged, or of another training.
        """
        try:
            with safe_open(path, framework="pt") as file:
                told = json.loads((file.metadata() or {}).get(_STATE, "{}"))
                tensors: dict[str, dict[str, Tensor]] = {}
                for key in file.keys():  # noqa: SIM118
                    group, _, name = key.partition("/")
                    tensors.setdefault(group, {})[name] = file.get_tensor(key)
        except (OSError, SafetensorError, ValueError) as error:
            raise InputError(f"{path} is damaged; remove it, then the training begins anew") from error
        if told.pop("made_of", None) != made_of:
            raise InputError(
                f"{path} is of a training with another model, data, method or options; give another --out, or remove it"
            )
        return cls(made_of, told, tensors)


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The state of an optimizer whose entries are tensors, as those of AdamW are."""
    state: Mapping[int, Mapping[str, Any]] = optimizer.state_dict()["state"]
    return {f"{place}.{name}": torch.as_tensor(value) for place, one in state.items() for name, value in one.items()}


def fill_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """The reverse."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        place, _, name = key.partition(".")
        state.setdefault(int(place), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    for weight, one in optimizer.state.items():  # in the weight's layout, as it was made: sums are rounded alike
        same = {name: value for name, value in one.items() if name != "step" and value.shape == weight.shape}
        one.update({name: torch.empty_like(weight).copy_(value) for name, value in same.items()})
