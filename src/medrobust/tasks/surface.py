"""How far the borders of two masks lie from each other, in millimetres: Hausdorff 95 and surface Dice, by MONAI.

A border is the pixels of a mask that have a neighbour (by a face) outside it; a mask ends where the image does.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence

import torch
from torch import Tensor

from medrobust.errors import InputError

Spacing = tuple[float, ...] | None


def surface_metrics(answer: Tensor, wanted: Tensor, spacing: Sequence[Spacing], tolerance: float) -> dict[str, Tensor]:
    """Distances of borders, image by image and class by class.

    `hd95` is the 95th percentile of the distances from either border to the other, the larger of the two (mm);
    `surface_dice` the share of both borders that is within `tolerance` mm of the other (Nikolov et al., arXiv
    1809.04430; by pixels of the border). A class in neither mask is NaN. One that is in a single mask has a surface
    Dice of 0, and as its HD95 the image's diagonal: no distance is larger, and an infinite one would make every mean
    infinite.

    Args:
        answer, wanted: bool `(B, n, *spatial)`.
        spacing: of each image, in mm along each spatial axis; where it is None, all is NaN.
        tolerance: mm.

    Returns:
        `hd95_by_class` and `surface_dice_by_class`, float64 `(B, n)`; `hd95` and `surface_dice`, `(B,)`: the means over
        the classes that are in either mask; 0 and 1 where there is none.

    Raises:
        InputError: a spacing has not one length for every axis.
    """
    shape = answer.shape[:2]
    distance = torch.full(shape, torch.nan, dtype=torch.float64)
    overlap = torch.full(shape, torch.nan, dtype=torch.float64)
    known = torch.tensor([one is not None for one in spacing])
    for image, lengths in enumerate(spacing):
        if lengths is not None:
            _check(lengths, answer.shape[2:])
            masks = answer[image].cpu(), wanted[image].cpu()
            distance[image], overlap[image] = _of_image(*masks, [float(length) for length in lengths], tolerance)
    return {
        "hd95": distance.nanmean(1).nan_to_num(0.0).masked_fill(~known, torch.nan),
        "surface_dice": overlap.nanmean(1).nan_to_num(1.0).masked_fill(~known, torch.nan),
        "hd95_by_class": distance,
        "surface_dice_by_class": overlap,
    }


def _of_image(answer: Tensor, wanted: Tensor, spacing: list[float], tolerance: float) -> tuple[Tensor, Tensor]:
    """HD95 and surface Dice `(n,)` of masks `(n, *spatial)`."""
    from monai.metrics import compute_hausdorff_distance, compute_surface_dice  # here: importing it is slow

    answered, there = answer.flatten(1).any(1), wanted.flatten(1).any(1)
    diagonal = math.hypot(*(length * count for length, count in zip(spacing, answer.shape[1:], strict=True)))
    distance = torch.full((len(answer),), torch.nan, dtype=torch.float64)
    overlap = distance.clone()
    distance[answered != there], overlap[answered != there] = diagonal, 0.0
    both = answered & there
    if bool(both.any()):
        pair = answer[both].unsqueeze(0), wanted[both].unsqueeze(0)
        options = {"include_background": True, "spacing": spacing}  # the masks hold the foreground alone
        tolerances = [tolerance] * int(both.sum())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # MONAI warns of an argument that it gives itself
            distance[both] = compute_hausdorff_distance(*pair, percentile=95, **options)[0].double()
            overlap[both] = compute_surface_dice(*pair, class_thresholds=tolerances, **options)[0].double()
    return distance, overlap


def _check(spacing: Sequence[float], spatial: Sequence[int]) -> None:
    if len(spacing) != len(spatial) or not all(math.isfinite(length) and length > 0 for length in spacing):
        raise InputError(f"spacing {tuple(spacing)} does not fit an image of {tuple(spatial)}: one length (mm) an axis")
