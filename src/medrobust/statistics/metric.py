"""One figure of one condition: a point estimate with the statistic that is resampled for its interval."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from medrobust.data.dataset import DatasetInfo
from medrobust.statistics.resampling import Statistic
from medrobust.statistics.sums import SumStatistic, mean


@dataclass(frozen=True)
class Metric:
    """One figure of one condition.

    Attributes:
        value: the point estimate, or None when undefined.
        used: `(n,)` bool, which rows of the condition it is computed from.
        statistic: what is resampled, or None when undefined.
        is_share: whether it is the share of images with a property, so that 0 and 1 have an exact interval.
    """

    name: str
    value: float | None
    used: NDArray[np.bool_]
    statistic: Statistic | None
    is_share: bool = False


def mean_metric(
    name: str,
    values: NDArray[np.float64],
    codes: NDArray[np.int64],
    count: int,
    *,
    weights: NDArray[np.float64] | None = None,
    is_share: bool = False,
) -> Metric:
    """The mean of one value an image, `(n,)`, over the images where it is finite, or Σ values / Σ weights."""
    statistic: SumStatistic = mean(values, codes, count, weights)
    return Metric(name, number(statistic.value), np.isfinite(values), statistic, is_share)


def class_name(dataset: DatasetInfo, number: int) -> str:
    """The name of a class, or "class <number>" where the data set gives none."""
    return dataset.classes[number] if 0 <= number < len(dataset.classes) else f"class {number}"


def floats(rows: pl.DataFrame, column: str) -> NDArray[np.float64]:
    """A column as `(n,)` float64, NaN where null."""
    return rows[column].cast(pl.Float64).to_numpy()


def number(value: float | torch.Tensor) -> float | None:
    """A figure, or None when it is not finite."""
    return float(value) if math.isfinite(value) else None
