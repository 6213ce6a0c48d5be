"""The two small networks of the embedded default."""

from __future__ import annotations

from itertools import pairwise
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class UNet(nn.Module):
    """A U-Net (Ronneberger et al., arXiv 1505.04597) of three scales with BatchNorm.

    Takes `(B, channels, H, W)` of any size from 4 × 4 on and gives logits `(B, outputs, H, W)`.
    """

    def __init__(self, channels: int = 1, outputs: int = 3, width: int = 16) -> None:
        super().__init__()
        self.fine = nn.Sequential(_convolution(channels, width), _convolution(width, width))
        self.middle = nn.Sequential(_convolution(width, 2 * width), _convolution(2 * width, 2 * width))
        self.coarse = nn.Sequential(_convolution(2 * width, 4 * width), _convolution(4 * width, 4 * width))
        # narrowed before they are upsampled: on a CPU, wide layers at full resolution are what costs
        self.to_middle = nn.Conv2d(4 * width, 2 * width, 1)
        self.to_fine = nn.Conv2d(2 * width, width, 1)
        self.middle_up = _convolution(4 * width, 2 * width)
        self.fine_up = _convolution(2 * width, width)
        self.head = nn.Conv2d(width, outputs, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Logits `(B, outputs, H, W)` of images `(B, channels, H, W)`."""
        fine = self.fine(images)
        middle = self.middle(F.max_pool2d(fine, 2))
        coarse = self.coarse(F.max_pool2d(middle, 2))
        middle = self.middle_up(_join(self.to_middle(coarse), middle))
        return cast("Tensor", self.head(self.fine_up(_join(self.to_fine(middle), fine))))


class LevelNet(nn.Sequential):
    """A plain convolutional classifier: `(B, channels, H, W)` of any size → logits `(B, outputs)`."""

    def __init__(self, channels: int = 1, outputs: int = 5, width: int = 16) -> None:
        widths = [channels, width, 2 * width, 3 * width, 4 * width, 4 * width]
        stages = [_convolution(a, b, stride=2) for a, b in pairwise(widths)]
        super().__init__(*stages, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1], outputs))


def _join(coarse: Tensor, fine: Tensor) -> Tensor:
    upsampled = F.interpolate(coarse, size=fine.shape[-2:], mode="bilinear", align_corners=False)
    return torch.cat([upsampled, fine], 1)


def _convolution(channels: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, outputs, 3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )
