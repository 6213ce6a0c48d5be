"""What is left of an attack when its images are saved, compressed, smoothed, resampled, or shown to another model.

An aftercheck measures the same attacked images once more. Its figures form a part of the run of their own: clean and
attacked images go the same way, so that what the change does to the model by itself is told apart.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from medrobust.errors import InputError
from medrobust.evaluation.records import PartInfo
from medrobust.threat import Bounds, sample_generators
from medrobust.transforms import JPEG, BitDepth, Chain, Resize, Smooth
from medrobust.victim import Victim

Change = Callable[[Tensor, Bounds, Sequence[torch.Generator]], Tensor]
"""A `medrobust.transforms.Transform`, or any function called like one."""


@dataclass(frozen=True)
class Aftercheck:
    """One way in which attacked images are measured again.

    Attributes:
        name: for tables: "JPEG 75".
        change: what is done to images `(B, C, *spatial)` in data units, given their bounds and a generator for each.
        victim: the model that sees them; the attacked one when None.
    """

    name: str
    change: Change = field(default_factory=Chain)
    victim: Victim | None = None

    def changed(self, images: Tensor, bounds: Bounds, seed: int, ids: Sequence[object]) -> Tensor:
        """The changed images; an image's draws come from seed and id, the same for its clean and attacked self."""
        return self.change(images, bounds, sample_generators(seed, ids, f"aftercheck {self.name}"))


def aftercheck_part(part: str, check: Aftercheck) -> str:
    """The name of the part that holds an aftercheck's figures."""
    return f"{part}, {check.name}"


def afterchecks_of(part: str, parts: Mapping[str, PartInfo]) -> list[str]:
    """The parts that hold afterchecks of `part`: named after it, on the same data."""
    data = parts[part].data_sha256
    return [name for name, other in parts.items() if name.startswith(f"{part}, ") and other.data_sha256 == data]


def own_parts(parts: Mapping[str, PartInfo]) -> dict[str, PartInfo]:
    """The parts that are no aftercheck of another."""
    checks = {check for name in parts for check in afterchecks_of(name, parts)}
    return {name: part for name, part in parts.items() if name not in checks}


SURVIVAL = (
    Aftercheck("8-bit rounding", BitDepth(8)),
    Aftercheck("JPEG 90", JPEG(90)),
    Aftercheck("JPEG 75", JPEG(75)),
    Aftercheck("Gaussian smoothing", Smooth()),
    Aftercheck("half size and back", Resize(0.5)),
)


def another_model(victim: Victim, attacked: Victim, name: str = "another model") -> Aftercheck:
    """The same images shown to another model of the same bounds: does the attack transfer?

    Raises:
        InputError: the bounds differ.
    """
    if victim.bounds != attacked.bounds:
        raise InputError(f"{name} has the bounds {victim.bounds}, the attacked model {attacked.bounds}")
    return Aftercheck(name, victim=victim)
