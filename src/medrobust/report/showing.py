"""How much of a gallery a page shows: all of it, exactly, unless the page would grow too large to be passed on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from medrobust.data.dataset import DatasetInfo
from medrobust.evaluation.records import GalleryAttack, GalleryImage
from medrobust.report.pictures import WEBP_QUALITY, Encode, exact, small

ROOM = 11_500_000  # characters of a page of at most 15 MB
_TRIED = 3  # images that a size is judged by

Choose = Callable[[GalleryImage, pl.DataFrame], Sequence[GalleryAttack]]


def every_attack(image: GalleryImage, _: pl.DataFrame) -> Sequence[GalleryAttack]:
    """All that the gallery holds of an image."""
    return image.attacks


def worst_of_each_budget(image: GalleryImage, rows: pl.DataFrame) -> Sequence[GalleryAttack]:
    """At each budget the attack that raised the loss most; the first where the records do not tell."""
    losses = {(row["attack"], row["norm"], row["eps"]): row["loss_after"] for row in rows.iter_rows(named=True)}
    worst: dict[tuple[str, float], GalleryAttack] = {}
    for attack in image.attacks:
        best = worst.get((attack.norm, attack.eps))
        if best is None or _loss(attack, losses) > _loss(best, losses):
            worst[attack.norm, attack.eps] = attack
    return list(worst.values())


def worst_of_the_largest(image: GalleryImage, rows: pl.DataFrame) -> Sequence[GalleryAttack]:
    """The same at the largest budget of each norm alone."""
    largest: dict[str, GalleryAttack] = {}
    for attack in worst_of_each_budget(image, rows):
        if attack.norm not in largest or attack.eps > largest[attack.norm].eps:
            largest[attack.norm] = attack
    return list(largest.values())


def _loss(attack: GalleryAttack, losses: dict[tuple[str, str, float], float | None]) -> float:
    loss = losses.get((attack.attack, attack.norm, attack.eps))
    return -np.inf if loss is None or np.isnan(loss) else loss


@dataclass(frozen=True)
class Showing:
    """How much of each image is shown.

    Attributes:
        encode: how pictures are written.
        largest: pixels of the longer side of an image.
        largest_change: the same of the amplified change, which is thinned, not averaged.
        slices: of a volume, at most.
        values: whether the values of a CT go along, so that level and width can be set.
        choose: which attacks.
    """

    encode: Encode = exact
    largest: int = 512
    largest_change: int = 512
    slices: int = 9
    values: bool = True
    choose: Choose = every_attack


EVERYTHING = Showing()
_LESS = (
    EVERYTHING,
    Showing(small),
    Showing(small, 384, 256, 5, True, worst_of_each_budget),
    Showing(small, 384, 128, 3, False, worst_of_each_budget),
    Showing(small, 256, 128, 1, False, worst_of_the_largest),
    Showing(small, 160, 96, 1, False, worst_of_the_largest),
)


def showing_for(gallery: Sequence[GalleryImage], size: Callable[[GalleryImage, Showing], int]) -> Showing:
    """The most that leaves a page small enough, judged by a few images; `size` is the characters that one takes."""
    count = min(_TRIED, len(gallery))
    tried = [gallery[(2 * k + 1) * len(gallery) // (2 * count)] for k in range(count)]
    for showing in _LESS[:-1]:
        if sum(size(image, showing) for image in tried) * len(gallery) <= ROOM * count:
            return showing
    return _LESS[-1]


def said_of(showing: Showing, image: GalleryImage, dataset: DatasetInfo, window: tuple[float, float]) -> list[str]:
    """What was done to the images to show them; `window` the values shown as black and white."""
    said = []
    if dataset.unit == "HU":
        low, high = window
        said.append(f"Shown in the lung window: level {(low + high) / 2:g} HU, width {high - low:g} HU.")
    if image.clean.shape[0] not in (1, 3):
        said.append(f"Channel 1 of {image.clean.shape[0]} is shown.")
    side = max(image.clean.shape[-2:])
    if side > showing.largest:
        said.append(f"Images are reduced to {showing.largest} pixels on the longer side.")
    if side > showing.largest_change:
        said.append(f"The change is thinned to {showing.largest_change} pixels on the longer side.")
    if showing.encode is small:
        said.append(f"Pictures are compressed (WebP, quality {WEBP_QUALITY}): to look at, not to measure.")
    if showing.choose is worst_of_each_budget:
        said.append("At each budget the attack that raised the loss most is shown.")
    if showing.choose is worst_of_the_largest:
        said.append("Of each image the attack that raised the loss most at the largest budget is shown.")
    if dataset.spatial_dims == 3:
        count = min(showing.slices, len(image.slices))
        slices = f"{count} slices spread over it are" if count > 1 else "the middle slice is"
        said.append(f"Of a volume, {slices} shown.")
    return said
