"""What a change of images promises, whether it comes after an attack, before a model, or inside an attack's average."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from medrobust.errors import InputError
from medrobust.threat import Bounds
from medrobust.victim import HALF


class Transform(ABC):
    """A change of images that a preprocessing step or a defence makes.

    An image's result depends on itself and its own generator alone.
    """

    @property
    def random(self) -> bool:
        """Does it draw? Then it needs a generator for each image."""
        return False

    def describe(self) -> list[dict[str, object]]:
        """What is done, one after the other: name ("transform") and options, for records and reports."""
        options = getattr(self, "__dataclass_fields__", {})
        return [{"transform": type(self).__name__, **{name: getattr(self, name) for name in options}}]

    @abstractmethod
    def __call__(self, images: Tensor, bounds: Bounds, generators: Sequence[torch.Generator] | None = None) -> Tensor:
        """The changed images, differentiable in the images, of their shape and dtype, within the bounds.

        Args:
            images: `(B, C, *spatial)` floating point, in data units, within the bounds; 2 or 3 spatial axes.
            bounds: lowest and highest value of an image in data units.
            generators: on the CPU, one an image (`threat.sample_generators`); each call draws on from them. Those
                that draw nothing leave them alone.

        Raises:
            InputError: it is random, and there is not one generator for each image.
        """


@dataclass(frozen=True)
class Chain(Transform):
    """One transform after the other; none at all leaves the images as they are.

    Args:
        transforms: in the order in which they are applied.

    Raises:
        InputError: one of them is no transform.
    """

    transforms: Sequence[Transform] = ()

    def __post_init__(self) -> None:
        for transform in self.transforms:
            if not isinstance(transform, Transform):
                raise InputError(f"a chain is made of transforms, got {transform!r}")
        object.__setattr__(self, "transforms", tuple(self.transforms))

    def describe(self) -> list[dict[str, object]]:
        """All of them."""
        return [told for transform in self.transforms for told in transform.describe()]

    @property
    def random(self) -> bool:
        """Is one of them?"""
        return any(transform.random for transform in self.transforms)

    def __call__(self, images: Tensor, bounds: Bounds, generators: Sequence[torch.Generator] | None = None) -> Tensor:
        """See `Transform`; all draw from the same generators, in their order."""
        for transform in self.transforms:
            images = transform(images, bounds, generators)
        return images


def straight_through(images: Tensor, changed: Tensor) -> Tensor:
    """Exactly the values of `changed`, with the gradient of `images` as if nothing had been done to them.

    Backward pass differentiable approximation by the identity: Athalye, Carlini, Wagner, arXiv 1802.00420, section 4.1.
    """
    # the difference is zero: images + (changed - images) would be rounded
    return changed.detach() + (images - images.detach())


def inside(images: Tensor, bounds: Bounds) -> Tensor:
    """Cut to the bounds, straight through: for weighted means, which leave the bounds by rounding alone.

    The gradient of `clamp` would be lost wherever a flat background at a bound is rounded to beyond it.
    """
    return straight_through(images, images.clamp(*bounds))


def in_full(images: Tensor) -> Tensor:
    """In float32 at least: half precision is too coarse to compute in, and lacks operations."""
    return images.float() if images.dtype in HALF else images


def one_each(
    generators: Sequence[torch.Generator] | None, images: Tensor, transform: Transform
) -> Sequence[torch.Generator]:
    """The generators, if there is one for each image.

    Raises:
        InputError: there are none, or another number.
    """
    name = type(transform).__name__
    if generators is None:
        raise InputError(f"{name} is random: it needs generators, one an image (medrobust.threat.sample_generators)")
    if len(generators) != len(images):
        raise InputError(f"{name} needs one generator an image, got {len(generators)} for {len(images)} images")
    return generators
