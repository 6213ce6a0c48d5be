"""Images to look at: clean, adversarial and amplified difference, with the answers before and after."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import polars as pl
from numpy.typing import NDArray
from torch import Tensor

from medrobust.data.dataset import DatasetInfo
from medrobust.evaluation.records import GalleryAttack, GalleryImage, PartInfo
from medrobust.report.answers import answer_text, counting_detections, is_right, truth_text
from medrobust.report.budgets import budget_text
from medrobust.report.marks import Pixels, boxes, contours
from medrobust.report.numbers import plain
from medrobust.report.outcomes import Outcome, by_harm, outcome_of
from medrobust.report.pictures import Picture, fitted, lines_only, shown_size, thinned
from medrobust.report.showing import EVERYTHING, Showing, said_of
from medrobust.report.units import shown_range
from medrobust.report.values import packed, whole_values
from medrobust.statistics import TASK_TRAITS

Slices = list[NDArray[np.float64]]
Values = TypeVar("Values", Tensor, NDArray[np.float32])


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
    values: str | None  # of a CT: what was added to the clean values, packed


@dataclass(frozen=True)
class Entry:
    """An image of the gallery, named by its place in the data set and nothing else.

    Attributes:
        size: height and width of one slice as it is shown.
        slices: of a volume, the places of the slices that its pictures hold, one below the other.
        outcome: what became of it over all attacks and budgets; None when records or truth do not tell.
        harm: its place when the images are put in order of harm, 1 the worst.
        values: of a CT, the clean values, packed.
    """

    index: int
    clean: Picture
    truth: str
    answer: str
    right: bool | None
    attacks: list[Attacked]
    size: tuple[int, int]
    slices: tuple[int, ...]
    outcome: Outcome | None
    harm: int
    values: str | None

    @property
    def by_attack(self) -> dict[str, list[Attacked]]:
        """Label → what that attack made at each budget."""
        rows: dict[str, list[Attacked]] = {}
        for attacked in self.attacks:
            rows.setdefault(attacked.label, []).append(attacked)
        return rows


def gallery_entries(
    images: Sequence[GalleryImage], records: pl.DataFrame, name: str, part: PartInfo, showing: Showing = EVERYTHING
) -> list[Entry]:
    """The images of a part, with the answers that the records hold for them."""
    chosen = [image for image in images if image.part == name]
    indices = pl.Series([image.index for image in chosen], dtype=pl.Int64)
    rows = records.filter((pl.col("part") == name) & pl.col("index").is_in(indices.implode()))
    of_image = {int(str(index)): group for (index,), group in rows.group_by("index", maintain_order=True)}
    empty = rows.clear()
    order = by_harm({image.index: of_image.get(image.index, empty) for image in chosen}, part)
    return [
        _entry(image, of_image.get(image.index, empty), order.index(image.index) + 1, part, showing) for image in chosen
    ]


def entry_size(image: GalleryImage, records: pl.DataFrame, part: PartInfo, showing: Showing) -> int:
    """How many characters an image takes in a page."""
    (entry,) = gallery_entries([image], records, image.part, part, showing)
    pictures = [entry.clean, *(p for attacked in entry.attacks for p in (attacked.adversarial, attacked.difference))]
    values = [entry.values, *(attacked.values for attacked in entry.attacks)]
    return sum(len(p.source) + len(p.lines or "") for p in pictures) + sum(len(text or "") for text in values)


def shown_as(image: GalleryImage, dataset: DatasetInfo, showing: Showing = EVERYTHING) -> list[str]:
    """What was done to the images to show them."""
    return said_of(showing, image, dataset, shown_range(dataset))


class _Drawing:
    """How the pictures of one image are made: its slices, the size they are shown at, the values of black and white."""

    def __init__(self, image: GalleryImage, part: PartInfo, showing: Showing) -> None:
        self.image, self.part, self.showing = image, part, showing
        self.shown = shown_size(image.clean.shape[-2], image.clean.shape[-1], showing.largest)
        count = len(image.slices)
        kept = min(count, showing.slices)
        self.planes = [(2 * k + 1) * count // (2 * kept) for k in range(kept)]
        self.low, self.high = shown_range(part.dataset)

    def picture(self, values: Tensor, alt: str, lines: Pixels | None) -> Picture:
        pieces = [_bytes((piece - self.low) / (self.high - self.low)) for piece in self._pieces(values.numpy())]
        pixels = np.concatenate([fitted(piece, self.shown) for piece in pieces])
        return Picture(self.showing.encode(pixels), alt, None if lines is None else lines_only(lines))

    def change(self, change: NDArray[np.float32], factor: int, alt: str) -> Picture:
        height, width = self.image.clean.shape[-2:]
        size = shown_size(height, width, self.showing.largest_change)
        pieces = [_bytes(0.5 + factor * piece / (self.high - self.low)) for piece in self._pieces(change)]
        return Picture(self.showing.encode(np.concatenate([thinned(piece, size) for piece in pieces])), alt)

    def lines(self, truth: Tensor | None, answer: Tensor | None, row: dict[str, Any], when: str) -> Pixels | None:
        """Truth and answer: class maps from the gallery, boxes from the row of the records."""
        if TASK_TRAITS[self.part.task].answer == "boxes":
            known, found = (_corners(row.get(column)) for column in ("truth_boxes", f"boxes_{when}"))
            height, width = self.image.clean.shape[-2:]
            return boxes(known, found[counting_detections(row, when, self.part)], (height, width), self.shown)
        if truth is None or answer is None:
            return None
        pairs = zip(self._planes(truth), self._planes(answer), strict=True)
        return np.concatenate([contours(known, said, self.shown) for known, said in pairs])

    def values(self, image: Tensor) -> NDArray[np.int16] | None:
        """The values of a CT; None of other images, and where they are left out."""
        if self.part.dataset.unit != "HU" or not self.showing.values:
            return None
        pieces = self._pieces(image.numpy())
        return whole_values([piece if piece.ndim == 2 else piece[..., 0] for piece in pieces], self.shown)

    def _planes(self, values: Values) -> list[Values]:
        return [values[..., place, :, :] for place in self.planes] if self.planes else [values]

    def _pieces(self, values: NDArray[np.float32]) -> Slices:
        return [_channels(plane.astype(np.float64)) for plane in self._planes(values)]


def _entry(image: GalleryImage, rows: pl.DataFrame, harm: int, part: PartInfo, showing: Showing) -> Entry:
    drawing = _Drawing(image, part, showing)
    by_key = {(row["attack"], row["norm"], row["eps"]): row for row in rows.iter_rows(named=True)}
    row = next(iter(by_key.values()), {})
    answer = answer_text(row, "before", part)
    lines = drawing.lines(image.truth, image.before, row, "before")
    values = drawing.values(image.clean)
    attacks = [
        _attacked(drawing, attack, by_key.get((attack.attack, attack.norm, attack.eps), {}), values)
        for attack in showing.choose(image, rows)
    ]
    return Entry(
        image.index,
        drawing.picture(image.clean, f"Image {image.index}, clean: {answer}", lines),
        truth_text(row, part),
        answer,
        is_right(row, "before", part),
        attacks,
        drawing.shown,
        tuple(image.slices[place] for place in drawing.planes),
        outcome_of(rows, part),
        harm,
        None if values is None else packed(values),
    )


def _attacked(
    drawing: _Drawing, attack: GalleryAttack, row: dict[str, Any], clean: NDArray[np.int16] | None
) -> Attacked:
    image, part = drawing.image, drawing.part
    label, budget = plain(attack.attack, 40), budget_text(attack.norm, attack.eps, part)
    answer = answer_text(row, "after", part)
    truth = image.truth if attack.truth is None else attack.truth
    lines = drawing.lines(truth, attack.after, row, "after")
    alt = f"Image {image.index}, attacked by {label} at {budget}: {answer}"
    change: NDArray[np.float32] = attack.adversarial.numpy() - image.clean.numpy()
    factor = amplification(attack, change, part.dataset)
    changed = f"Image {image.index}: the change made by {label}, amplified {factor} times"
    values = drawing.values(attack.adversarial)
    return Attacked(
        label,
        budget,
        drawing.picture(attack.adversarial, alt, lines),
        drawing.change(change, factor, changed),
        factor,
        answer,
        is_right(row, "after", part),
        None if values is None or clean is None else packed(values - clean),
    )


def amplification(attack: GalleryAttack, change: NDArray[np.float32], dataset: DatasetInfo) -> int:
    """The whole factor by which the largest change allowed (L∞), or made, nearly fills the greys."""
    largest = attack.eps if attack.norm == "linf" else float(np.abs(change).max())
    low, high = shown_range(dataset)
    return max(1, math.floor((high - low) / (2 * largest))) if largest > 0 else 1


def _corners(written: list[list[float]] | None) -> NDArray[np.float64]:
    return np.array(written or [], np.float64).reshape(-1, 4)


def _channels(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """`(C, H, W)` → `(H, W, 3)` for three channels, else the first, `(H, W)`."""
    return values.transpose(1, 2, 0) if len(values) == 3 else values[0]


def _bytes(values: NDArray[np.float64]) -> Pixels:
    return np.round(np.nan_to_num(values).clip(0, 1) * 255).astype(np.uint8)
