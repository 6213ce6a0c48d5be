"""Images to look at: clean, adversarial and amplified difference, with the answers before and after."""

from __future__ import annotations

import base64
import io
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from medrobust.data.dataset import DatasetInfo
from medrobust.evaluation.records import GalleryAttack, GalleryImage, PartInfo
from medrobust.report.numbers import format_value, listed, plain
from medrobust.report.wording import budget_text
from medrobust.statistics import class_name, known_labels

HU_WINDOW = (-600.0, 1500.0)  # level and width: lung
LARGEST = 512  # pixels of the longer side that are shown
_DRAWN = 320  # contours need this many to be lines
_TRUTH, _ANSWER = (86, 180, 233), (230, 159, 0)  # Okabe and Ito's sky blue and orange

Pixels = NDArray[np.uint8]


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
    answer = _answer(row, "before", part)
    title = f"Image {image.index}"
    clean = _picture(image.clean, part.dataset, f"{title}, clean: {answer}", image.truth, image.before)
    attacks = [
        _attacked(image, attack, by_key.get((image.index, attack.attack, attack.norm, attack.eps), {}), part)
        for attack in image.attacks
    ]
    return Entry(image.index, clean, _truth(row, part), answer, _right(row, "before", part), attacks)


def _attacked(image: GalleryImage, attack: GalleryAttack, row: dict[str, Any], part: PartInfo) -> Attacked:
    label, budget = plain(attack.attack, 40), budget_text(attack.norm, attack.eps, part)
    answer = _answer(row, "after", part)
    title = f"Image {image.index}, attacked by {label} at {budget}"
    adversarial = _picture(attack.adversarial, part.dataset, f"{title}: {answer}", image.truth, attack.after)
    change = (attack.adversarial - image.clean).double()
    factor = amplification(attack, change, part.dataset)
    low, high = _window(part.dataset)
    grey = 0.5 + factor * _channels(change) / (high - low)
    alt = f"Image {image.index}: the change made by {label}, amplified {factor} times"
    difference = Picture(_png(_fit(_bytes(grey))), alt)
    return Attacked(label, budget, adversarial, difference, factor, answer, _right(row, "after", part))


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


def contoured(pixels: Pixels, truth: Tensor, answer: Tensor) -> Pixels:
    """Borders between classes on `(H, W, 3)` pixels: the truth's solid blue, the answer's dashed orange.

    Class maps are (H, W), or (L, H, W) when every label is a mask of its own.
    """
    scale = math.ceil(_DRAWN / max(pixels.shape[:2]))
    large = pixels.repeat(scale, 0).repeat(scale, 1)
    row, column = np.indices(large.shape[:2])
    dash = (row + column) // 5 % 2 == 0
    large[_borders(truth, scale)] = _TRUTH
    large[_borders(answer, scale) & dash] = _ANSWER
    return large


def _borders(labels: Tensor, scale: int) -> NDArray[np.bool_]:
    maps = labels.numpy() if labels.ndim == 3 else labels.numpy()[None]
    maps = _thinned(maps).repeat(scale, 1).repeat(scale, 2)
    across, down = maps[:, :, 1:] != maps[:, :, :-1], maps[:, 1:] != maps[:, :-1]
    borders = np.zeros(maps.shape, bool)
    borders[:, :, 1:] |= across
    borders[:, :, :-1] |= across
    borders[:, 1:] |= down
    borders[:, :-1] |= down
    return np.asarray(borders.any(0))


def _picture(image: Tensor, dataset: DatasetInfo, alt: str, truth: Tensor | None, answer: Tensor | None) -> Picture:
    low, high = _window(dataset)
    pixels = _fit(_bytes((_channels(image.double()) - low) / (high - low)))
    if truth is not None and answer is not None:
        colour = pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, 2)
        pixels = contoured(colour, truth, answer)
    return Picture(_png(pixels), alt)


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
    height, width = _reduced(*pixels.shape[:2])
    if (height, width) == pixels.shape[:2]:
        return pixels
    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BOX))


def _thinned(maps: NDArray[np.int64]) -> NDArray[np.int64]:
    """Class maps `(L, H, W)` at the size of the shown image: the nearest class, never a mean of two."""
    before, after = maps.shape[1:], _reduced(*maps.shape[1:])
    rows, columns = (
        ((np.arange(to) + 0.5) * size / to).astype(np.int64) for to, size in zip(after, before, strict=True)
    )
    return maps[:, rows[:, None], columns]


def _reduced(height: int, width: int) -> tuple[int, int]:
    ratio = min(1.0, LARGEST / max(height, width))
    return max(1, round(height * ratio)), max(1, round(width * ratio))


def _png(pixels: Pixels) -> str:
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(data.getvalue()).decode()}"


def _right(row: dict[str, Any], when: str, part: PartInfo) -> bool | None:
    """Whether the answer is right, if the records and the truth tell."""
    truth = row.get("truth")
    if part.task == "multilabel" and truth and not known_labels(np.array(truth, float), part.dataset).any():
        return None
    right: bool | None = row.get(f"right_{when}")
    return right


def _truth(row: dict[str, Any], part: PartInfo) -> str:
    truth = row.get("truth")
    if part.task == "segmentation" or not truth:
        return ""
    if part.task == "multilabel":
        known = known_labels(np.array(truth, float), part.dataset)
        return _labels(np.where(known, truth, 0).tolist(), None, part) if known.any() else "unknown"
    return plain(class_name(part.dataset, truth[0]))


def _answer(row: dict[str, Any], when: str, part: PartInfo) -> str:
    """The class with its confidence, the labels found, or the mean Dice."""
    if part.task == "segmentation":
        return f"Dice {format_value(row.get(f'dice_{when}'))}"
    answer, scores = row.get(f"prediction_{when}"), row.get(f"scores_{when}")
    if not answer:
        return "answer not recorded"
    if part.task == "multilabel":
        return _labels(answer, scores, part)
    name = plain(class_name(part.dataset, answer[0]))
    return f"{name} ({format_value(scores[answer[0]])})" if scores and answer[0] < len(scores) else name


def _labels(answer: list[int], scores: list[float] | None, part: PartInfo) -> str:
    found = [
        plain(class_name(part.dataset, place), 30) + (f" ({format_value(scores[place])})" if scores else "")
        for place, value in enumerate(answer)
        if value == 1
    ]
    return listed(found) if found else "no finding"
