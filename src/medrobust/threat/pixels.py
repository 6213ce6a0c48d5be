"""The threat to the image's own values, base of all: how much may change, in which norm, where, on which grid."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor

from medrobust.checks import not_negative, one_of, positive
from medrobust.errors import InputError
from medrobust.region import Region
from medrobust.threat.balls import L2Ball, LInfBall
from medrobust.threat.l1 import L1Ball
from medrobust.threat.quantisation import Origin, check_on_grid, rounded_to_clean
from medrobust.threat.space import Bounds, Space

Norm = Literal["linf", "l2", "l1"]
_BALLS: dict[str, Callable[[Tensor, Bounds, Tensor, Tensor | None], Space]] = {
    "linf": LInfBall,
    "l2": L2Ball,
    "l1": L1Ball,
}


@dataclass(frozen=True, eq=False)
class Threat:
    """The set of images an attacker may hand in, around each clean image.

    Args:
        eps: radius of the ball in data units (Hounsfield units when the images are in HU), finite and ≥ 0; or a
            tensor `(B,)`, one radius an image.
        norm: "linf" bounds every value's change, "l2" the Euclidean length of an image's whole change, "l1" the sum
            of its sizes. Of a family (`Contrast` and the others) its name, not to be chosen.
        mask: where the change may be: a tensor that broadcasts to the images `(B, C, *spatial)`; zero keeps a
            value as it is.
        quantum: step of the grid on which the result must lie to survive being saved: 1/255 for 8-bit images, 1 for
            integer HU. Clean images must lie on it.
        origin: where the grid is counted from: "bound", the lower bound, or "clean", each image's own values, whole
            steps apart (those of a file whose intercept is no whole number of steps from the bound).
        region: where the change may be by each image's own truth: inside an organ, outside a lesion. An attack looks
            it up by `for_truth`. With a mask too, both must allow a change.

    All tensors are `(B, C, *spatial)`; bounds come from the victim.

    Attributes:
        pixels: whether an attack's variables are the image's own values.
        unit: the unit of eps; None is that of the data.
        moves_truth: whether true masks move along with the image.
        ripple: the period, in the unit of eps, with which the loss rises and falls along a variable; None is of none.

    Raises:
        InputError: an argument has no such value.
    """

    eps: float | Tensor
    norm: str = "linf"
    mask: Tensor | None = None
    quantum: float | None = None
    origin: Origin = "bound"
    region: Region | None = None

    pixels: ClassVar[bool] = True
    unit: ClassVar[str | None] = None
    moves_truth: ClassVar[bool] = False
    ripple: ClassVar[float | None] = None

    def __post_init__(self) -> None:
        self._check_options()
        one_of("norm", self.norm, get_args(Norm))

    def for_truth(self, truth: Tensor, images: Tensor, classes: int | None = None) -> Threat:
        """The threat of these images `(B, C, *spatial)`, its region made part of its mask.

        Args:
            truth: their true answer (not a target); see `Region.mask`.
            images: the clean images.
            classes: how many the task has, to tell a region of another class.

        Raises:
            InputError: there is a region, and the truth has neither masks nor boxes, or not its classes.
        """
        threat = self.over(images.ndim)
        if self.region is None:
            return threat
        free = self.region.mask(truth, images, classes)
        if threat.mask is not None:
            free = free & (threat.mask.to(images.device) != 0)
        return replace(self, mask=free, region=None)

    def over(self, axes: int) -> Threat:
        """The threat of images of so many axes, batch and channels among them: its mask is given all of them.

        `rows` can then tell a mask that is per image, and not take the channels of volumes for images.
        """
        if self.mask is None or self.mask.ndim >= axes:
            return self
        return replace(self, mask=self.mask.reshape(*[1] * (axes - self.mask.ndim), *self.mask.shape))

    def space(self, clean: Tensor, bounds: Bounds) -> Space:
        """What may be chosen around the clean images.

        Raises:
            InputError: the region is not looked up yet.
        """
        return _BALLS[self.norm](clean, bounds, self._radius(clean), self._free(clean))

    def finish(self, clean: Tensor, adversarial: Tensor, bounds: Bounds) -> Tensor:
        """The image as it can be saved: on the grid of `quantum`, still allowed."""
        if self.quantum is None:
            return adversarial
        return rounded_to_clean(clean, adversarial, bounds, self.quantum, self.origin)

    def check(self, images: Tensor, bounds: Bounds) -> None:
        """Raise `InputError` when eps or mask do not fit the images, or they are not on the quantum's grid."""
        self._check_count(len(images))
        if self.mask is not None:
            try:
                self.mask.expand(images.shape)
            except RuntimeError as error:
                shapes = f"{tuple(self.mask.shape)} does not broadcast to the images' {tuple(images.shape)}"
                raise InputError(f"mask of shape {shapes}") from error
        if self.quantum is not None:
            check_on_grid(images, bounds, self.quantum, self.origin)

    def rows(self, index: Tensor, count: int) -> Threat:
        """The threat of some images of a batch, what it holds per image taken along.

        Args:
            index: their places, int64 `(n,)`.
            count: images of the whole batch. A mask of four axes or more is per image when its first is as long: one
                `(C, D, H, W)` of volumes must be given all its axes by `over` before.

        Raises:
            InputError: eps is not for as many images.
        """
        self._check_count(count)
        eps, mask = self.eps, self.mask
        if isinstance(eps, Tensor):
            eps = eps[index.to(eps.device)]
        if mask is not None and mask.ndim >= 4 and len(mask) == count > 1:
            mask = mask[index.to(mask.device)]
        return replace(self, eps=eps, mask=mask)

    def budget(self) -> float:
        """The radius as one number, for records.

        Raises:
            InputError: every image has its own.
        """
        if isinstance(self.eps, Tensor):
            raise InputError("a table of results needs one eps for all images, not one an image: give a number")
        return float(self.eps)

    def describe(self, unit: str) -> dict[str, object]:
        """For records and reports; `unit` is that of the data."""
        own = {field.name: getattr(self, field.name) for field in fields(self)[len(fields(Threat)) :]}
        return {
            "norm": self.norm,
            "eps": self.budget(),
            "unit": self.unit or unit,
            "masked": self.mask is not None,
            "quantum": self.quantum,
            "region": None if self.region is None else self.region.describe(),
            **own,
        }

    def _check_options(self) -> None:
        """Raise `InputError` unless what every threat has is valid."""
        if isinstance(self.eps, Tensor):
            if self.eps.ndim != 1 or self.eps.dtype == torch.bool or self.eps.is_complex():
                raise InputError(
                    f"eps must be a finite number or (B,), one an image, got shape {tuple(self.eps.shape)}"
                )
            least, valid = self.eps[self.eps > 0], torch.isfinite(self.eps) & (self.eps >= 0)
            if not bool(valid.all()):
                raise InputError("every eps must be a finite number, at least 0")
            smallest = float(least.min()) if len(least) else 0.0
        else:
            not_negative("eps", self.eps)
            smallest = self.eps
        one_of("origin", self.origin, get_args(Origin))
        if self.mask is not None and not isinstance(self.mask, Tensor):
            raise InputError(f"mask must be a tensor, got {type(self.mask).__name__}")
        if self.quantum is not None:
            positive("quantum", self.quantum)
            if self.pixels and 0 < smallest < self.quantum * (1 - 1e-6):
                raise InputError(
                    f"eps {smallest:g} is smaller than one step {self.quantum:g} of the grid: nothing can change"
                )

    def _check_count(self, count: int) -> None:
        if isinstance(self.eps, Tensor) and len(self.eps) != count:
            raise InputError(f"eps has {len(self.eps)} radii for {count} images: give one an image")

    def _radius(self, images: Tensor) -> Tensor:
        """`(B,)`, in the images' dtype."""
        if isinstance(self.eps, Tensor):
            return self.eps.detach().to(images)
        return images.new_full((len(images),), self.eps)

    def _free(self, images: Tensor) -> Tensor | None:
        """Where each image may change, bool `(B, C, *spatial)`; None is everywhere."""
        if self.region is not None:
            raise InputError("where a region allows a change depends on the truth: call threat.for_truth first")
        return None if self.mask is None else (self.mask.to(images.device) != 0).expand_as(images)
