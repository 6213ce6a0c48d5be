"""What training the embedded detector needs beside the other networks: its loss, and images that bend with boxes."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medrobust.data.dataset import NO_BOX

# Of an image without objects, how many anchors of the most mistaken ones count.
HARDEST = 10


def detection_loss(network: nn.Module, images: Tensor, boxes: Tensor) -> Tensor:
    """The loss of a torchvision SSD for images `(B, C, H, W)` and boxes `(B, n, 5)` (see `pad_boxes`).

    To SSD's own (Liu et al., arXiv 1512.02325, equation 1), which images without objects take no part in, since each
    object brings its share of background, is added for these the background's cross-entropy at their `HARDEST` anchors.
    """
    seen: list[Tensor] = []
    head: Any = network.head
    hook = head.register_forward_hook(lambda _head, _features, outputs: seen.append(outputs["cls_logits"]))
    try:
        losses = network(list(images), [_target(rows) for rows in boxes])
    finally:
        hook.remove()
    empty = (boxes[:, :, 4] == NO_BOX).all(1)
    mistaken = -seen[0][empty].log_softmax(2)[:, :, 0]  # (empty images, anchors)
    background = mistaken.topk(min(HARDEST, mistaken.shape[1]), 1).values.sum() / len(images)
    total: Tensor = losses["classification"] + losses["bbox_regression"] + background
    return total


def bend(images: Tensor, boxes: Tensor, across: Tensor, along: Tensor) -> tuple[Tensor, Tensor]:
    """Move the columns and rows of images: boxes keep to their objects exactly, unlike when turned.

    Args:
        images: `(B, C, H, W)`.
        boxes: `(B, n, 5)`, see `pad_boxes`; what is moved out of the image is cut off.
        across: for each column the place it is taken from `(B, W)`, rising, −1 and 1 being the image's edges.
        along: for each row `(B, H)`, likewise.
    """
    count, _, height, width = images.shape
    columns, rows = across.unsqueeze(1).expand(-1, height, -1), along.unsqueeze(2).expand(-1, -1, width)
    grid = torch.stack([columns, rows], 3)
    moved = F.grid_sample(images, grid, align_corners=False)
    sides = _places(across, boxes[:, :, [0, 2]].reshape(count, -1)).reshape(count, -1, 2)
    ends = _places(along, boxes[:, :, [1, 3]].reshape(count, -1)).reshape(count, -1, 2)
    x1, x2, y1, y2 = *sides.clamp(0, width).unbind(2), *ends.clamp(0, height).unbind(2)
    seen = (x2 - x1 >= 1) & (y2 - y1 >= 1)
    labels = boxes[:, :, 4].masked_fill(~seen, NO_BOX)
    return moved, torch.stack([x1, y1, x2, y2, labels], 2)


def random_curve(count: int, length: int, curve: tuple[float, float, float], generator: torch.Generator) -> Tensor:
    """Places for `bend` `(count, length)`: scaled, shifted, and bent by a sine of random phase.

    Args:
        count: number of images.
        length: number of rows or columns.
        curve: greatest scale (relative), shift (of half the length) and bend (relative, < 1), either way.
        generator: where the amounts come from.
    """

    def amount(most: float) -> Tensor:
        return (2 * torch.rand(count, 1, generator=generator) - 1) * most

    scale, shift, most = curve
    places = ((2 * torch.arange(length) + 1) / length - 1).expand(count, length)
    phase, strength = amount(1.0), amount(most)
    wave = torch.sin(torch.pi * (places + phase)) - torch.sin(torch.pi * phase)
    return (1 + amount(scale)) * (places + strength * wave / torch.pi) + amount(shift)


def _places(curve: Tensor, edges: Tensor) -> Tensor:
    """Where a curve `(B, length)` puts edges `(B, m)` in pixels: its inverse, linear between the pixels' centres."""
    length = curve.shape[1]
    wanted = (2 * edges / length - 1).contiguous()
    right = torch.searchsorted(curve.contiguous(), wanted).clamp(1, length - 1)
    low, high = curve.gather(1, right - 1), curve.gather(1, right)
    return right - 0.5 + (wanted - low) / (high - low)


def _target(rows: Tensor) -> dict[str, Tensor]:
    """Torchvision's target of one image: labels from 1, as 0 is the background."""
    rows = rows[rows[:, 4] != NO_BOX]
    return {"boxes": rows[:, :4], "labels": rows[:, 4].long() + 1}
