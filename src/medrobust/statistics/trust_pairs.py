"""What attacks leave of the same images, side by side: does the one that should be stronger leave less?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import stats

from medrobust.budget import format_eps
from medrobust.evaluation.records import PartInfo
from medrobust.statistics.comparison import SIGNIFICANCE
from medrobust.statistics.conditions import in_order
from medrobust.statistics.metrics import image_values
from medrobust.statistics.trust_rules import Verdict

Left = NDArray[np.float64]
FEWEST = 4  # images, from which on a share of them tells anything
TOLD = 0.01  # what is left of two answers differs


@dataclass(frozen=True)
class Pair:
    """What two attacks leave of the same images, `(n,)` each in [0, 1]; the first should leave no more.

    Attributes:
        where: in which condition, for a sentence.
        tests: how many pairs are looked at in search of the worst.
    """

    first: Left
    second: Left
    where: str = ""
    tests: int = 1

    @property
    def excess(self) -> float:
        """What the first leaves more, on average: above 0 the second is the stronger."""
        return float(np.mean(self.first - self.second)) if len(self.first) else 0.0

    @property
    def only_second(self) -> int:
        """Images of which the second leaves less."""
        return int((self.first - self.second > TOLD).sum())

    @property
    def only_first(self) -> int:
        """Images of which the first leaves less."""
        return int((self.second - self.first > TOLD).sum())

    @property
    def missed(self) -> float:
        """What the first leaves more where the second is stronger, on average: what both together would take away."""
        return float(np.mean(np.maximum(self.first - self.second, 0))) if len(self.first) else 0.0

    def tested(self, least: float) -> Verdict:
        """Passes up to an excess of `least`; beyond, fails where the sign test tells it from chance, else warns."""
        if self.excess <= least:
            return "pass"
        differ = self.only_first + self.only_second
        if not differ:
            return "warn"
        p_value = stats.binomtest(self.only_second, differ, 0.5, alternative="greater").pvalue
        return "fail" if p_value < SIGNIFICANCE / self.tests else "warn"


@dataclass(frozen=True)
class Budget:
    """What each attack left at one budget of the images answered right, `(n,)` each, in the order of `index`."""

    norm: str
    text: str  # of eps, in its unit
    left: dict[str, Left]

    def least(self, chosen: Callable[[str], bool]) -> Left | None:
        """What is left in the worst case over the attacks chosen by their labels; None when there is none."""
        found = [left for label, left in self.left.items() if chosen(label)]
        return np.min(found, axis=0) if found else None


def budgets_of(records: pl.DataFrame, part: PartInfo) -> list[Budget]:
    """By norm in the order of the run, and rising eps; the records are of one part."""
    rows = records.filter("right_before")
    known = rows.select("norm", "eps").unique(maintain_order=True)
    norms = list(dict.fromkeys(known["norm"].to_list()))
    found = []
    for norm, eps in sorted(known.iter_rows(), key=lambda budget: (norms.index(budget[0]), budget[1])):
        at = rows.filter((pl.col("norm") == norm) & (pl.col("eps") == eps))
        labels = in_order(at["attack"].unique().to_list(), part)
        left = {label: image_values(at.filter(attack=label).sort("index"), part, "after") for label in labels}
        found.append(
            Budget(
                norm,
                format_eps(eps, part.unit_of(norm)),
                {label: np.nan_to_num(values) for label, values in left.items()},
            )
        )
    return found


def too_few(count: int) -> str:
    """Why nothing is told by so few images."""
    return f"only {count} image{' was' if count == 1 else 's were'} answered right"


def worst_pair(pairs: list[Pair]) -> Pair:
    """The pair in which the second attack is stronger by most."""
    worst = max(pairs, key=lambda pair: pair.excess)
    return Pair(worst.first, worst.second, worst.where, len(pairs))
