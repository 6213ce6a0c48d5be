"""Which anchors and proposals a loss looks at, drawn without the global random state."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor
from torchvision.models.detection._utils import BalancedPositiveNegativeSampler

SEED = 0


class FreshSampler(BalancedPositiveNegativeSampler):
    """torchvision's balanced draw, from a generator started afresh for every image.

    With the same labels it draws what torchvision's would after `torch.manual_seed(SEED)` on the CPU, on any device.
    """

    def __call__(self, matched_idxs: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Masks of the positive and of the negative ones drawn, for labels `(n,)` of each image: −1 is left out."""
        drawn = [self._draw(labels) for labels in matched_idxs]
        return [positive for positive, _ in drawn], [negative for _, negative in drawn]

    def _draw(self, labels: Tensor) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(SEED)
        positive, negative = torch.where(labels >= 1)[0], torch.where(labels == 0)[0]
        most = min(len(positive), int(self.batch_size_per_image * self.positive_fraction))
        chosen = _some(positive, most, generator)
        others = _some(negative, min(len(negative), self.batch_size_per_image - most), generator)
        return _mask(labels, chosen), _mask(labels, others)


def training_view(part: Any) -> Any:
    """An RPN or RoI heads as in training: training's numbers of proposals, and draws of a `FreshSampler`.

    It shares weights and layers with `part`, whose own attributes (and the mode of every layer) stay as they are.
    """
    view = copy.copy(part)
    view.training = True
    sampler = part.fg_bg_sampler
    view.fg_bg_sampler = FreshSampler(sampler.batch_size_per_image, sampler.positive_fraction)
    return view


def _some(places: Tensor, count: int, generator: torch.Generator) -> Tensor:
    return places[torch.randperm(len(places), generator=generator)[:count].to(places.device)]


def _mask(labels: Tensor, chosen: Tensor) -> Tensor:
    mask = torch.zeros_like(labels, dtype=torch.uint8)
    mask[chosen] = 1
    return mask
