"""A run on disk: a folder of `run.json`, `records.parquet` and `gallery.safetensors`, written whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
import pydantic
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from medrobust.errors import InputError
from medrobust.evaluation.records import SCHEMA, SCHEMA_VERSION, GalleryAttack, GalleryImage, RunInfo

RUN_JSON, RECORDS, GALLERY = "run.json", "records.parquet", "gallery.safetensors"
_INFO = pydantic.TypeAdapter(RunInfo)


@dataclass(frozen=True)
class StoredRun:
    """What a run folder holds."""

    records: pl.DataFrame
    info: RunInfo
    gallery: list[GalleryImage] = field(default_factory=list)


def check_output_folder(folder: Path) -> None:
    """Raise `InputError` when a run cannot be written there without touching what is there already."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        what = "holds another run" if (folder / RUN_JSON).exists() else "is not an empty folder"
        raise InputError(f"{folder} {what}; give another --out, or remove it first")
    there = next(parent for parent in folder.absolute().parents if parent.exists())
    if not (there.is_dir() and os.access(there, os.W_OK)):
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
        unfinished = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
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
        InputError: it is no run folder, a file of it is damaged, or it is of a newer version.
    """
    path = folder / RUN_JSON
    if not path.is_file():
        raise InputError(f"{folder} is no run: it has no {RUN_JSON}")
    try:
        written = json.loads(path.read_bytes())
        version = written["schema_version"]
        info = _INFO.validate_python(written) if version == SCHEMA_VERSION else None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is damaged: {_first_line(error)}") from error
    if info is None:
        raise InputError(f"{path}: schema_version {version} is not {SCHEMA_VERSION}: made by another medrobust")
    return StoredRun(_read_records(folder / RECORDS), info, _read_gallery(folder / GALLERY))


def _read_records(path: Path) -> pl.DataFrame:
    try:
        records = pl.read_parquet(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise InputError(f"{path} cannot be read: {_first_line(error)}") from error
    missing = [name for name in SCHEMA if name not in records.columns]
    if missing:
        raise InputError(f"{path} has no column {missing[0]!r} ({len(missing)} missing)")
    return records


def _save_gallery(gallery: list[GalleryImage], path: Path) -> None:
    tensors: dict[str, Tensor] = {}
    for number, image in enumerate(gallery):
        tensors |= _present(f"{number}", clean=image.clean, truth=image.truth, before=image.before)
        for place, made in enumerate(image.attacks):
            tensors |= _present(f"{number}.{place}", adversarial=made.adversarial, after=made.after)
    index = [
        {"part": i.part, "index": i.index, "attacks": [[a.attack, a.norm, a.eps] for a in i.attacks]} for i in gallery
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
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path} is damaged: {_first_line(error)}") from error


def _gallery_image(entry: dict[str, Any], key: str, tensors: dict[str, Tensor]) -> GalleryImage:
    made = [
        GalleryAttack(
            attack=attack,
            norm=norm,
            eps=eps,
            adversarial=tensors[f"{key}.{place}.adversarial"],
            after=tensors.get(f"{key}.{place}.after"),
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
    )


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
