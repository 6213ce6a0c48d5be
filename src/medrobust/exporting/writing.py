"""The folder of an exported model: its files, `export.json` and `model-card.md`, whole or not at all."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import torch
from torch import Tensor

from medrobust.data import Dataset
from medrobust.errors import InputError
from medrobust.evaluation.storage import check_output_folder, new_folder
from medrobust.exporting.checking import BATCHES, TOLERANCE, TRACED, agreement, images_to_check
from medrobust.exporting.data_units import InDataUnits, on_cpu, reading
from medrobust.exporting.formats import INPUT, OUTPUT, ExportFormat, export_format, written_and_read
from medrobust.hardening_card import CARD, card_of, read_told
from medrobust.models import weights_fingerprint
from medrobust.report.exported import ExportedFile, ExportTold, ImageInput, ModelOutput, export_card, export_json
from medrobust.report.folders import without_absolute
from medrobust.run import installed_versions
from medrobust.victim import Victim

EXPORT_JSON = "export.json"
_PACKAGES = ("onnx", "onnxscript", "onnxruntime")
_INSIDE = ("model", "weights_sha256", "task", "classes", "input", "output")  # what the files themselves tell


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        folder: where.
        told: all that `export.json` holds.
    """

    folder: Path
    told: ExportTold

    def summary(self) -> str:
        """A line for each file: where it is, and how near to the model."""
        return "\n".join(
            f"{self.folder / file.file}: differs from the model by {file.max_difference:.2g} at most "
            f"({sum(self.told.checked)} images, batches of {', '.join(map(str, self.told.checked))})"
            for file in self.told.files
        )


def export(
    victim: Victim,
    dataset: Dataset,
    folder: str | Path,
    formats: Sequence[str] | str = ("onnx",),
    *,
    hardening: str | Path | None = None,
    model_name: str | None = None,
) -> Exported:
    """Write a model to files for use elsewhere; every file is read again and compared with the model.

    What is written is the victim: images in data units in, outputs (logits) out, with its normalisation and defence
    inside, in float32 (or the model's own precision), for batches of any size and images of the size of these data. No
    image is in the files: they are made with noise, and checked with images of the data set.

    Args:
        victim: the model; of classes, labels, grades or masks, in two or three dimensions. It stays as it is.
        dataset: images as the files will see them.
        folder: a new one, for the files, `export.json` and `model-card.md`.
        formats: of "onnx", "torchscript" and "torch-export".
        hardening: the folder of the hardening that the model is from, whose model card then goes along.
        model_name: for the card; the class of the model when not given.

    Raises:
        InputError: the model is a detector, a black box or one that a format cannot hold; a file's outputs differ from
            the model's by more than 1e-4 (of the largest output where that is above 1); or the folder cannot be
            written. Nothing is then left behind.
        MissingExtraError: what a format needs is not installed.
    """
    folder = Path(folder)
    check_output_folder(folder)
    chosen = {name: export_format(name) for name in ((formats,) if isinstance(formats, str) else formats)}
    if not chosen:
        raise InputError("give a format to export to, e.g. onnx")
    plain = on_cpu(victim)
    fingerprint = weights_fingerprint(plain.model)
    card = None if hardening is None else _card(Path(hardening), fingerprint)
    images = images_to_check(dataset, plain)
    told = _told(plain, dataset, images, model_name or type(victim.model).__name__, fingerprint, card is not None)
    with new_folder(folder) as unfinished:
        told = _written(plain, images, chosen, unfinished, told)
        (unfinished / EXPORT_JSON).write_bytes(export_json(told))
        (unfinished / CARD).write_bytes(export_card(told, card))
    return Exported(folder, told)


def _card(hardening: Path, fingerprint: str) -> str:
    made, _ = read_told(hardening)
    if made.weights_sha256 not in (None, fingerprint):
        raise InputError(f"{hardening} is of a model with other weights than the one to export")
    return card_of(hardening)


def _told(
    victim: Victim, dataset: Dataset, images: Tensor, model_name: str, fingerprint: str, hardened: bool
) -> ExportTold:
    """All but the files."""
    info, shape = dataset.info, list(images.shape[1:])
    with torch.no_grad():
        outputs = victim(images[:TRACED])
    kept = ("mean", "std", "defence", "task_options")
    return ExportTold(
        model=without_absolute(model_name),
        weights_sha256=fingerprint,
        parameters=sum(parameter.numel() for parameter in victim.model.parameters()),
        task=info.task,
        classes=list(info.classes),
        input=ImageInput(INPUT, ["batch", *shape], info.unit, victim.bounds),
        output=ModelOutput(OUTPUT, ["batch", *outputs.shape[1:]], reading(victim, outputs)),
        inside={name: value for name, value in victim.describe().items() if name in kept},
        data=info.name,
        data_sha256=dataset.fingerprint(),
        checked=list(BATCHES),
        traced=TRACED,
        tolerance=TOLERANCE,
        largest_output=0.0,
        files=[],
        hardened=hardened,
        versions=installed_versions(*_PACKAGES),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _written(
    victim: Victim, images: Tensor, formats: dict[str, ExportFormat], folder: Path, told: ExportTold
) -> ExportTold:
    """With the files, all of them or none.

    Raises:
        InputError: one of them cannot be made, or is not the model; it names which, and which could be.
    """
    model = InDataUnits(victim, images.ndim - 2).eval()
    noise, inside = _noise(victim, images), json.dumps({name: asdict(told)[name] for name in _INSIDE})
    files, failed, largest = [], {}, 0.0
    for name, one in formats.items():
        path = folder / one.place
        try:
            run = written_and_read(one, model, noise, path, inside)
            found = agreement(run, victim, images)
        except InputError as error:
            failed[name] = str(error).replace(f"{folder}/", "")
            continue
        content = path.read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        files.append(ExportedFile(name, one.place, digest, len(content), found.max_difference))
        largest = found.largest_output
    if failed:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in failed.items())
        rest = f" ({', '.join(file.format for file in files)} can be)" if files else ""
        raise InputError(f"the model cannot be exported to {reasons}; nothing was written{rest}")
    return replace(told, files=files, largest_output=largest)


def _noise(victim: Victim, images: Tensor) -> Tensor:
    """What the files are made with, `(2, C, *spatial)` within the bounds: some formats keep it, so it is no image."""
    low, high = victim.bounds
    generator = torch.Generator().manual_seed(0)
    return low + (high - low) * torch.rand((TRACED, *images.shape[1:]), generator=generator)
