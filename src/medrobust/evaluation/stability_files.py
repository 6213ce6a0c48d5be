"""A stability analysis on disk: what was traced, the rows, and what is drawn of a few images."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

import polars as pl
import pydantic
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from medrobust.errors import InputError
from medrobust.evaluation.landscapes import LossSurface, StepMaps
from medrobust.evaluation.records import PartInfo
from medrobust.evaluation.storage import first_line, read_versioned
from medrobust.evaluation.trajectories import OUTCOME_SCHEMA, STEP_SCHEMA

STABILITY_JSON, STEPS, OUTCOMES, PICTURES = (
    "stability.json",
    "trajectories.parquet",
    "outcomes.parquet",
    "pictures.safetensors",
)
STABILITY_PAGE = "stability.html"
VERSION = 2


@dataclass(frozen=True)
class StabilityInfo:
    """`stability.json`: all that a reader of the rows needs to know.

    Attributes:
        parts: each a data set × model; those of the same data have the same `data_sha256`.
        reference: the attack that the others are held against.
        seeds: each gave every image a start of its own.
        step_lengths: part → attack → length of a full step, in the unit of eps.
        pictures: of how many images of each part pictures were asked for; None when that is not known.
        created: ISO 8601 in UTC.
    """

    parts: dict[str, PartInfo]
    reference: str
    seeds: list[int]
    step_lengths: dict[str, dict[str, float]]
    created: str
    seconds: float
    device: str
    versions: dict[str, str]
    config: dict[str, object] | None = None
    pictures: int | None = None
    schema_version: int = VERSION


@dataclass(frozen=True)
class StoredStability:
    """What a folder of an analysis holds."""

    steps: pl.DataFrame
    outcomes: pl.DataFrame
    info: StabilityInfo
    maps: list[StepMaps] = field(default_factory=list)
    surfaces: list[LossSurface] = field(default_factory=list)


_INFO = pydantic.TypeAdapter(StabilityInfo)
Picture = TypeVar("Picture", StepMaps, LossSurface)


def write_stability(stored: StoredStability, folder: Path) -> None:
    """Write the files of an analysis into a folder that is there."""
    (folder / STABILITY_JSON).write_bytes(_INFO.dump_json(stored.info, indent=2))
    stored.steps.write_parquet(folder / STEPS)
    stored.outcomes.write_parquet(folder / OUTCOMES)
    tensors: dict[str, Tensor] = {}
    index = {}
    kept: dict[str, Sequence[StepMaps | LossSurface]] = {"maps": stored.maps, "surfaces": stored.surfaces}
    for name, pictures in kept.items():
        index[name] = [_taken_apart(picture, f"{name}.{place}", tensors) for place, picture in enumerate(pictures)]
    (folder / PICTURES).write_bytes(save(tensors, metadata={"index": json.dumps(index)}))


def read_stability(folder: Path) -> StoredStability:
    """Read a folder of an analysis.

    Raises:
        InputError: it is none, a file of it is damaged, or it is of another version.
    """
    path = folder / STABILITY_JSON
    if not path.is_file():
        raise InputError(f"{folder} is no stability analysis: it has no {STABILITY_JSON}")
    info, _ = read_versioned(path, _INFO, (VERSION,))
    steps = _table(folder / STEPS, STEP_SCHEMA, info)
    outcomes = _table(folder / OUTCOMES, OUTCOME_SCHEMA, info)
    return StoredStability(steps, outcomes, info, *_pictures(folder / PICTURES))


def _table(path: Path, schema: dict[str, Any], info: StabilityInfo) -> pl.DataFrame:
    try:
        table = pl.read_parquet(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise InputError(f"{path} cannot be read: {first_line(error)}") from error
    for name, wanted in schema.items():
        found = table.schema.get(name)
        if found != wanted:
            told = "is missing" if found is None else f"is {found} where {wanted} is expected"
            raise InputError(f"{path}, column {name!r} {told}")
    strange = set(table["part"].unique()) ^ set(info.parts)
    if strange:
        raise InputError(f"{path} and {STABILITY_JSON} do not tell of the same parts: {sorted(map(str, strange))[0]!r}")
    return table.select(list(schema))


def _taken_apart(picture: StepMaps | LossSurface, key: str, tensors: dict[str, Tensor]) -> dict[str, object]:
    """The fields that JSON can hold; the tensors are put among the others."""
    plain: dict[str, object] = {}
    for one in fields(picture):
        value = getattr(picture, one.name)
        if isinstance(value, Tensor):
            tensors[f"{key}.{one.name}"] = value.contiguous().clone()
        else:
            plain[one.name] = list(value) if isinstance(value, tuple) else value
    return plain


def _pictures(path: Path) -> tuple[list[StepMaps], list[LossSurface]]:
    """None when the file was deleted: a report can do without."""
    if not path.exists():
        return [], []
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  it is no dict
            index = json.loads(file.metadata()["index"])
        return _put_together(StepMaps, "maps", index, tensors), _put_together(LossSurface, "surfaces", index, tensors)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise InputError(f"{path} is damaged: {first_line(error)}") from error


def _put_together(
    kind: type[Picture], name: str, index: dict[str, Sequence[dict[str, Any]]], tensors: dict[str, Tensor]
) -> list[Picture]:
    found = []
    for place, plain in enumerate(index[name]):
        values: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in plain.items()
        }
        start = f"{name}.{place}."
        values |= {key.removeprefix(start): tensor for key, tensor in tensors.items() if key.startswith(start)}
        found.append(kind(**values))
    return found
