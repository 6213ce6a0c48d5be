"""A model of brightness and a screen that watches the first row of its images: what knows of it goes round it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

import medrobust as mr
from medrobust.data import DatasetInfo


@dataclass(frozen=True)
class Rim(mr.Screen):
    """Suspects images whose first row is bright."""

    def __call__(self, victim: mr.Victim, images: Tensor, outputs: Any) -> Tensor:
        return images[:, :, 0].flatten(1).mean(1)

    def describe(self) -> dict[str, object]:
        return {"screen": "rim"}


def brightness(rows: int = 4) -> mr.Victim:
    """Class 1 for 4 × 4 images whose first rows are brighter than ½; a sign step brightens the rim, too."""
    linear = nn.Linear(16, 1)
    with torch.no_grad():
        linear.weight.zero_()
        linear.weight[:, : 4 * rows] = 4.0
        linear.bias.fill_(-8.0 * rows)
    return mr.Victim(nn.Sequential(nn.Flatten(), linear), mr.Classification(2))


def flat(levels: list[float]) -> tuple[Tensor, Tensor]:
    """Images of one level each, and their truth."""
    images = torch.tensor(levels)[:, None, None, None].expand(-1, 1, 4, 4).clone()
    return images, (torch.tensor(levels) > 0.5).long()


def flat_data(levels: list[float], first: int = 0, images_each: int = 2) -> mr.InMemoryDataset:
    """Those images as a data set, `images_each` of each patient; ids count from `first`."""
    images, truth = flat(levels)
    samples = [
        mr.Sample(f"i{first + k}", image, truth[k], patient=f"p{(first + k) // images_each}")
        for k, image in enumerate(images)
    ]
    return mr.InMemoryDataset(DatasetInfo("flat", "classification", ("dark", "bright"), 1), samples)
