"""The words of a segmentation's further measures: borders, missed volume, lesions."""

from __future__ import annotations

from medrobust.evaluation.records import PartInfo
from medrobust.report.numbers import metric_heading
from medrobust.report.table import PartTable
from medrobust.statistics.masks import HD95, LESIONS, MISSED, SURFACE_DICE


def mask_metrics(table: PartTable) -> dict[str, str]:
    """The metrics of borders, missed volume and lesions that a part has, each with its heading."""
    return {
        metric: metric_heading(metric)
        for metric in table.clean.cells
        if metric in (HD95, SURFACE_DICE) or metric.startswith((f"{MISSED} (", LESIONS))
    }


def mask_caption(table: PartTable, part: PartInfo, cuts: tuple[float, float, str] | None) -> str:
    """How to read the table of borders, missed volume and lesions; `cuts` as `size_cuts` gives them."""
    metrics = mask_metrics(table)
    told = ["Mean over the images, clean and in the worst case."]
    if HD95 in metrics:
        told.append(
            "HD95: the 95th percentile of the distances between the borders of truth and answer, the higher the "
            "worse; of a class that only one of them has, the image’s diagonal."
        )
    options = part.victim.get("task_options")
    tolerance = options.get("surface_tolerance") if isinstance(options, dict) else None
    if SURFACE_DICE in metrics:
        within = f" of {tolerance:g} mm" if isinstance(tolerance, float | int) else ""
        told.append(f"Surface Dice: the share of both borders within a tolerance{within} of the other.")
    if cuts is not None:
        small, medium, unit = cuts
        told.append(
            "Lesions found: the share of all lesions of which at least half is covered, in thirds by size (small: up "
            f"to {small:.3g} {unit}; medium: up to {medium:.3g} {unit})."
        )
    return " ".join(told)
