"""Sizes of changes, and starts at a distance, in the three norms."""

from __future__ import annotations

import torch
from torch import Tensor

POWER = {"linf": float("inf"), "l2": 2.0, "l1": 1.0}


def sizes(images: Tensor, changed: Tensor, norm: str) -> Tensor:
    """(B,): the norm of each image's change."""
    return (changed - images).flatten(1).norm(p=POWER[norm], dim=1)


def start_at(images: Tensor, eps: float, norm: str = "linf", seed: int = 3) -> Tensor:
    """Uniform noise of exactly the size eps on images in [0, 1], of the sign that leads away from the nearer bound.

    So no library clips it, and all of them start from the very same point.
    """
    noise = torch.rand(images.shape, generator=torch.Generator().manual_seed(seed))
    noise = torch.where(images < 0.5, noise, -noise)
    length = noise.flatten(1).norm(p=POWER[norm], dim=1)
    return images + noise * eps / length.view(-1, *[1] * (images.ndim - 1))
