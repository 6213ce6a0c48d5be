"""How the networks for the embedded brain slices are trained: once, on first use, in about a minute at most."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medrobust.models.embedded_detection import bend, random_curve
from medrobust.models.randomness import seeded


@dataclass(frozen=True)
class Recipe:
    """How long and how hard one network is trained; part of its cache's fingerprint."""

    steps: int
    batch_size: int
    learning_rate: float
    weight_decay: float = 1e-3
    rotation: float = 10.0  # degrees, either way; boxes' images are bent instead: turned boxes would no longer fit
    scale: float = 0.1  # relative, either way
    shift: float = 0.06  # of the image's half size, either way
    gain: float = 0.1  # relative, either way
    offset: float = 0.05  # either way, in the images' [0, 1]
    noise: float = 0.03  # largest standard deviation
    bend: float = 0.0  # boxes alone: how much more one part of an image is stretched than another
    seed: int = 0


Loss = Callable[[nn.Module, Tensor, Tensor], Tensor]
"""`(network, images, targets)` → the mean loss of a batch."""


def cross_entropy(network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    """Of images `(B, C, H, W)` with class maps `(B, H, W)` int64, or the probability of each class `(B, K)`."""
    return F.cross_entropy(network(images), targets)


def train(
    network: nn.Module,
    images: Tensor,
    targets: Tensor,
    recipe: Recipe,
    loss: Loss = cross_entropy,
    track: Callable[[range], Iterator[int]] = iter,
) -> None:
    """Train `network` in place, with AdamW, on randomly changed images.

    All randomness is the recipe's: the global generator is neither read nor moved.

    Args:
        network: left in train mode.
        images: `(N, C, H, W)` float32 in [0, 1].
        targets: class maps `(N, H, W)` int64, the probability of each class `(N, K)` float32, or boxes `(N, n, 5)`
            float32, see `pad_boxes`.
        recipe: how long, how hard, and how the images are changed.
        loss: of a batch, for these targets: `cross_entropy` or `detection_loss`.
        track: wraps the range of steps, to show how far it is.
    """
    generator = torch.Generator().manual_seed(recipe.seed)
    optimizer = torch.optim.AdamW(network.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    network.train()
    with seeded(recipe.seed):  # torchvision's detectors draw from the global generator in train mode
        for step in track(range(recipe.steps)):
            for group in optimizer.param_groups:
                group["lr"] = recipe.learning_rate * warm_up_and_cosine(step / recipe.steps)
            chosen = torch.randint(len(images), (recipe.batch_size,), generator=generator)
            image, target = augment(images[chosen], targets[chosen], recipe, generator)
            with torch.enable_grad():
                value = loss(network, image, target)
            torch.autograd.backward(value)
            optimizer.step()
            optimizer.zero_grad()


def augment(images: Tensor, targets: Tensor, recipe: Recipe, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Turn (with boxes: bend), scale, shift, brighten and roughen each image by its own random amount.

    Args:
        images: `(B, C, H, W)` in [0, 1].
        targets: `(B, H, W)` class maps or `(B, n, 5)` boxes, moved with their images, or `(B, K)` probabilities, left
            as they are.
        recipe: how much of each.
        generator: where the amounts come from.

    Returns:
        Images in [0, 1] and targets, of the same shapes.
    """

    def amount(most: float) -> Tensor:
        return (2 * torch.rand(len(images), 1, 1, 1, generator=generator) - 1) * most

    if targets.ndim == 3 and targets.is_floating_point():
        curve = (recipe.scale, recipe.shift, recipe.bend)
        across, along = (random_curve(len(images), side, curve, generator) for side in images.shape[:1:-1])
        images, targets = bend(images, targets, across, along)
    else:
        images, targets = _turned(images, targets, recipe, generator)
    images = images * (1 + amount(recipe.gain)) + amount(recipe.offset)
    images = images + amount(recipe.noise).abs() * torch.randn(images.shape, generator=generator)
    return images.clamp(0, 1), targets


def _turned(images: Tensor, targets: Tensor, recipe: Recipe, generator: torch.Generator) -> tuple[Tensor, Tensor]:
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
    return images, targets


def warm_up_and_cosine(done: float) -> float:
    """Share of the learning rate when a share `done` of the steps is over."""
    return min(done / 0.1 + 0.01, 0.5 * (1 + math.cos(math.pi * done)))
