"""What is told of an exported model: `export.json`, and the part of its model card that tells how to use the files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pydantic

from medrobust.report.environment import templates
from medrobust.report.markdown import tidy


@dataclass(frozen=True)
class ExportedFile:
    """One file, and how near it is to the model.

    Attributes:
        format: its kind, e.g. "onnx".
        file: its name.
        sha256: of its bytes, hex.
        size: bytes.
        max_difference: the largest difference of its outputs from the model's on the images it was checked with.
    """

    format: str
    file: str
    sha256: str
    size: int
    max_difference: float


@dataclass(frozen=True)
class ImageInput:
    """What the files take: float32 images in data units, not normalised. "batch" stands for any number."""

    name: str
    shape: list[int | str]
    unit: str
    bounds: tuple[float, float]


@dataclass(frozen=True)
class ModelOutput:
    """What they give, and how it is read."""

    name: str
    shape: list[int | str]
    reading: str


@dataclass(frozen=True)
class ExportTold:
    """`export.json`.

    Attributes:
        model: where the model came from, without folders.
        weights_sha256: fingerprint of its weights, as in `run.json`.
        parameters: their number.
        task: of the data.
        classes: names in the order of the outputs.
        input, output: of the files.
        inside: the preprocessing inside the files, as `Victim.describe` tells it.
        data: name of the data set whose images the files were checked with; data_sha256: its fingerprint.
        checked: images in each batch of the check; traced: in the one that the files were made with.
        tolerance: what a difference was allowed to be, of the largest output where that is above 1.
        largest_output: of the model on these images, in absolute value.
        files: those written.
        hardened: whether the model was made by a hardening, whose card goes along.
        versions: of the packages.
        created: ISO 8601 in UTC.
    """

    model: str
    weights_sha256: str
    parameters: int
    task: str
    classes: list[str]
    input: ImageInput
    output: ModelOutput
    inside: dict[str, Any]
    data: str
    data_sha256: str
    checked: list[int]
    traced: int
    tolerance: float
    largest_output: float
    files: list[ExportedFile]
    hardened: bool
    versions: dict[str, str]
    created: str


_TOLD = pydantic.TypeAdapter(ExportTold)


def export_json(told: ExportTold) -> bytes:
    """The file."""
    return _TOLD.dump_json(told, indent=2) + b"\n"


def export_card(told: ExportTold, hardened: str | None) -> bytes:
    """The model card in Markdown: that of the hardening, if there is one, and how to use the files."""
    return tidy(templates().get_template("export_card.md.j2").render(told=told, hardened=hardened))
