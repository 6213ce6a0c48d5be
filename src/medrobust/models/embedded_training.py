"""How the embedded default's two networks are trained: once, on first use, in well under a minute."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Recipe:
    """How long and how hard one network is trained; part of its cache's fingerprint."""

    steps: int
    batch_size: int
    learning_rate: float
    weight_decay: float = 1e-3
    rotation: float = 10.0  # degrees, either way
    scale: float = 0.1  # relative, either way
    shift: float = 0.06  # of the image's half size, either way
    gain: float = 0.1  # relative, either way
    offset: float = 0.05  # either way, in the images' [0, 1]
    noise: float = 0.03  # largest standard deviation
    seed: int = 0


def train(
    network: nn.Module,
    images: Tensor,
    targets: Tensor,
    recipe: Recipe,
    track: Callable[[range], Iterator[int]] = iter,
) -> None:
    """Train `network` in place, with AdamW and cross-entropy, on randomly changed images.

    All randomness is the recipe's: the global generator is neither read nor moved.

    Args:
        network: left in train mode.
        images: `(N, C, H, W)` float32 in [0, 1].
        targets: class maps `(N, H, W)` int64, or the probability of each class `(N, K)` float32.
        recipe: how long, how hard, and how the images are changed.
        track: wraps the range of steps, to show how far it is.
    """
    generator = torch.Generator().manual_seed(recipe.seed)
    optimizer = torch.optim.AdamW(network.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    network.train()
    for step in track(range(recipe.steps)):
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate * _warm_up_and_cosine(step / recipe.steps)
        chosen = torch.randint(len(images), (recipe.batch_size,), generator=generator)
        image, target = augment(images[chosen], targets[chosen], recipe, generator)
        with torch.enable_grad():
            loss = F.cross_entropy(network(image), target)
        torch.autograd.backward(loss)
        optimizer.step()
        optimizer.zero_grad()


def augment(images: Tensor, targets: Tensor, recipe: Recipe, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Turn, scale, shift, brighten and roughen each image by its own random amount.

    Args:
        images: `(B, C, H, W)` in [0, 1].
        targets: `(B, H, W)` class maps, moved with their images, or `(B, K)` probabilities, left as they are.
        recipe: how much of each.
        generator: where the amounts come from.

    Returns:
        Images in [0, 1] and targets, of the same shapes.
    """
    count, _, height, width = images.shape

    def amount(most: float, *shape: int) -> Tensor:
        return (2 * torch.rand(count, *shape, generator=generator) - 1) * most

    angle, size = amount(math.radians(recipe.rotation)), 1 + amount(recipe.scale)
    # grid coordinates run from −1 to 1 along either side, so turning an oblong image needs its proportions
    across = torch.stack([angle.cos(), -angle.sin() * height / width], 1)
    along = torch.stack([angle.sin() * width / height, angle.cos()], 1)
    turned = torch.stack([across, along], 1) * size.view(-1, 1, 1)
    matrix = torch.cat([turned, amount(recipe.shift, 2, 1)], 2)
    grid = F.affine_grid(matrix, list(images.shape), align_corners=False)
    images = F.grid_sample(images, grid, align_corners=False)
    if targets.ndim == 3:
        moved = F.grid_sample(targets.unsqueeze(1).float(), grid, mode="nearest", align_corners=False)
        targets = moved.squeeze(1).long()
    images = images * (1 + amount(recipe.gain, 1, 1, 1)) + amount(recipe.offset, 1, 1, 1)
    deviation = amount(recipe.noise, 1, 1, 1).abs()
    images = images + deviation * torch.randn(images.shape, generator=generator)
    return images.clamp(0, 1), targets


def _warm_up_and_cosine(done: float) -> float:
    """Share of the learning rate when a share `done` of the steps is over."""
    return min(done / 0.1 + 0.01, 0.5 * (1 + math.cos(math.pi * done)))
