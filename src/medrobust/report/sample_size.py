"""How many images would make the main figure as sure as people expect, in a sentence."""

from __future__ import annotations

import polars as pl

from medrobust.evaluation.records import PartInfo
from medrobust.report.budgets import budget_text
from medrobust.report.numbers import counted, metric_name
from medrobust.statistics import CLEAN, TASK_TRAITS, WORST_CASE


def size_sentences(table: pl.DataFrame, name: str, part: PartInfo) -> list[str]:
    """Advice from what `medrobust.statistics.sample_size` returned; none where the interval is narrow enough.

    Of clean and the worst cases it is the one known least well.
    """
    metric = TASK_TRAITS[part.task].image_metric
    told = table.filter((pl.col("part") == name) & pl.col("attack").is_in([CLEAN, WORST_CASE]))
    wide = told.filter((pl.col("metric") == metric) & (pl.col("half_width") > pl.col("wanted")))
    if wide.is_empty():
        return []
    row = wide.sort("half_width", descending=True, maintain_order=True).row(0, named=True)
    where = (
        "on clean images"
        if row["attack"] == CLEAN
        else f"in the worst case at {budget_text(row['norm'], row['eps'], part)}"
    )
    first = (
        f"The {metric_name(metric)} {where} is known to ± {100 * row['half_width']:.1f} points; "
        f"± {100 * row['wanted']:g} would take about {_needed(row)}, {_assumed(row)}."
    )
    drops = told.filter(
        (pl.col("metric") == f"drop of {metric}") & (pl.col("norm") == row["norm"]) & (pl.col("eps") == row["eps"])
    )
    paired = drops.drop_nulls("half_width")
    if paired.is_empty():
        return [first]
    return [first, f"Its drop, paired image by image, would take about {_needed(paired.row(0, named=True))}."]


def _needed(row: dict[str, object]) -> str:
    images = counted(int(str(row["needed_images"])), "image")
    if row["resampled"] != "patients":
        return images
    return f"{images} of {counted(int(str(row['needed_clusters'])), 'patient')}"


def _assumed(row: dict[str, object]) -> str:
    by_patient = row["resampled"] == "patients"
    if row["design_effect"] is None:
        unit = "patients" if by_patient else "images"
        return f"if all of them were answered alike again (exact interval of a share, {unit} as trials)"
    effect = f" (design effect of images of one patient: {float(str(row['design_effect'])):.1f})" if by_patient else ""
    return f"if they vary as these do{effect}"
