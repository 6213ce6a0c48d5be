"""What belongs to the images of a batch, one row each: some of the rows, several parts put together, or either of two.

Understood are tensors `(B, …)`, a detector's outputs, lists of B things, and data classes of these; a data class may
name another axis than the first as its `image_axis`. Anything else is of no image, and left as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any, Protocol, TypeVar, cast

import torch
from torch import Tensor

from medrobust.detectors import DetectorOutputs
from medrobust.tasks import changed, merged

Value = TypeVar("Value")


def rows_of(value: Value, index: Tensor) -> Value:
    """The rows `index` `(n,)` int64."""
    return cast("Value", _one(value, lambda tensor, axis: tensor.index_select(axis, index.to(tensor.device)), index, 0))


def tiled(value: Value, copies: int, count: int) -> Value:
    """All `count` rows, over and over: copy k of image b is row k · count + b."""
    if copies == 1:
        return value
    if isinstance(value, Tensor):  # many times faster than by an index, forward and backward
        return cast("Value", value.expand(copies, *value.shape).flatten(0, 1))
    return rows_of(value, torch.arange(count).repeat(copies))


def joined(values: Sequence[Value], places: Sequence[Tensor]) -> Value:
    """The rows of several values in one: row i of `values[k]` is the whole's row `places[k][i]`."""
    back = torch.cat(list(places)).argsort()

    def together(parts: Sequence[Tensor], axis: int) -> Tensor:
        return torch.cat(list(parts), axis).index_select(axis, back.to(parts[0].device))

    return cast("Value", _several(list(values), together, back))


def exchanged(kept: Value, new: Value, rows: Tensor) -> Value:
    """What was kept, with the rows `(n,)` int64, in rising order, exchanged for new ones."""
    count = len(kept.success)  # type: ignore[attr-defined]
    if len(rows) == count:
        return new
    rest = torch.ones(count, dtype=torch.bool, device=rows.device)
    rest[rows] = False
    others = rest.nonzero().flatten()
    return joined([rows_of(kept, others), new], [others, rows])


def either(take: Tensor, first: Value, second: Value) -> Value:
    """Row by row the second value where `take` `(B,)` is True, else the first."""

    def pick(pair: Sequence[Tensor], axis: int) -> Tensor:
        shape = [1] * pair[0].ndim
        shape[axis] = -1
        return torch.where(take.to(pair[0].device).reshape(shape), pair[1], pair[0])

    return cast("Value", _several([first, second], pick, take))


class State(Protocol):
    """What a part holds during one run of the loop."""

    def keep(self, rows: Tensor) -> None:
        """Forget all images but these, `(n,)` int64."""
        ...


class PerImage:
    """State with a row for each image in every attribute that is a tensor, a list or a data class of such."""

    def keep(self, rows: Tensor) -> None:
        """Forget all images but those of the rows `(n,)` int64."""
        for name, value in vars(self).items():
            if isinstance(value, Tensor | list):
                setattr(self, name, rows_of(value, rows))


def _one(value: Any, function: Any, index: Tensor, axis: int) -> Any:
    if isinstance(value, Tensor):
        return function(value, axis)
    if isinstance(value, DetectorOutputs):
        return changed(value, lambda tensor: function(tensor, 0))
    if isinstance(value, list | tuple):
        return type(value)(value[place] for place in index.tolist())
    if not is_dataclass(value) or isinstance(value, type):
        return value
    axis = getattr(value, "image_axis", 0)
    return replace(value, **{f.name: _one(getattr(value, f.name), function, index, axis) for f in fields(value)})


def _several(values: list[Any], function: Any, order: Tensor, axis: int = 0) -> Any:
    first = values[0]
    if first is None:
        assert all(value is None for value in values), "some parts have what others lack"
        return None
    assert all(value is not None for value in values), "some parts have what others lack"
    if isinstance(first, Tensor):
        return function(values, axis)
    if isinstance(first, DetectorOutputs):
        return merged(values, lambda tensors: function(tensors, 0))
    if isinstance(first, list | tuple):
        if order.dtype == torch.bool:
            return type(first)(b if taken else a for taken, a, b in zip(order.tolist(), *values, strict=True))
        together = [item for value in values for item in value]
        return type(first)(together[place] for place in order.tolist())
    assert is_dataclass(first)
    axis = getattr(first, "image_axis", 0)
    made = {
        f.name: _several([getattr(value, f.name) for value in values], function, order, axis) for f in fields(first)
    }
    return replace(first, **made)  # type: ignore[type-var]
