"""The sentences of a report, computed from the figures and no stronger than they are."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection

import polars as pl

from medrobust.evaluation.records import PartInfo
from medrobust.report.budgets import budget_text
from medrobust.report.mask_wording import mask_metrics
from medrobust.report.numbers import (
    NO_INTERVAL,
    counted,
    format_value,
    listed,
    metric_heading,
    metric_name,
    plain,
)
from medrobust.report.table import Line, PartTable, attacks_of, worst_of
from medrobust.report.units import in_greys
from medrobust.report.verdicts import verdict
from medrobust.statistics import TASK_TRAITS, answer_metrics, judgement, main_metric

ONE_PATIENT = "All images are of one patient: the intervals say nothing about other patients."
FEW_CLUSTERS = 40  # below it 95 % intervals of skewed figures cover 91 to 93 %, of kappa 87 %

# A reason may hold a file name, and a file name a patient's: only what is matched here is printed.
_REASONS = (
    (r"not found|missing|no such|does not exist", "file or entry missing"),
    (r"\bbox\b", "box outside the image or without area"),
    (
        r"cut off|cut short|not a dicom|codec|truncat|corrupt|unreadable|cannot (be )?read|cannot identify|decode",
        "file cannot be read",
    ),
    (r"\bnan\b|not finite|infinite|bounds|outside", "values not finite or out of bounds"),
    (r"mask|size|shape|channel", "image or mask of the wrong size or shape"),
    (r"label|class|grade|truth", "label missing or out of range"),
)


def answer(table: PartTable, part: PartInfo, comparisons: list[pl.DataFrame]) -> list[str]:
    """What is left under the worst case, and which attack does it; SMIA against PGD where both ran."""
    main = main_metric(part.task)
    hardest = table.hardest(main)
    ends = table.largest if len(table.largest) > 1 else [table.budgets[0], table.budgets[-1]]
    chosen = table.budgets if len(table.budgets) <= 4 else ends
    left = [f"{line[main]!s} at {budget_text(line.norm, line.eps, part)}" for line in map(worst_of, chosen)]
    last = worst_of(chosen[-1])
    seen = in_greys(last.eps, last.norm, part)
    left[-1] += f" ({seen})" if seen else ""
    count = len(attacks_of(hardest))
    over = f"the worst case over {counted(count, 'attack')}" if count > 1 else "under attack"
    whose = "mean Dice" if main == "dice" else main
    first = (
        f"On clean images the {whose} is {table.clean[main]!s}; "
        f"{'in ' if count > 1 else ''}{over} it is {listed(left)}."
    )
    return [first, f"{_strongest(hardest, part)}{_smia_clause(comparisons, hardest[0])}."]


def _strongest(budget: list[Line], part: PartInfo) -> str:
    main, attacks = main_metric(part.task), attacks_of(budget)
    where = budget_text(budget[0].norm, budget[0].eps, part)
    if len(attacks) == 1:
        return f"Only one attack was run at {where}"
    measured = [line for line in attacks if line[main].value is not None]
    if not measured:
        return f"No attack could be measured at {where}"
    lowest = min(value for line in measured if (value := line[main].value) is not None)
    best = [line for line in measured if line[main].value == lowest]
    names = listed([plain(line.attack, 24) for line in best])
    same = "the same " if len(best) > 1 else ""
    lowest_of = f"the lowest {metric_name(main)} of a single attack"
    return f"At {where} {lowest_of} is {same}under {names} ({best[0][main]})"


def _smia_clause(comparisons: list[pl.DataFrame], line: Line) -> str:
    for frame in comparisons:
        for row in frame.iter_rows(named=True):
            if (row["norm"], row["eps"]) == (line.norm, line.eps):
                return f"; {verdict(row)}"
    return ""


def sample_sentence(table: PartTable, part: PartInfo) -> str:
    """How many images, of how many patients."""
    cell = table.clean[main_metric(part.task)]
    of = f" of {part.size:,}" if part.size != cell.n else ""
    patients = {
        "patients": f", {counted(cell.clusters, 'patient')}",
        "images of one patient": ", all of one patient",
    }.get(table.resampled, ", patients unknown")
    return f"{cell.n:,}{of} {'image' if cell.n == 1 and not of else 'images'}{patients}."


def interval_sentence(table: PartTable) -> str:
    """What the intervals are, and what they are not."""
    percent = f"{100 * table.confidence:.4g} %"
    if table.resampled == "patients":
        return f"In brackets: {percent} bootstrap intervals, resampling patients with all their images."
    images = f"In brackets: {percent} bootstrap intervals, resampling images"
    if table.resampled == "images":
        return f"{images}: patients are unknown."
    return f"{images} of one patient: they say nothing about other patients."


def no_interval_sentence(table: PartTable, part: PartInfo, without: Collection[str] = ()) -> str | None:
    """What "[–]" means, where the table of results has one; `without` the metrics shown with no interval at all."""
    of_classes = (*class_metrics(table, part), *mask_metrics(table))
    names = (*answer_metrics(part.task), f"drop of {main_metric(part.task)}", "success", *of_classes)
    shown = [name for name in names if name not in without]
    lacking = any(line[name].lacks_interval for line in [table.clean, *table.lines] for name in shown)
    if not lacking:
        return None
    return f"{NO_INTERVAL} no interval: the figure does not vary in the sample, or is undefined in most resamples."


def skipped_sentence(part: PartInfo) -> str:
    """How many samples were left out, and why, without their names."""
    reasons = Counter(_reason(skipped.reason) for skipped in part.skipped)
    why = "; ".join(f"{reason}: {count}" for reason, count in reasons.most_common())
    return f"{counted(len(part.skipped), 'sample')} left out ({why})."


def _reason(text: str) -> str:
    found = (reason for pattern, reason in _REASONS if re.search(pattern, text, re.IGNORECASE))
    return next(found, "other reason")


def success_definition(part: PartInfo) -> str:
    """What counts as an attack that succeeded."""
    kind = TASK_TRAITS[part.task].answer
    falls = "success is the share of the images right before that fall below."
    if kind == "map":
        return (
            "An image counts as answered right while its mean Dice over the foreground classes is at least "
            f"{format_value(part.success_dice)}; {falls}"
        )
    if kind == "boxes":
        judged = judgement(part)
        return (
            f"An image counts as answered right while its F1 is at least {judged.success_f1:g}, where the detections "
            f"that score at least {judged.score:g} count and one that overlaps a box of its class by an IoU of at "
            f"least {judged.iou:g} is right; {falls}"
        )
    right = "all its known labels are" if kind == "labels" else "its class is"
    return (
        f"An image counts as answered right when {right} predicted right; success is the share that the "
        "attack turns wrong (or to its target, when targeted) among the images answered right before."
    )


def task_name(part: PartInfo) -> str:
    """The task as a noun to begin a sentence with."""
    return TASK_TRAITS[part.task].title


def class_metrics(table: PartTable, part: PartInfo) -> dict[str, str]:
    """The metrics of single classes, "dice: <class>", each with the name of its class."""
    start = f"{TASK_TRAITS[part.task].class_metric}: "
    return {metric: plain(metric.removeprefix(start)) for metric in table.clean.cells if metric.startswith(start)}


def class_caption(part: PartInfo) -> str:
    """How to read the table of single classes."""
    kind = TASK_TRAITS[part.task].answer
    if kind in ("class", "labels"):
        of = "class" if kind == "class" else "label"
        return f"The share of the images of this {of} that are answered so; clean and in the worst case."
    if kind == "boxes":
        return "Average precision, mean over IoU 0.5 to 0.95, of the classes in the truth; clean and in the worst case."
    return "Mean over the images in which the class occurs, in the truth or in the answer; clean and in the worst case."


def groups_caption(column: str, part: PartInfo) -> str:
    """How to read the table of groups."""
    return (
        f"{metric_heading(TASK_TRAITS[part.task].image_metric)} by {column}: on clean images, and in the worst case "
        "over the attacks. Gap: best less worst group, with the p-value of groups that are alike showing one as large; "
        "not corrected for the number of columns and budgets."
    )


def no_calibration(part: PartInfo) -> str:
    """Why nothing is told of confidence."""
    of = "each pixel" if TASK_TRAITS[part.task].answer == "map" else "a class for each answer"
    return f"Not told: the records hold no probability of {of}."


def legend(part: PartInfo) -> list[str]:
    """What the solid and the dashed lines on the images are; nothing where there are none."""
    kind = TASK_TRAITS[part.task].answer
    if kind == "map":
        return ["border of the truth (solid)", "border of the prediction (dashed)"]
    if kind == "boxes":
        return ["box of the truth (solid)", f"detection that scores at least {judgement(part).score:g} (dashed)"]
    return []
