"""What `certify` found: a row for each image, certified accuracy with intervals, and both on disk."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import polars as pl
import pydantic
from numpy.typing import NDArray

from medrobust.budget import format_eps
from medrobust.checks import at_least, positive
from medrobust.errors import InputError
from medrobust.evaluation.records import PartInfo
from medrobust.evaluation.storage import new_folder
from medrobust.guards.certificate import lower_bound, radius_of
from medrobust.statistics.metric import Metric, floats, mean_metric
from medrobust.statistics.resampling import clusters_of
from medrobust.statistics.summary import clusters_used, interval_rows

CERTIFIED_JSON, IMAGES, ACCURACY = "certified.json", "images.parquet", "accuracy.csv"
CERTIFIED_ACCURACY, PREDICTED_ACCURACY, ABSTAINED = "certified accuracy", "accuracy of the vote", "abstained"
CERTIFIED_SHARE, DICE = "certified and right", "Dice at least"

_OF_IMAGE = {"index": pl.Int64, "id": pl.String, "patient": pl.String}
SCHEMAS: dict[bool, dict[str, type[pl.DataType]]] = {
    False: {
        **_OF_IMAGE,
        "truth": pl.Int64,
        "prediction": pl.Int64,  # PREDICT; null where it abstains
        "certified": pl.Int64,  # CERTIFY; null where it abstains
        "p_lower": pl.Float64,  # of the certified answer's probability
        "radius": pl.Float64,  # L2, in data units; 0 where it abstains
        "right": pl.Boolean,  # the certified answer is the truth
    },
    True: {
        **_OF_IMAGE,
        "radius": pl.Float64,  # L2, in data units, of all positions that do not abstain
        "positions": pl.Int64,  # pixels, voxels or labels that count
        "abstained": pl.Float64,  # share of them
        "right": pl.Float64,  # share that is certified, and right
        "dice_at_least": pl.Float64,  # mean Dice that no change within the radius undercuts; null for labels
    },
}
"""Columns of `Certified.images`, by whether an image has an answer at each of several positions."""


@dataclass(frozen=True)
class Sampling:
    """How images are certified; see `certify`.

    Raises:
        InputError: an option has no such value, or so few draws can prove nothing.
    """

    sigma: float
    n0: int
    n: int
    alpha: float
    tau: float

    def __post_init__(self) -> None:
        positive("sigma", self.sigma)
        at_least("n0", self.n0, 1)
        at_least("n", self.n, 1)
        if not 0 < self.alpha < 1:
            raise InputError(f"alpha must be between 0 and 1, got {self.alpha!r}")
        if not 0.5 < self.tau < 1:
            raise InputError(f"tau must be above 0.5 and below 1, got {self.tau!r}")
        if not self.largest:
            least = math.floor(math.log(self.alpha) / math.log(0.5)) + 1
            raise InputError(f"n={self.n} draws can prove nothing at alpha={self.alpha:g}: at least {least}")

    @property
    def largest(self) -> float:
        """The radius of an image all whose draws agree: none can be shown to be larger."""
        return radius_of(lower_bound(self.n, self.n, self.alpha), self.sigma)

    def least_for(self, positions: int) -> int:
        """The draws from which on one of so many positions can be certified: tau^n ≤ alpha/positions, all agreeing."""
        return math.ceil(math.log(self.alpha / max(positions, 1)) / math.log(self.tau))


@dataclass(frozen=True)
class CertifiedInfo:
    """`certified.json`: what a reader of the rows needs to know.

    Attributes:
        part: what the data are called.
        described: data and model, as in `run.json`; nothing was attacked.
        sampling: of the noise.
        radii: at which certified accuracy is told, L2 in data units.
        created: ISO 8601 in UTC.
    """

    part: str
    described: PartInfo
    sampling: Sampling
    radii: list[float]
    seed: int
    created: str
    seconds: float
    device: str
    versions: dict[str, str]
    config: dict[str, object] | None = None


_INFO = pydantic.TypeAdapter(CertifiedInfo)


class Certified:
    """What came of `certify`.

    Attributes:
        images: a row for each image, the columns as in `medrobust.guards.certified.SCHEMAS`.
        info: what was certified, and how.
    """

    def __init__(self, images: pl.DataFrame, info: CertifiedInfo) -> None:
        self.images = images
        self.info = info

    @cached_property
    def accuracy(self) -> pl.DataFrame:
        """Certified accuracy at each radius, and what there is besides, each with a 95 % interval by patient.

        Columns: `metric`, `radius`, `value`, `low`, `high`, `interval` (its kind), `n`, `clusters`, `resampled`. The
        certified accuracy at a radius is the share of images whose certified answer is right and whose radius is at
        least that. Of several answers an image: the mean share of positions certified and right, of those that
        abstain, and the mean Dice that is left at worst.
        """
        clusters = clusters_of(self.images["patient"])
        figures: list[tuple[dict[str, object], Metric, int]] = [
            ({"eps": radius}, metric, clusters_used(metric, clusters.codes))
            for radius, metric in self._figures(clusters.codes, clusters.count)
        ]
        rows = interval_rows(figures, clusters, resamples=2000, confidence=0.95, seed=self.info.seed)
        named = pl.DataFrame(rows, infer_schema_length=None).rename({"eps": "radius"})
        return named.select("metric", "radius", "value", "low", "high", "interval", "n", "clusters", "resampled")

    @property
    def largest(self) -> float:
        """The largest radius that so many draws can show, L2 in data units."""
        return self.info.sampling.largest

    def summary(self) -> str:
        """In a few lines: of what the certificate is, how far it reaches, and for how many images."""
        sampling, unit = self.info.sampling, self.info.described.dataset.unit
        lines = [
            f"{self.info.part}: {len(self.images)} images under noise of sigma {format_eps(sampling.sigma, unit)}, "
            f"{sampling.n} draws each; a certificate is wrong with a probability of at most {sampling.alpha:g}",
            *(_line(row, unit) for row in self.accuracy.iter_rows(named=True)),
        ]
        if "p_lower" in self.images.columns:
            lines.append(f"no radius above {format_eps(self.largest, unit)} can be shown with {sampling.n} draws")
        elif sampling.n < (least := sampling.least_for(max(self.images["positions"]))):
            lines.append(f"{sampling.n} draws can prove nothing of so many positions: at least {least} are needed")
        return "\n".join([*lines, "this is of the smoothed model, the vote over noisy copies, not of the model alone"])

    def save(self, folder: str | Path) -> None:
        """Write `certified.json`, `images.parquet` and `accuracy.csv` to a new folder, whole or not at all.

        Raises:
            InputError: the folder is not empty, or cannot be written.
        """
        with new_folder(Path(folder)) as unfinished:
            (unfinished / CERTIFIED_JSON).write_bytes(_INFO.dump_json(self.info, indent=2))
            self.images.write_parquet(unfinished / IMAGES)
            self.accuracy.write_csv(unfinished / ACCURACY)

    def _figures(self, codes: NDArray[np.int64], count: int) -> Iterator[tuple[float, Metric]]:
        rows, radius = self.images, self.info.sampling.sigma
        if "p_lower" not in rows.columns:
            reached = radius_of(self.info.sampling.tau, radius)
            for name, column in ((CERTIFIED_SHARE, "right"), (ABSTAINED, "abstained"), (DICE, "dice_at_least")):
                if rows[column].null_count() < len(rows):
                    yield reached, mean_metric(name, floats(rows, column), codes, count)
            return
        for least in self.info.radii:
            held = (rows["right"] & (rows["radius"] >= least)).to_numpy().astype(float)
            yield least, mean_metric(CERTIFIED_ACCURACY, held, codes, count, is_share=True)
        voted = (rows["prediction"] == rows["truth"]).fill_null(value=False).to_numpy().astype(float)
        yield 0.0, mean_metric(PREDICTED_ACCURACY, voted, codes, count, is_share=True)
        unsure = rows["certified"].is_null().to_numpy().astype(float)
        yield 0.0, mean_metric(ABSTAINED, unsure, codes, count, is_share=True)


def _line(row: dict[str, object], unit: str) -> str:
    reach = f" within L2 ≤ {format_eps(float(str(row['radius'])), unit)}" if row["radius"] else ""
    low, high = row["low"], row["high"]
    interval = "" if low is None else f" ({low:.3f} to {high:.3f})"
    return f"{row['metric']}{reach}: {row['value']:.3f}{interval}"
