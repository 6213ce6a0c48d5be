"""One figure of the table with what it was resampled to, and the interval that a figure of its kind has."""

from __future__ import annotations

from dataclasses import dataclass

from medrobust.statistics.intervals import (
    BCA,
    EXACT,
    WILSON,
    Interval,
    bca_interval,
    unanimous_interval,
    wilson_interval,
)
from medrobust.statistics.resampling import Resampled


@dataclass(frozen=True, eq=False)
class Figure:
    """A value of one condition.

    Attributes:
        metric: its name.
        key: attack, norm and eps.
        value: the point estimate, or None when undefined.
        n: images that it is computed from.
        clusters: patients among them, or images.
        resampled: its jackknife and resamples, or None when undefined.
        is_share: whether 0 and 1 mean that none, or all, of the images have a property.
        is_one_share: whether it is besides the share of images that have it, and not made of several shares.
    """

    metric: str
    key: tuple[str, str, float]
    value: float | None
    n: int
    clusters: int
    resampled: Resampled | None
    is_share: bool = False
    is_one_share: bool = False

    def interval(self, confidence: float) -> tuple[Interval, str] | None:
        """The interval and its kind, or None where none can be given."""
        if self.value is None or self.resampled is None or self.clusters < 2:
            return None
        if self.is_share and self.value in (0.0, 1.0):
            return unanimous_interval(self.value, self.clusters, confidence), EXACT
        if self.is_one_share and self.clusters == self.n:
            return wilson_interval(self.value, self.n, confidence), WILSON
        found = bca_interval(self.resampled, self.clusters, confidence)
        return None if found is None else (found, BCA)
