"""A run on disk: a folder of `run.json`, `records.parquet` and `gallery.safetensors`, written whole or not at all."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import polars as pl
import pydantic
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from medrobust.errors import InputError
from medrobust.evaluation.records import SCHEMA, SCHEMA_VERSION, GalleryAttack, GalleryImage, RunInfo

RUN_JSON, RECORDS, GALLERY = "run.json", "records.parquet", "gallery.safetensors"
_KEY = ("part", "index", "attack", "norm", "eps")
_WITHOUT_GROUPS = 3  # a version that is read too
_INFO = pydantic.TypeAdapter(RunInfo)
Info = TypeVar("Info")


@dataclass(frozen=True)
class StoredRun:
    """What a run folder holds."""

    records: pl.DataFrame
    info: RunInfo
    gallery: list[GalleryImage] = field(default_factory=list)


def check_output_folder(folder: Path) -> None:
    """Raise `InputError` when a run cannot be written there without touching what is there already."""
    try:
        taken = folder.exists() and (not folder.is_dir() or any(folder.iterdir()))
        there = next(parent for parent in folder.absolute().parents if parent.exists())
    except OSError as error:  # a name that is too long, a folder that may not be looked into
        raise InputError(f"{folder} cannot be written: {error.strerror or error}; give another --out") from error
    if taken:
        what = "holds another run" if (folder / RUN_JSON).exists() else "is not an empty folder"
        raise InputError(f"{folder} {what}; give another --out, or remove it first")
    if not there.is_dir():
        raise InputError(f"{folder} cannot be written: {there} is no folder; give another --out")
    if not os.access(there, os.W_OK):
        raise InputError(f"{folder} cannot be written: {there} does not allow it; give another --out")


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A folder to fill, which takes its name only when all went well; else nothing is left of it.

    Raises:
        InputError: the folder is not empty, or cannot be written.
    """
    check_output_folder(folder)
    unfinished: Path | None = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(prefix=".medrobust-", dir=folder.parent))
        unfinished.chmod(0o755)
        yield unfinished
        if folder.is_dir():
            folder.rmdir()
        unfinished.rename(folder)
    except OSError as error:
        raise InputError(f"{folder} cannot be written: {error.strerror or error}") from error
    finally:
        if unfinished is not None:
            shutil.rmtree(unfinished, ignore_errors=True)


