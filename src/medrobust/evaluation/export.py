"""Adversarial images on disk, measured as they lie there: one that vanishes when saved is no attack."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from medrobust.attacks import Attack
from medrobust.data import Dataset
from medrobust.data.images import read_image
from medrobust.errors import InputError
from medrobust.evaluation.batches import Batch, batches
from medrobust.evaluation.measure import Columns, Row, answers, as_lists, as_rows, check_untargeted, model_errors_told
from medrobust.evaluation.quality import image_quality
from medrobust.evaluation.records import Skipped
from medrobust.evaluation.storage import new_folder
from medrobust.tasks.lesions import volume_unit
from medrobust.threat import Threat
from medrobust.victim import Victim

FileFormat = Literal["png", "npy"]
MANIFEST, CLEAN = "manifest.csv", "clean"
EIGHT_BIT = 1 / 255


def export_adversarial(
    victim: Victim,
    dataset: Dataset,
    attack: Attack,
    threat: Threat,
    folder: Path,
    *,
    seed: int = 0,
    batch_size: int = 16,
    on_bad: Callable[[Skipped], None] | None = None,
    on_progress: Callable[[int], None] = lambda _: None,
) -> list[Row]:
    """Attack every image, write it, its clean twin and a `manifest.csv` to a new folder, and measure what was written.

    Images in [0, 1] of two spatial axes and 1 or 3 channels become 8-bit PNG: they are put on the 8-bit grid before
    the attack and kept on it by the attack. All others, and those of a threat with a finer quantum, become `.npy` of
    float32 in data units, `(C, *spatial)`.

    Returns:
        The rows of the manifest, all of the files as read back: index, id, file, clean_file, linf, l2, psnr, ssim, and
        of the records' columns those of truth and answer; lists are numbers with spaces between.

    Raises:
        InputError: data, victim and threat do not fit, or the folder is not empty or cannot be written.
        BadSampleError: a sample cannot be read, and there is no `on_bad`.
    """
    info = dataset.info
    check_untargeted("for export", attack)
    on_grid = threat.quantum is None or abs(threat.quantum / EIGHT_BIT - round(threat.quantum / EIGHT_BIT)) < 1e-6
    png = on_grid and info.unit == "[0, 1]" and info.spatial_dims == 2 and info.channels in (1, 3)
    if png:
        threat = replace(threat, quantum=threat.quantum or EIGHT_BIT)
    rows: list[Row] = []
    with new_folder(folder) as unfinished, victim.evaluating():
        (unfinished / CLEAN).mkdir()
        for batch in batches(dataset, victim, batch_size, on_bad):
            if png:
                batch = replace(batch, images=((batch.images / EIGHT_BIT).round() * EIGHT_BIT).clamp(*info.bounds))
            victim.task.check_truth(batch.truth)
            with model_errors_told(batch):
                result = attack(victim, batch.images, batch.truth, threat, seed, batch.ids)
            names = [
                _file_name(index, sample_id, "png" if png else "npy")
                for index, sample_id in zip(batch.indices, batch.ids, strict=True)
            ]
            for name, clean, image in zip(names, batch.images, result.adversarial, strict=True):
                _write(clean.cpu(), unfinished / CLEAN / name)
                _write(image.cpu(), unfinished / name)
            clean, saved = (
                torch.stack([_read(unfinished / place / name) for name in names]).to(batch.images)
                for place in (CLEAN, "")
            )
            rows += _rows(victim, batch, clean, saved, names)
            on_progress(len(names))
        if not rows:
            raise InputError(f"no sample of {info.name!r} could be read")
        with (unfinished / MANIFEST).open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, fieldnames=list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    return rows


def _file_name(index: int, sample_id: str, file_format: FileFormat) -> str:
    """Unique by the index; the id's last part is there for people, without what a file system may refuse."""
    readable = re.sub(r"[^A-Za-z0-9_-]+", "_", Path(sample_id).stem)[:60]
    return f"{index:06d}_{readable}.{file_format}"


def _write(image: Tensor, path: Path) -> None:
    if path.suffix == ".npy":
        np.save(path, image.numpy(), allow_pickle=False)
        return
    pixels = (image / EIGHT_BIT).round().to(torch.uint8).movedim(0, -1).numpy()
    Image.fromarray(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels).save(path)


def _read(path: Path) -> Tensor:
    return torch.from_numpy(np.load(path, allow_pickle=False)) if path.suffix == ".npy" else read_image(path)


@torch.no_grad()
def _rows(victim: Victim, batch: Batch, clean: Tensor, saved: Tensor, names: list[str]) -> list[Row]:
    columns: Columns = {
        "index": list(batch.indices),
        "id": list(batch.ids),
        "file": list(names),
        "clean_file": [f"{CLEAN}/{name}" for name in names],
    }
    if not victim.task.dense:
        columns["truth"] = as_lists(batch.truth)
    else:
        columns["volume_unit"] = [volume_unit(spacing, batch.images.ndim - 2)[0] for spacing in batch.spacing]
    columns |= answers(victim.task, victim(clean), batch, "before")
    columns |= answers(victim.task, victim(saved), batch, "after")
    columns |= {name: values.tolist() for name, values in image_quality(clean, saved, victim.bounds).items()}
    return as_rows({name: [_cell(value) for value in values] for name, values in columns.items()})


def _cell(value: object) -> object:
    """A list as numbers with spaces between: one cell of a CSV."""
    return " ".join(f"{number:g}" for number in value) if isinstance(value, list) else value
