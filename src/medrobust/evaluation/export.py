"""Adversarial images on disk, measured as they lie there: one that vanishes when saved is no attack."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from torch import Tensor

from medrobust.attacks import Attack
from medrobust.attacks.at_once import AtOnce
from medrobust.data import Dataset
from medrobust.data.file_types import without_suffix
from medrobust.errors import InputError
from medrobust.evaluation.attacking import answered, calls_of, check_untargeted
from medrobust.evaluation.batches import Batch, Usable, batches
from medrobust.evaluation.cautions import warn_of_budgets
from medrobust.evaluation.columns import Columns, Row, answers, as_rows
from medrobust.evaluation.image_files import image_files
from medrobust.evaluation.quality import image_quality
from medrobust.evaluation.records import Skipped
from medrobust.evaluation.storage import new_folder
from medrobust.threat import Threat
from medrobust.victim import Victim

MANIFEST, CLEAN = "manifest.csv", "clean"


def export_adversarial(
    victim: Victim,
    dataset: Dataset,
    attack: Attack,
    threat: Threat,
    folder: Path,
    *,
    seed: int = 0,
    batch_size: int = 16,
    deidentify: bool = True,
    on_bad: Callable[[Skipped], None] | None = None,
    on_progress: Callable[[int], None] = lambda _: None,
) -> list[Row]:
    """Attack every image, write it, its clean twin and a `manifest.csv` to a new folder, and measure what was written.

    Images of a format that can be written back (NIfTI) are stored as their source is, with its header, and the attack
    keeps to the values that it can hold; `deidentify` leaves out of the header what may name a patient. Other images in
    [0, 1] of two spatial axes and 1 or 3 channels become 8-bit PNG: they are put on the 8-bit grid before the attack
    and kept on it by the attack. All others, those resized or cut from volumes, and those of a threat with a finer
    quantum, become `.npy` of float32 in data units, `(C, *spatial)`. Where memory runs out, the batch is halved, and
    stays so: no image depends on it.

    Returns:
        The rows of the manifest, all of the files as read back: index, id, file, clean_file, linf, l2, psnr, ssim, and
        of the records' columns those of truth and answer; lists are numbers with spaces between.

    Raises:
        InputError: data, victim and threat do not fit, or the folder is not empty or cannot be written.
        BadSampleError: a sample cannot be read, and there is no `on_bad`.

    Warns:
        MedrobustWarning: the budget lets every pixel take any value.
    """
    info = dataset.info
    warn_of_budgets([threat], victim.bounds)
    check_untargeted("for export", attack)
    rows: list[Row] = []
    at_once = AtOnce(batch_size)
    with new_folder(folder) as unfinished, victim.evaluating():
        (unfinished / CLEAN).mkdir()
        whole = dataset if on_bad is None else Usable(dataset, victim)
        (call,) = calls_of(attack, [threat], victim, whole, seed)
        for batch in batches(dataset, victim, batch_size, on_bad):
            files = image_files(batch, info, threat, deidentify=deidentify)
            batch = replace(batch, images=files.representable(batch.images))
            victim.task.check_truth(batch.truth)
            (result,) = replace(call, threats=[files.limit(threat)]).on(victim, batch, seed, at_once)
            names = [
                _file_name(index, sample.id) + files.suffix(sample)
                for index, sample in zip(batch.indices, batch.samples, strict=True)
            ]
            stored: dict[str, Tensor] = {}
            for place, images in ((CLEAN, batch.images), ("", result.adversarial)):
                paths = [unfinished / place / name for name in names]
                for sample, image, path in zip(batch.samples, images, paths, strict=True):
                    files.write(sample, image.cpu(), path)
                read = [files.read(sample, path) for sample, path in zip(batch.samples, paths, strict=True)]
                stored[place] = torch.stack(read).to(batch.images)
            outputs = [answered(victim, batch, stored[place], at_once) for place in (CLEAN, "")]
            rows += _rows(victim, batch, batch.moved(result.truth), stored, outputs, names)
            on_progress(len(names))
        if not rows:
            raise InputError(f"no sample of {info.name!r} could be read")
        with (unfinished / MANIFEST).open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, fieldnames=list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    return rows


def folder_name(label: str) -> str:
    """The label of an attack without spaces and what a file system may refuse."""
    return re.sub(r'[\s/\\:*?"<>|]+', "_", label)


def _file_name(index: int, sample_id: str) -> str:
    """Unique by the index; the id's last part is there for people, without what a file system may refuse.

    Of a slice, "ct.nii.gz#0012", it has the volume's name and the number.
    """
    volume, mark, number = PurePosixPath(sample_id).name.rpartition("#")
    name = without_suffix(volume) + mark + number if mark else without_suffix(number)
    readable = re.sub(r"[^A-Za-z0-9_-]+", "_", name)[:60]
    return f"{index:06d}_{readable}"


def _rows(
    victim: Victim, batch: Batch, moved: Batch, stored: dict[str, Tensor], outputs: list[Any], names: list[str]
) -> list[Row]:
    before, after = outputs
    columns: Columns = {
        "index": list(batch.indices),
        "id": list(batch.ids),
        "file": list(names),
        "clean_file": [f"{CLEAN}/{name}" for name in names],
    }
    columns |= victim.task.record_truth(batch.truth, batch.spacing)
    columns |= answers(victim.task, before, batch, "before")
    columns |= answers(victim.task, after, moved, "after")
    quality = image_quality(stored[CLEAN], stored[""], victim.bounds)
    columns |= {name: values.tolist() for name, values in quality.items()}
    return as_rows({name: [_cell(value) for value in values] for name, values in columns.items()})


def _cell(value: object) -> object:
    """A list as numbers with spaces between, a list of lists with semicolons between those: one cell of a CSV."""
    if not isinstance(value, list):
        return value
    if value and isinstance(value[0], list):
        return "; ".join(str(_cell(inner)) for inner in value)
    return " ".join(f"{number:g}" for number in value)
