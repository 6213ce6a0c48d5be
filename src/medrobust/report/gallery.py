"""Images to look at: clean, adversarial and amplified difference, with the answers before and after."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from medrobust.data.dataset import DatasetInfo
from medrobust.evaluation.records import GalleryAttack, GalleryImage, PartInfo
from medrobust.report.answers import answer_text, counting_detections, is_right, truth_text
from medrobust.report.budgets import budget_text
from medrobust.report.marks import LARGEST, Pixels, boxed, contoured, reduced
from medrobust.report.numbers import plain
from medrobust.statistics import TASK_TRAITS

HU_WINDOW = (-600.0, 1500.0)  # level and width: lung

Marks = Callable[[Pixels], Pixels]


@dataclass(frozen=True)
class Picture:
    """A PNG in the page: its data URI and what it shows in words."""

    source: str
    alt: str


@dataclass(frozen=True)
class Attacked:
    """What an attack made of an image. `right` is None when records or truth do not tell."""

    label: str
    budget: str
    adversarial: Picture
    difference: Picture
    factor: int
    answer: str
    right: bool | None


@dataclass(frozen=True)
class Entry:
    """An image of the gallery, named by its place in the data set and nothing else."""

    index: int
    clean: Picture
    truth: str
    answer: str
    right: bool | None
    attacks: list[Attacked]

    @property
    def by_attack(self) -> dict[str, list[Attacked]]:
        """Label → what that attack made at each budget."""
        rows: dict[str, list[Attacked]] = {}
        for attacked in self.attacks:
            rows.setdefault(attacked.label, []).append(attacked)
        return rows


def gallery_entries(images: list[GalleryImage], records: pl.DataFrame, name: str, part: PartInfo) -> list[Entry]:
    """The images of a part, with the answers that the records hold for them."""
    chosen = [image for image in images if image.part == name]
    indices = pl.Series([image.index for image in chosen], dtype=pl.Int64)
    rows = records.filter((pl.col("part") == name) & pl.col("index").is_in(indices.implode()))
    by_key = {(row["index"], row["attack"], row["norm"], row["eps"]): row for row in rows.iter_rows(named=True)}
    by_index = {row["index"]: row for row in by_key.values()}
    return [_entry(image, by_key, by_index.get(image.index, {}), part) for image in chosen]


def _entry(image: GalleryImage, by_key: dict[Any, dict[str, Any]], row: dict[str, Any], part: PartInfo) -> Entry:
    answer = answer_text(row, "before", part)
    marks = _marks(image, image.truth, image.before, row, "before", part)
    clean = _picture(image.clean, part.dataset, f"Image {image.index}, clean: {answer}", marks)
    attacks = [
        _attacked(image, attack, by_key.get((image.index, attack.attack, attack.norm, attack.eps), {}), part)
        for attack in image.attacks
    ]
    return Entry(image.index, clean, truth_text(row, part), answer, is_right(row, "before", part), attacks)


def _attacked(image: GalleryImage, attack: GalleryAttack, row: dict[str, Any], part: PartInfo) -> Attacked:
    label, budget = plain(attack.attack, 40), budget_text(attack.norm, attack.eps, part)
    answer = answer_text(row, "after", part)
    title = f"Image {image.index}, attacked by {label} at {budget}"
    truth = image.truth if attack.truth is None else attack.truth
    marks = _marks(image, truth, attack.after, row, "after", part)
    adversarial = _picture(attack.adversarial, part.dataset, f"{title}: {answer}", marks)
    change = (attack.adversarial - image.clean).double()
    factor = amplification(attack, change, part.dataset)
    low, high = _window(part.dataset)
    grey = 0.5 + factor * _channels(change) / (high - low)
    alt = f"Image {image.index}: the change made by {label}, amplified {factor} times"
    difference = Picture(_png(_fit(_bytes(grey))), alt)
    return Attacked(label, budget, adversarial, difference, factor, answer, is_right(row, "after", part))


def amplification(attack: GalleryAttack, change: Tensor, dataset: DatasetInfo) -> int:
    """The whole factor by which the largest change allowed (L∞), or made, nearly fills the greys."""
    largest = attack.eps if attack.norm == "linf" else float(change.abs().max())
    low, high = _window(dataset)
    return max(1, math.floor((high - low) / (2 * largest))) if largest > 0 else 1


def shown_as(image: GalleryImage, dataset: DatasetInfo) -> list[str]:
    """What was done to the images to show them."""
    said = []
    if dataset.unit == "HU":
        said.append(f"Shown in the lung window: level {HU_WINDOW[0]:g} HU, width {HU_WINDOW[1]:g} HU.")
    if image.clean.shape[0] not in (1, 3):
        said.append(f"Channel 1 of {image.clean.shape[0]} is shown.")
    if max(image.clean.shape[-2:]) > LARGEST:
        said.append(f"Images are reduced to {LARGEST} pixels on the longer side.")
    if dataset.spatial_dims == 3:
        said.append("Of a volume, the middle slice is shown.")
    return said


def _picture(image: Tensor, dataset: DatasetInfo, alt: str, marks: Marks | None) -> Picture:
    low, high = _window(dataset)
    pixels = _fit(_bytes((_channels(image.double()) - low) / (high - low)))
    return Picture(_png(pixels if marks is None else marks(pixels)), alt)


def _marks(
    image: GalleryImage, truth: Tensor | None, answer: Tensor | None, row: dict[str, Any], when: str, part: PartInfo
) -> Marks | None:
    """What draws truth and answer on the pixels: class maps from the gallery, boxes from the row of the records."""
    if TASK_TRAITS[part.task].answer == "boxes":
        known, found = (_corners(row.get(column)) for column in ("truth_boxes", f"boxes_{when}"))
        height, width = image.clean.shape[-2:]
        found = found[counting_detections(row, when, part)]
        return partial(boxed, truth=known, answer=found, size=(height, width))
    if truth is None or answer is None:
        return None
    return partial(contoured, truth=truth, answer=answer)


def _corners(boxes: list[list[float]] | None) -> NDArray[np.float64]:
    return np.array(boxes or [], np.float64).reshape(-1, 4)


def _window(dataset: DatasetInfo) -> tuple[float, float]:
    """The values shown as black and white."""
    if dataset.unit != "HU":
        return dataset.bounds
    level, width = HU_WINDOW
    return level - width / 2, level + width / 2


def _channels(image: Tensor) -> NDArray[np.float64]:
    """`(C, H, W)` → `(H, W, 3)` for three channels, else the first, `(H, W)`."""
    values: NDArray[np.float64] = image.numpy()
    return values.transpose(1, 2, 0) if len(values) == 3 else values[0]


def _bytes(values: NDArray[np.float64]) -> Pixels:
    return np.round(np.nan_to_num(values).clip(0, 1) * 255).astype(np.uint8)


def _fit(pixels: Pixels) -> Pixels:
    height, width = reduced(*pixels.shape[:2])
    if (height, width) == pixels.shape[:2]:
        return pixels
    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BOX))


def _png(pixels: Pixels) -> str:
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(data.getvalue()).decode()}"
