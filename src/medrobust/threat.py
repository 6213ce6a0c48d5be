"""What the attacker may change: how much, in which norm, where, and on which grid of values."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol, get_args

import torch
from torch import Tensor

from medrobust.checks import not_negative, one_of, positive
from medrobust.errors import InputError
from medrobust.region import Region

Norm = Literal["linf", "l2"]
Origin = Literal["bound", "clean"]
Bounds = tuple[float, float]
# guards a division by a norm: far below any gradient that float32 can step along
TINY = 1e-30


@dataclass(frozen=True, eq=False)
class Threat:
    """The set of images an attacker may hand in, around each clean image.

    Args:
        eps: radius of the ball in data units (Hounsfield units when the images are in HU), finite and ≥ 0.
        norm: "linf" bounds every value's change, "l2" the Euclidean length of an image's whole change.
        mask: where the change may be: a tensor that broadcasts to the images `(B, C, *spatial)`; zero keeps a
            value as it is.
        quantum: step of the grid on which the result must lie to survive being saved: 1/255 for 8-bit images, 1 for
            integer HU. Clean images must lie on it.
        origin: where the grid is counted from: "bound", the lower bound, or "clean", each image's own values, whole
            steps apart (those of a file whose intercept is no whole number of steps from the bound).
        region: where the change may be by each image's own truth: inside an organ, outside a lesion. An attack looks
            it up by `for_truth`. With a mask too, both must allow a change.

    All tensors are `(B, C, *spatial)`; bounds come from the victim.

    Raises:
        InputError: eps, norm or quantum is not valid.
    """

    eps: float
    norm: Norm = "linf"
    mask: Tensor | None = None
    quantum: float | None = None
    origin: Origin = "bound"
    region: Region | None = None

    def __post_init__(self) -> None:
        not_negative("eps", self.eps)
        one_of("origin", self.origin, get_args(Origin))
        if self.norm not in get_args(Norm):
            raise InputError(f"norm must be one of {', '.join(get_args(Norm))}, got {self.norm!r}")
        if self.quantum is not None:
            positive("quantum", self.quantum)
            if 0 < self.eps < self.quantum * (1 - 1e-6):
                raise InputError(
                    f"eps {self.eps:g} is smaller than one step {self.quantum:g} of the grid: nothing can change"
                )

    def for_truth(self, truth: Tensor, images: Tensor, classes: int | None = None) -> Threat:
        """The threat of these images `(B, C, *spatial)`, its region made part of its mask.

        Args:
            truth: their true answer (not a target); see `Region.mask`.
            images: the clean images.
            classes: how many the task has, to tell a region of another class.

        Raises:
            InputError: there is a region, and the truth has neither masks nor boxes, or not its classes.
        """
        if self.region is None:
            return self
        free = self.region.mask(truth, images, classes)
        if self.mask is not None:
            free = free & (self.mask.to(images.device) != 0)
        return replace(self, mask=free, region=None)

    pixels = True

    def rows(self, index: Tensor, count: int) -> Threat:
        return (
            self
            if self.mask is None or len(self.mask) != count or self.mask.ndim < 4
            else replace(self, mask=self.mask[index])
        )

    def space(self, clean: Tensor, bounds: Bounds):
        return _Shim(self, clean, bounds)

    def around(self, clean: Tensor, bounds: Bounds) -> Ball:
        """The allowed images around the clean ones, ready to project on at every step.

        Raises:
            InputError: the region is not looked up yet.
        """
        if self.region is not None:
            raise InputError("where a region allows a change depends on the truth: call threat.for_truth first")
        if self.norm == "linf":
            low, high = (clean - self.eps).clamp_min(bounds[0]), (clean + self.eps).clamp_max(bounds[1])
            if self.mask is not None:
                free = self._mask_like(clean)
                low, high = torch.where(free, low, clean), torch.where(free, high, clean)
            return _Box(low, high)
        return _Sphere(clean, self.eps, None if self.mask is None else self._mask_like(clean), bounds)

    def project(self, clean: Tensor, moved: Tensor, bounds: Bounds) -> Tensor:
        """The allowed image nearest to `moved`: in the ball around `clean`, then inside the bounds."""
        moved = moved.clone()
        self.around(clean, bounds).project_(moved)
        return moved

    def steepest(self, gradient: Tensor) -> Tensor:
        """The direction of unit norm in which the loss rises fastest; zero where the gradient is."""
        if self.norm == "linf":
            return gradient.sign()
        # by the largest entry first: the squares of a tiny gradient would be lost
        scaled = gradient / per_image(gradient.flatten(1).abs().amax(1).clamp_min(TINY), gradient)
        return scaled / per_image(scaled.flatten(1).norm(dim=1).clamp_min(TINY), scaled)

    def allowed(self, gradient: Tensor) -> Tensor:
        """The gradient where the mask lets the image change, zero elsewhere."""
        return gradient if self.mask is None else torch.where(self._mask_like(gradient), gradient, 0)

    def random_start(self, clean: Tensor, generators: Sequence[torch.Generator], bounds: Bounds) -> Tensor:
        """A uniform draw from the ball around each clean image, cut to the bounds; one generator an image."""
        if self.norm == "linf":
            noise = _draw(torch.rand, clean, generators)
            return self.project(clean, clean + self.eps * (2 * noise - 1), bounds)
        direction = self.steepest(self.allowed(_draw(torch.randn, clean, generators)))
        uniform = torch.stack([torch.rand((), generator=g) for g in generators]).to(clean)
        length = self.eps * uniform ** (1 / self._free_values(clean))
        return self.project(clean, clean + direction * per_image(length, clean), bounds)

    def finish(self, clean: Tensor, adversarial: Tensor, bounds: Bounds) -> Tensor:
        """The image as it can be saved: on the grid of `quantum`, still in the ball and the bounds."""
        if self.quantum is None:
            return adversarial
        # towards the clean image, so that the ball is kept; rounding noise must not cost a whole step
        slack = _grid_slack(clean, bounds, self.quantum)
        steps = (adversarial.double() - clean.double()) / self.quantum
        whole = steps.sign() * (steps.abs() + slack).floor()
        if self.origin == "clean":
            saved = clean.double() + whole * self.quantum
        else:
            saved = bounds[0] + (((clean.double() - bounds[0]) / self.quantum).round() + whole) * self.quantum
        saved = saved.to(clean).clamp(*bounds)
        return torch.where(whole == 0, clean, saved)

    def check(self, clean: Tensor, bounds: Bounds) -> None:
        """Raise `InputError` when the mask does not fit the images, or they are not on the quantum's grid."""
        if self.mask is not None:
            try:
                self._mask_like(clean)
            except RuntimeError as error:
                shapes = f"{tuple(self.mask.shape)} does not broadcast to the images' {tuple(clean.shape)}"
                raise InputError(f"mask of shape {shapes}") from error
        if self.quantum is not None and clean.numel():
            least = per_image(clean.flatten(1).amin(1).double(), clean)
            position = (clean.double() - (bounds[0] if self.origin == "bound" else least)) / self.quantum
            if float((position - position.round()).abs().max()) > _grid_slack(clean, bounds, self.quantum):
                origin = f"{bounds[0]:g}" if self.origin == "bound" else "their least values"
                raise InputError(f"images do not lie on the grid of quantum {self.quantum:g} from {origin}")

    def _mask_like(self, images: Tensor) -> Tensor:
        assert self.mask is not None
        return (self.mask.to(images.device) != 0).expand_as(images)

    def _free_values(self, clean: Tensor) -> Tensor | int:
        """How many values of each image may change."""
        if self.mask is None:
            return clean[0].numel()
        return self._mask_like(clean).flatten(1).sum(1).clamp_min(1)


class Ball(Protocol):
    """The allowed images around a batch of clean ones."""

    def project_(self, moved: Tensor) -> None:
        """Make `moved`, `(B, C, *spatial)`, the allowed image nearest to each, in place."""
        ...


@dataclass(frozen=True)
class _Box:
    low: Tensor
    high: Tensor

    def project_(self, moved: Tensor) -> None:
        torch.clamp(moved, self.low, self.high, out=moved)


@dataclass(frozen=True)
class _Sphere:
    clean: Tensor
    radius: float
    free: Tensor | None
    bounds: Bounds

    def project_(self, moved: Tensor) -> None:
        delta = moved - self.clean
        if self.free is not None:
            delta = torch.where(self.free, delta, 0)
        length = per_image(delta.flatten(1).norm(dim=1), delta)
        delta *= self.radius / length.clamp_min(max(self.radius, TINY))
        torch.add(self.clean, delta, out=moved).clamp_(*self.bounds)


def per_image(values: Tensor, like: Tensor) -> Tensor:
    """`(B,)` → `(B, 1, …)` so that it broadcasts over images `(B, C, *spatial)`."""
    return values.reshape(-1, *[1] * (like.ndim - 1))


def sample_generators(seed: int, ids: Sequence[object], purpose: str) -> list[torch.Generator]:
    """A CPU generator for each sample, from seed, id and purpose alone: not its batch, place or the global RNG."""
    generators = []
    for sample_id in ids:
        digest = hashlib.blake2b(f"{seed}|{purpose}|{sample_id}".encode(), digest_size=8).digest()
        generators.append(torch.Generator().manual_seed(int.from_bytes(digest, "big") >> 1))
    return generators


def towards(clean: Tensor, moved: Tensor, dtype: torch.dtype) -> Tensor:
    """`moved` in another dtype, rounded towards `clean`, so that it stays in every ball around it."""
    if moved.dtype == dtype:
        return moved
    start, rounded = clean.to(dtype), moved.to(dtype)
    farther = (rounded.double() - clean.double()).abs() > (moved.double() - clean.double()).abs()
    return torch.where(farther, torch.nextafter(rounded, start), rounded)


def _grid_slack(clean: Tensor, bounds: Bounds, quantum: float) -> float:
    """How far, in steps of the grid, a value may be off it by the rounding of its dtype alone."""
    slack = 4 * torch.finfo(clean.dtype).eps * max(abs(bounds[0]), abs(bounds[1])) / quantum
    if slack > 0.25:
        raise InputError(f"quantum {quantum:g} is finer than {clean.dtype} can tell apart within the bounds")
    return max(slack, 1e-4)


def _draw(draw: Callable[..., Tensor], clean: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
    """Noise of the images' shape, each image's from its own generator, the same on every device."""
    return torch.stack([draw(image.shape, generator=g) for image, g in zip(clean, generators, strict=True)]).to(clean)


Space = object


class _Shim:
    def __init__(self, threat, clean, bounds):
        self.threat, self.clean, self.bounds = threat, clean, bounds
        self.ball = threat.around(clean, bounds)

    def start(self):
        return self.clean

    def random_start(self, generators):
        return self.threat.random_start(self.clean, generators, self.bounds)

    def images(self, variables):
        return variables

    def project_(self, variables):
        self.ball.project_(variables)

    def steepest(self, gradient):
        return self.threat.steepest(gradient)

    def allowed(self, gradient):
        return self.threat.allowed(gradient)

    def truth(self, truth, variables):
        return truth

    def rows(self, index):
        return _Shim(self.threat.rows(index, len(self.clean)), self.clean[index], self.bounds)
