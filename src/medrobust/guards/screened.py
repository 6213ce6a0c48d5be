"""What `screen` found: a row for each image, attack and screen, figures with intervals, and both on disk."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import polars as pl
import pydantic
from numpy.typing import NDArray

from medrobust.budget import format_eps
from medrobust.evaluation.records import CLEAN, WORST_CASE, PartInfo
from medrobust.evaluation.storage import new_folder
from medrobust.statistics.metric import Metric, floats, mean_metric
from medrobust.statistics.metrics import auroc_metric
from medrobust.statistics.resampling import clusters_of
from medrobust.statistics.summary import clusters_used, interval_rows
from medrobust.transforms import NON_ADAPTIVE

SCREENED_JSON, SCORES, FIGURES = "screened.json", "scores.parquet", "figures.csv"
FOOLED, AUROC, DETECTED, UNNOTICED, FALSE_ALARMS = "fooled", "AUROC", "detected", "unnoticed", "false alarms"

SCHEMA: dict[str, type[pl.DataType]] = {
    "index": pl.Int64,  # place among the attacked images
    "id": pl.String,
    "patient": pl.String,  # hash of the identity; null when unknown
    "screen": pl.String,
    "attack": pl.String,
    "adaptive": pl.Boolean,  # the attack knows the screen
    "norm": pl.String,
    "eps": pl.Float64,
    "right_before": pl.Boolean,
    "fooled": pl.Boolean,  # right before, wrong after; whatever the screen says
    "clean": pl.Float64,  # suspicion of the clean image
    "attacked": pl.Float64,  # suspicion of the attacked image
    "false_alarm": pl.Boolean,  # the clean image is above the threshold
    "alarm": pl.Boolean,  # the attacked image is
}
_KEY = ("screen", "attack", "adaptive", "norm", "eps")


@dataclass(frozen=True)
class ScreenedInfo:
    """`screened.json`: what a reader of the rows needs to know.

    Attributes:
        part: what the data are called.
        described: data, model, attacks and budgets, as in `run.json`.
        screens: label → name and options.
        thresholds: label → suspicion above which there is an alarm.
        calibration_sha256, calibration_images: the clean images that they were set on.
        false_positives: the share of clean images that may be called attacked.
        created: ISO 8601 in UTC.
    """

    part: str
    described: PartInfo
    screens: dict[str, dict[str, object]]
    thresholds: dict[str, float]
    calibration_sha256: str
    calibration_images: int
    false_positives: float
    seed: int
    created: str
    seconds: float
    device: str
    versions: dict[str, str]
    config: dict[str, object] | None = None


_INFO = pydantic.TypeAdapter(ScreenedInfo)


class Screened:
    """What came of `screen`.

    Attributes:
        scores: a row for each image × attack × budget × screen, the columns as in `medrobust.guards.screened.SCHEMA`.
        info: what was measured, and how.
    """

    def __init__(self, scores: pl.DataFrame, info: ScreenedInfo) -> None:
        self.scores = scores
        self.info = info

    @cached_property
    def figures(self) -> pl.DataFrame:
        """Every figure of every screen, attack and budget with its 95 % interval by patient.

        Columns: `screen`, `attack`, `adaptive`, `norm`, `eps`, `metric`, `value`, `low`, `high`, `interval` (its
        kind), `n`, `clusters`, `resampled`. The metrics: "fooled", the share of the images answered right that are
        then wrong; "AUROC" of the suspicion, of images that fool against clean ones; "detected", the share of images
        that fool which raise the alarm; "unnoticed", the share of the images answered right that are then wrong
        without alarm; "false alarms", of clean images. The worst case is, image by image, what any of the attacks
        does without alarm.
        """
        clusters = clusters_of(self.scores.unique("index", keep="first").sort("index")["patient"])
        places = np.unique(self.scores["index"].to_numpy(), return_inverse=True)[1]
        codes = clusters.codes[places]
        keys: list[dict[str, object]] = []
        figures: list[tuple[dict[str, object], Metric, int]] = []
        numbered = self.scores.with_row_index("row")
        for key, rows in _conditions(numbered):
            for metric in _metrics(key, rows, codes[rows["row"].to_numpy()], clusters.count):
                doubled = np.tile(codes[rows["row"].to_numpy()], len(metric.used) // len(rows))
                keys.append(key)
                figures.append((key, metric, clusters_used(metric, doubled)))
        rows_ = interval_rows(figures, clusters, resamples=2000, confidence=0.95, seed=self.info.seed)
        table = pl.DataFrame([{**row, **key} for row, key in zip(rows_, keys, strict=True)], infer_schema_length=None)
        return table.select(*_KEY, "metric", "value", "low", "high", "interval", "n", "clusters", "resampled")

    def summary(self) -> str:
        """Line by line: of each screen what attacks show that do not know it, and what those that do."""
        info = self.info
        lines = [
            f"{info.part}: {self.scores['index'].n_unique()} images attacked; thresholds for "
            f"{info.false_positives:.0%} false alarms, set on {info.calibration_images} others"
        ]
        for screen in info.screens:
            of_screen = self.figures.filter(screen=screen)
            lines.append(f"{screen}: false alarms {_told(of_screen, CLEAN, FALSE_ALARMS)}")
            for attack, norm, eps in of_screen.select("attack", "norm", "eps").unique(maintain_order=True).iter_rows():
                if attack == CLEAN:
                    continue
                rows = of_screen.filter(attack=attack, norm=norm, eps=eps)
                names = (UNNOTICED,) if attack == WORST_CASE else (FOOLED, AUROC, DETECTED, UNNOTICED)
                told = ", ".join(f"{name} {_told(rows, attack, name)}" for name in names)
                lines.append(f"  {attack}, {norm} ≤ {format_eps(eps, info.described.unit_of(norm))}: {told}")
        return "\n".join([*lines, NON_ADAPTIVE])

    def save(self, folder: str | Path) -> None:
        """Write `screened.json`, `scores.parquet` and `figures.csv` to a new folder, whole or not at all.

        Raises:
            InputError: the folder is not empty, or cannot be written.
        """
        with new_folder(Path(folder)) as unfinished:
            (unfinished / SCREENED_JSON).write_bytes(_INFO.dump_json(self.info, indent=2))
            self.scores.write_parquet(unfinished / SCORES)
            self.figures.write_csv(unfinished / FIGURES)


def _conditions(scores: pl.DataFrame) -> Iterator[tuple[dict[str, object], pl.DataFrame]]:
    """Of each screen the clean images, every attack at every budget, and at each budget the worst of them."""
    for (screen,), of_screen in scores.group_by("screen", maintain_order=True):
        clean = of_screen.unique("index", keep="first", maintain_order=True)
        yield {"screen": screen, "attack": CLEAN, "adaptive": None, "norm": None, "eps": 0.0}, clean
        for values, rows in of_screen.group_by(*_KEY, maintain_order=True):
            yield dict(zip(_KEY, values, strict=True)), rows
        for (norm, eps), rows in of_screen.group_by("norm", "eps", maintain_order=True):
            passed = (pl.col("fooled") & ~pl.col("alarm")).any().over("index")
            worst = rows.with_columns(fooled=passed, alarm=pl.lit(value=False)).unique(
                "index", keep="first", maintain_order=True
            )
            yield {"screen": screen, "attack": WORST_CASE, "adaptive": None, "norm": norm, "eps": eps}, worst


def _metrics(key: dict[str, object], rows: pl.DataFrame, codes: NDArray[np.int64], count: int) -> Iterator[Metric]:
    right, fooled, alarm, false_alarm = (
        floats(rows, name) for name in ("right_before", "fooled", "alarm", "false_alarm")
    )
    if key["attack"] == CLEAN:
        yield mean_metric(FALSE_ALARMS, false_alarm, codes, count, is_share=True)
        return
    of_right = np.where(right == 1, 1.0, np.nan)
    yield mean_metric(UNNOTICED, of_right * fooled * (1 - alarm), codes, count, is_share=True)
    if key["attack"] == WORST_CASE:
        return
    yield mean_metric(FOOLED, of_right * fooled, codes, count, is_share=True)
    yield mean_metric(DETECTED, np.where(fooled == 1, alarm, np.nan), codes, count, is_share=True)
    suspicion = np.concatenate([floats(rows, "clean"), floats(rows, "attacked")])
    attacked = np.repeat([False, True], len(rows))
    known = np.concatenate([np.ones(len(rows), bool), fooled == 1])
    yield auroc_metric([(suspicion, attacked, known)], np.tile(codes, 2), count)


def _told(rows: pl.DataFrame, attack: str, metric: str) -> str:
    (row,) = rows.filter(attack=attack, metric=metric).iter_rows(named=True)
    if row["value"] is None:
        return "–"
    interval = "" if row["low"] is None else f" ({row['low']:.2f} to {row['high']:.2f})"
    return f"{row['value']:.2f}{interval}"
