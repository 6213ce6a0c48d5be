"""Weights of images in a resample, and intervals of figures that resampling inflates."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from medrobust.statistics.resampling import multiplicities, percentile_interval


def image_weights(codes: NDArray[np.int64], count: int, resamples: int, seed: int) -> NDArray[np.float64]:
    """How often each image of the clusters `codes` (n,) counts, `(1 + resamples, n)`: once, then as it was drawn."""
    drawn = np.concatenate(list(multiplicities(count, resamples, seed)))
    return np.concatenate([np.ones((1, len(codes))), drawn[:, codes].astype(np.float64)])


def recentred_interval(
    draws: NDArray[np.float64], value: float, confidence: float, least: float = -np.inf
) -> tuple[float, float] | None:
    """The percentile interval of draws `(resamples,)` once they are moved by their bias, and cut at `least`.

    Means of resampled images differ more than those of the images themselves, so that variances of resamples are off on
    average: their bias is the mean of the draws less the value of the sample (Efron and Tibshirani, chapter 10).
    """
    defined = draws[np.isfinite(draws)]
    bias = float(defined.mean()) - value if len(defined) and np.isfinite(value) else 0.0
    return percentile_interval((draws - bias).clip(least), confidence)