def make_folder(folder: Path) -> None:
    """Make a folder, and those it lies in, unless it is there.

    Raises:
        InputError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder} cannot be made: {error.strerror}") from error


def write_whole(path: Path, content: bytes) -> None:
    """Write a file that appears whole or not at all, and replaces an older one.

    Raises:
        InputError: it cannot be written.
    """
    half = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        half.write_bytes(content)
        half.replace(path)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}") from error
    finally:
        with contextlib.suppress(OSError):
            half.unlink()


def save_run(run: StoredRun, folder: Path, write_more: Callable[[Path], None] = lambda _: None) -> None:
    """Write a run to a new folder; `write_more` adds files before it appears under its name.

    Raises:
        InputError: the folder is not empty, or cannot be written.
    """
    with new_folder(folder) as unfinished:
        (unfinished / RUN_JSON).write_bytes(_INFO.dump_json(run.info, indent=2))
        run.records.write_parquet(unfinished / RECORDS)
        _save_gallery(run.gallery, unfinished / GALLERY)
        write_more(unfinished)


def read_run(folder: Path) -> StoredRun:
    """Read a run folder.

    Raises:
        InputError: it is no run folder, a file of it is damaged, its records are not those that `run.json` tells of,
            or it is of another version.
    """
    path = folder / RUN_JSON
    if not path.is_file():
        raise InputError(f"{folder} is no run: it has no {RUN_JSON}")
    info, version = read_versioned(path, _INFO, (_WITHOUT_GROUPS, SCHEMA_VERSION))
    return StoredRun(_read_records(folder / RECORDS, info, version), info, _read_gallery(folder / GALLERY))


def read_versioned(path: Path, kind: pydantic.TypeAdapter[Info], versions: Sequence[int]) -> tuple[Info, int]:
    """A JSON file of one of the `versions`, the last of which is today's, as today's, and of which it was.

    Raises:
        InputError: it is damaged, or of another version.
    """
    try:
        written = json.loads(path.read_bytes())
        version = written["schema_version"]
        info = kind.validate_python({**written, "schema_version": versions[-1]}) if version in versions else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(f"{path} is damaged: {first_line(error)}") from error
    if info is None:
        raise InputError(f"{path}: schema_version {version} is not {versions[-1]}: made by another medrobust")
    return info, version


def _read_records(path: Path, info: RunInfo, version: int) -> pl.DataFrame:
    try:
        records = pl.read_parquet(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise InputError(f"{path} cannot be read: {first_line(error)}") from error
    if version == _WITHOUT_GROUPS:
        records = records.with_columns(groups=pl.lit(None, SCHEMA["groups"]))
    missing = [name for name in SCHEMA if name not in records.columns]
    if missing:
        raise InputError(f"{path} has no column {missing[0]!r} ({len(missing)} missing)")
    for name, wanted in SCHEMA.items():
        if records.schema[name] != wanted:
            raise InputError(f"{path}, column {name!r}: {records.schema[name]} where {wanted} is expected")
    _check_rows(records, info, path)
    return records if version == SCHEMA_VERSION else records.select(list(SCHEMA))


def _check_rows(records: pl.DataFrame, info: RunInfo, path: Path) -> None:
    """Raise `InputError` unless there is one row for every image × attack × budget of `info`, and no other."""
    key = records.select(_KEY)
    if any(key.null_count().row(0)):
        raise InputError(f"{path}: a row lacks its {', '.join(_KEY[:-1])} or {_KEY[-1]}")
    if key.is_duplicated().any():
        twice = ", ".join(
            f"{name} {value}" for name, value in key.filter(key.is_duplicated()).row(0, named=True).items()
        )
        raise InputError(f"{path} has two rows of {twice}")
    rows = dict(records.group_by("part").len().iter_rows())
    for name in rows.keys() - info.parts.keys():
        raise InputError(f"{path} has rows of a part {name!r} that {RUN_JSON} does not know")
    for name, part in info.parts.items():
        wanted = part.evaluated * len(part.attacks) * len(part.threats)
        if rows.get(name, 0) != wanted:
            made_of = f"{part.evaluated} images × {len(part.attacks)} attacks × {len(part.threats)} budgets"
            raise InputError(f"{path} has {rows.get(name, 0)} rows of part {name!r}, {RUN_JSON} tells {made_of}")


def _save_gallery(gallery: list[GalleryImage], path: Path) -> None:
    tensors: dict[str, Tensor] = {}
    for number, image in enumerate(gallery):
        tensors |= _present(f"{number}", clean=image.clean, truth=image.truth, before=image.before)
        for place, made in enumerate(image.attacks):
            tensors |= _present(f"{number}.{place}", adversarial=made.adversarial, after=made.after, truth=made.truth)
    index = [
        {
            "part": i.part,
            "index": i.index,
            "slices": i.slices,
            "attacks": [[a.attack, a.norm, a.eps] for a in i.attacks],
        }
        for i in gallery
    ]
    path.write_bytes(save(tensors, metadata={"index": json.dumps(index)}))


def _present(prefix: str, **tensors: Tensor | None) -> dict[str, Tensor]:
    return {f"{prefix}.{name}": t.contiguous().clone() for name, t in tensors.items() if t is not None}


def _read_gallery(path: Path) -> list[GalleryImage]:
    """The gallery, or none when the file was deleted: a report can do without."""
    if not path.exists():
        return []
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  it is no dict
            index = json.loads(file.metadata()["index"])
        return [_gallery_image(entry, str(number), tensors) for number, entry in enumerate(index)]
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise InputError(f"{path} is damaged: {first_line(error)}") from error


def _gallery_image(entry: dict[str, Any], key: str, tensors: dict[str, Tensor]) -> GalleryImage:
    made = [
        GalleryAttack(
            attack=attack,
            norm=norm,
            eps=eps,
            adversarial=tensors[f"{key}.{place}.adversarial"],
            after=tensors.get(f"{key}.{place}.after"),
            truth=tensors.get(f"{key}.{place}.truth"),
        )
        for place, (attack, norm, eps) in enumerate(entry["attacks"])
    ]
    return GalleryImage(
        part=entry["part"],
        index=entry["index"],
        clean=tensors[f"{key}.clean"],
        attacks=made,
        truth=tensors.get(f"{key}.truth"),
        before=tensors.get(f"{key}.before"),
        slices=tuple(entry.get("slices", ())),
    )


def first_line(error: Exception) -> str:
    """What went wrong, of an error of a library, in one line."""
    return (str(error).splitlines() or [type(error).__name__])[0]
