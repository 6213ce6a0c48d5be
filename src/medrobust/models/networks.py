"""The small networks for the embedded brain slices."""

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


class SliceFeatures(nn.Module):
    """Features of an image at strides 8, 16 and 32, from fine to coarse: the backbone of `slice_detector`."""

    def __init__(self, channels: int = 1, width: int = 16) -> None:
        super().__init__()
        self.out_channels = [4 * width, 6 * width, 6 * width]
        stem = [_convolution(a, b, stride=2) for a, b in pairwise([channels, width, 2 * width, 4 * width])]
        self.fine = nn.Sequential(*stem, _convolution(4 * width, 4 * width))
        self.middle = nn.Sequential(_convolution(4 * width, 6 * width, stride=2), _convolution(6 * width, 6 * width))
        self.coarse = _convolution(6 * width, 6 * width, stride=2)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Three maps `(B, *, H/8, W/8)` to `(B, *, H/32, W/32)`, sides rounded up."""
        fine = self.fine(images)
        middle = self.middle(fine)
        return {"fine": fine, "middle": middle, "coarse": self.coarse(middle)}


def slice_detector(size: tuple[int, int], outputs: int = 3, channels: int = 1, width: int = 16) -> nn.Module:
    """An SSDlite (Liu et al., arXiv 1512.02325; Sandler et al., arXiv 1801.04381) of torchvision's own parts.

    It takes a list of `(channels, H, W)` in [0, 1] and gives torchvision's detections, with labels from 1 to `outputs`.

    Args:
        size: (height, width) to which images are brought.
        outputs: number of classes, without the background.
        channels: of the images.
        width: number of channels of its first layer.
    """
    # here, because importing torchvision's models takes a second
    from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
    from torchvision.models.detection.ssd import SSD
    from torchvision.models.detection.ssdlite import SSDLiteHead

    features = SliceFeatures(channels, width)
    # of the image's side: the structures take from a seventh to three quarters
    boxes = DefaultBoxGenerator([[2]] * 3, scales=[0.15, 0.3, 0.5, 0.7])
    head = SSDLiteHead(features.out_channels, boxes.num_anchors_per_location(), outputs + 1, nn.BatchNorm2d)
    return cast(
        "nn.Module",
        SSD(
            features,
            boxes,
            size[::-1],
            outputs + 1,
            image_mean=[0.25] * channels,
            image_std=[0.35] * channels,
            head=head,
            score_thresh=0.05,
            positive_fraction=0.1,
        ),
    )


def _join(coarse: Tensor, fine: Tensor) -> Tensor:
    upsampled = F.interpolate(coarse, size=fine.shape[-2:], mode="bilinear", align_corners=False)
    return torch.cat([upsampled, fine], 1)


def _convolution(channels: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, outputs, 3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )
