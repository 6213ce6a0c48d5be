"""The values a file can hold: a grid of whole steps, and how an image is put on it without leaving its threat."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from medrobust.errors import InputError
from medrobust.threat.space import Bounds, per_image

Origin = Literal["bound", "clean"]


def check_on_grid(clean: Tensor, bounds: Bounds, quantum: float, origin: Origin) -> None:
    """Raise `InputError` unless the images lie on the grid: whole steps from the lower bound, or from each other."""
    if not clean.numel():
        return
    least = per_image(clean.flatten(1).amin(1).double(), clean)
    position = (clean.double() - (bounds[0] if origin == "bound" else least)) / quantum
    if float((position - position.round()).abs().max()) > _slack(clean, bounds, quantum):
        place = f"{bounds[0]:g}" if origin == "bound" else "their least values"
        raise InputError(f"images do not lie on the grid of quantum {quantum:g} from {place}")


def rounded_to_clean(clean: Tensor, moved: Tensor, bounds: Bounds, quantum: float, origin: Origin) -> Tensor:
    """`moved` on the grid, every value rounded towards the clean one, so that it stays in every ball around it."""
    # rounding noise must not cost a whole step
    steps = (moved.double() - clean.double()) / quantum
    whole = steps.sign() * (steps.abs() + _slack(clean, bounds, quantum)).floor()
    return _stepped(clean, whole, bounds, quantum, origin)


def rounded_to_nearest(clean: Tensor, moved: Tensor, bounds: Bounds, quantum: float, origin: Origin) -> Tensor:
    """`moved` on the grid, every value at most half a step from where it was, as saving it would round it."""
    return _stepped(clean, ((moved.double() - clean.double()) / quantum).round(), bounds, quantum, origin)


def towards(clean: Tensor, moved: Tensor, dtype: torch.dtype) -> Tensor:
    """`moved` in another dtype, rounded towards `clean`, so that it stays in every ball around it."""
    if moved.dtype == dtype:
        return moved
    start, rounded = clean.to(dtype), moved.to(dtype)
    farther = (rounded.double() - clean.double()).abs() > (moved.double() - clean.double()).abs()
    return torch.where(farther, torch.nextafter(rounded, start), rounded)


def _stepped(clean: Tensor, whole: Tensor, bounds: Bounds, quantum: float, origin: Origin) -> Tensor:
    """The clean images moved by whole numbers of steps."""
    if origin == "clean":
        saved = clean.double() + whole * quantum
    else:
        saved = bounds[0] + (((clean.double() - bounds[0]) / quantum).round() + whole) * quantum
    return torch.where(whole == 0, clean, saved.to(clean).clamp(*bounds))


def _slack(clean: Tensor, bounds: Bounds, quantum: float) -> float:
    """How far, in steps of the grid, a value may be off it by the rounding of its dtype alone."""
    slack = 4 * torch.finfo(clean.dtype).eps * max(abs(bounds[0]), abs(bounds[1])) / quantum
    if slack > 0.25:
        raise InputError(f"quantum {quantum:g} is finer than {clean.dtype} can tell apart within the bounds")
    return max(slack, 1e-4)
