"""What a paired comparison of two attacks shows, in words, and that nothing is shown when so."""

from __future__ import annotations

from medrobust.evaluation.records import PartInfo
from medrobust.report.numbers import (
    NO_INTERVAL,
    as_float,
    counted,
    format_interval,
    format_p_value,
    format_value,
    metric_heading,
    metric_name,
    plain,
)
from medrobust.report.table import PartTable
from medrobust.statistics import LEAST_CLUSTERS, SIGNIFICANCE, TASK_TRAITS

_MOST_DIGITS = 6


def verdict(row: dict[str, object]) -> str:
    """What a paired comparison (a row of `compare_attacks`) shows, and that nothing is shown when so."""
    first, second = (plain(str(row[key]), 24) for key in ("first", "second"))
    size = f"{metric_name(str(row['metric']))} under {first} minus under {second} {difference_text(row)}"
    told = f"({size}, {p_value_text(row)}, paired{_independence(row)})"
    if _too_few(row):
        return f"{_too_few(row)} whether {first} or {second} is the stronger {told}"
    stronger = stronger_of(row)
    if stronger is None:
        return f"between {first} and {second} no difference is shown {told}"
    names = (first, second) if stronger == row["first"] else (second, first)
    return f"{names[0]} is stronger than {names[1]} {told}"


def short_verdict(row: dict[str, object]) -> str:
    """The verdict of a paired comparison in a table's cell."""
    if _too_few(row):
        return _too_few(row)
    stronger = stronger_of(row)
    return "no difference shown" if stronger is None else f"{plain(stronger, 24)} is stronger"


def stronger_of(row: dict[str, object]) -> str | None:
    """The label of the attack that a paired comparison shows to be stronger, or None.

    Both must say so: the exact test, and the interval where there is one (differences that are all alike have none).
    """
    difference, low, high, p_value = (as_float(row[key]) for key in ("difference", "low", "high", "p_value"))
    if _too_few(row) or not difference or p_value is None or p_value >= SIGNIFICANCE:
        return None
    if low is not None and high is not None and low <= 0 <= high:
        return None
    return str(row["first"] if difference < 0 else row["second"])


def difference_text(row: dict[str, object]) -> str:
    """The difference of a paired comparison with its interval: "−0.045 [−0.093, −0.004]"."""
    difference, low, high = (as_float(row[key]) for key in ("difference", "low", "high"))
    digits = 3
    while digits < _MOST_DIGITS and any(end and not round(end, digits) for end in (low, high)):
        digits += 1  # an end on one side of 0 must not look as if it were 0
    interval = format_interval(low, high, digits) or (NO_INTERVAL if difference is not None else "")
    return f"{format_value(difference, digits)} {interval}".strip()


def p_value_text(row: dict[str, object]) -> str:
    """The p-value of a paired comparison: "p = 0.03"."""
    return format_p_value(as_float(row["p_value"]) or 0.0)


def comparison_caption(table: PartTable, part: PartInfo) -> str:
    """How to read the table of paired comparisons."""
    unit = _unit(table.resampled)
    independent = "" if unit == "patient" else ", taking the images as independent"
    traits = TASK_TRAITS[part.task]
    instead = (
        "" if traits.image_metric == traits.main else f" ({traits.main} is of all images together: no image has one)"
    )
    return (
        f"{metric_heading(traits.image_metric)}{instead} under the first attack minus under the second, on the same "
        "images and "
        f"resamples; negative: the first is stronger. p: two-sided sign-flip test over {unit}s{independent}, not "
        "corrected for the number of rows. An attack is called stronger when p is below "
        f"{SIGNIFICANCE:g} and the interval excludes 0, with at least {counted(LEAST_CLUSTERS, unit)}. "
        f"{NO_INTERVAL}: the differences do not vary. “No difference shown” does not mean that the attacks are equal."
    )


def _unit(resampled: object) -> str:
    return "patient" if resampled == "patients" else "image"


def _too_few(row: dict[str, object]) -> str:
    """Words for a comparison over too few clusters to show anything; "" when there are enough."""
    clusters = as_float(row["clusters"]) or 0
    return "" if clusters >= LEAST_CLUSTERS else f"too few {_unit(row['resampled'])}s to tell"


def _independence(row: dict[str, object]) -> str:
    """What a test over images takes for granted, neighbouring slices being alike."""
    return "" if _unit(row["resampled"]) == "patient" else ", taking the images as independent"
