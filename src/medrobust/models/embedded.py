"""The models of the embedded default: trained on first use, then kept in the cache folder."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import replace

import safetensors.torch
import torch
from rich.console import Console
from rich.progress import track
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from medrobust.data.dataset import pad_boxes
from medrobust.data.embedded import (
    HIGHEST_MM,
    LEVELS,
    LOWEST_MM,
    SLICE_SIZE,
    TISSUES,
    EmbeddedDataset,
    EmbeddedName,
    cache_folder,
    open_embedded,
    write_to_cache,
)
from medrobust.data.embedded_boxes import STRUCTURES
from medrobust.errors import InputError, unknown
from medrobust.models.embedded_detection import detection_loss
from medrobust.models.embedded_training import Loss, Recipe, cross_entropy, train
from medrobust.models.networks import LevelNet, UNet, slice_detector
from medrobust.models.randomness import seeded
from medrobust.models.requirements import NetworkKind, Requirements
from medrobust.models.weights import load_weights

# Part of the cache's fingerprint: to be raised when training changes in another way than by its recipe.
TRAINING_VERSION = "1"
# The classifier learns how much of a bell around a slice, of this standard deviation, lies in each level:
# from bare classes it could not tell where the borders are that fall between its training blocks.
LEVEL_BLUR_MM = 10.0

_RECIPES: dict[EmbeddedName, Recipe] = {
    # grey and white matter differ by 0.2 in brightness: more than a little change would blur the truth
    "tissue": Recipe(steps=200, batch_size=4, learning_rate=1e-2, gain=0.05, offset=0.02, noise=0.02),
    "level": Recipe(steps=300, batch_size=16, learning_rate=5e-3, rotation=15.0, shift=0.1, noise=0.05),
    "structures": Recipe(steps=400, batch_size=16, learning_rate=5e-3, scale=0.15, shift=0.1, bend=0.3),
}
_NETWORKS: dict[EmbeddedName, Callable[[], nn.Module]] = {
    "tissue": lambda: UNet(channels=1, outputs=len(TISSUES)),
    "level": lambda: LevelNet(channels=1, outputs=len(LEVELS)),
    "structures": lambda: slice_detector(SLICE_SIZE, outputs=len(STRUCTURES)),
}
_LOSSES: dict[EmbeddedName, Loss] = {"tissue": cross_entropy, "level": cross_entropy, "structures": detection_loss}
_PURPOSES: dict[EmbeddedName, tuple[NetworkKind, int]] = {
    "tissue": ("segmentation", len(TISSUES)),
    "level": ("classification", len(LEVELS)),
    "structures": ("detection", len(STRUCTURES)),
}


def load_embedded_model(name: EmbeddedName, seed: int | None = None) -> nn.Module:
    """The trained network for `open_embedded(name)`, in eval mode on the CPU.

    "tissue" gives logits `(B, 3, H, W)`, "level" logits `(B, 5)`, both for images `(B, 1, H, W)` in [0, 1];
    "structures" is a torchvision SSD, which takes a list of `(1, H, W)` and gives boxes, scores and labels from 1.
    It is trained, with a progress bar on stderr, when the cache folder does not hold its weights. The global
    random number generator is left alone.

    Args:
        name: "tissue", "level" or "structures".
        seed: of its first weights and of the training's random changes; None for the one that `embedded:` models
            have. Another seed gives another network for the same job, e.g. to attack one and ask the other.

    Raises:
        InputError: the name is unknown, or the cache folder cannot be written.
    """
    recipe = _recipe(name, seed)
    network = _untrained(name, recipe)
    data = open_embedded(name, split="train")
    fingerprint = _fingerprint(recipe, data)
    file_name = f"embedded-{name}{'' if recipe == _RECIPES[name] else f'-seed{recipe.seed}'}.safetensors"
    if not _load_kept(file_name, network, fingerprint):
        images, targets = _training_tensors(name, data)
        train(network, images, targets, recipe, _LOSSES[name], _progress(name))
        write_to_cache(file_name, safetensors.torch.save(network.state_dict(), {"fingerprint": fingerprint}))
    return network.eval()


def embedded_model(name: str, wanted: Requirements, *, trained: bool = True) -> nn.Module:
    """The network for `wanted`, or an error when it is for something else.

    Args:
        name: "tissue", "level" or "structures".
        wanted: what the data and the task ask for.
        trained: False when weights of the user's follow.
    """
    if name not in _NETWORKS:
        raise unknown("embedded model", name, _NETWORKS)
    kind, outputs = _PURPOSES[name]
    asked = (wanted.outputs, wanted.channels, wanted.spatial_dims, wanted.kind, wanted.task == "multilabel")
    if asked != (outputs, 1, 2, kind, False):
        raise InputError(
            f"embedded:{name} is for {kind}, 2-D, 1 channel, "
            f"{outputs} outputs; asked for are {wanted.task}, {wanted.spatial_dims}-D, "
            f"{wanted.channels} channels, {wanted.outputs} outputs: choose another model"
        )
    return load_embedded_model(name) if trained else _untrained(name, _RECIPES[name])


def _recipe(name: EmbeddedName, seed: int | None) -> Recipe:
    if name not in _RECIPES:
        raise unknown("embedded model", name, _RECIPES)
    return _RECIPES[name] if seed is None else replace(_RECIPES[name], seed=seed)


def _untrained(name: EmbeddedName, recipe: Recipe) -> nn.Module:
    with seeded(recipe.seed):
        return _NETWORKS[name]()


def _fingerprint(recipe: Recipe, data: EmbeddedDataset) -> str:
    """Of everything that decides the weights, but for the rounding of this machine."""
    parts = (TRAINING_VERSION, recipe, LEVEL_BLUR_MM, data.fingerprint())
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def _load_kept(file_name: str, network: nn.Module, fingerprint: str) -> bool:
    """Fill the network from the cache; False when it holds nothing, something else or a damaged file."""
    path = cache_folder() / file_name
    try:
        with safe_open(path, framework="pt") as file:
            if (file.metadata() or {}).get("fingerprint") != fingerprint:
                return False
        load_weights(network, path)
    except (OSError, SafetensorError, InputError):
        return False
    return True


def _training_tensors(name: EmbeddedName, data: EmbeddedDataset) -> tuple[Tensor, Tensor]:
    """Images `(N, 1, H, W)`, and class maps `(N, H, W)`, the share of each level `(N, 5)` or boxes `(N, n, 5)`."""
    samples = [data[index] for index in range(len(data))]
    images = torch.stack([sample.image for sample in samples])
    if name == "level":
        return images, blurred_levels(torch.as_tensor(data.heights))
    truths = [sample.truth for sample in samples]
    return images, pad_boxes(truths) if name == "structures" else torch.stack(truths)


def blurred_levels(heights: Tensor) -> Tensor:
    """Share of each level in a bell of width `LEVEL_BLUR_MM` around heights in mm: `(N,)` → `(N, 5)`."""
    borders = LOWEST_MM + torch.arange(1, len(LEVELS)) * (HIGHEST_MM - LOWEST_MM + 1) / len(LEVELS)
    below = torch.special.ndtr((borders - heights.unsqueeze(1)) / LEVEL_BLUR_MM)  # (N, 4)
    bounded = torch.cat([torch.zeros(len(heights), 1), below, torch.ones(len(heights), 1)], 1)
    return bounded.diff(dim=1)


def _progress(name: EmbeddedName) -> Callable[[range], Iterator[int]]:
    description = f"Training the embedded {name} model (first use only)"
    return lambda steps: iter(track(steps, description=description, console=Console(stderr=True)))
