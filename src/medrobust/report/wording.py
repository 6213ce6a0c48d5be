"""The sentences of a report, computed from the figures and no stronger than they are."""

from __future__ import annotations

import re
from collections import Counter

import polars as pl

from medrobust.evaluation.records import PartInfo
from medrobust.report.numbers import (
    counted,
    format_eps,
    format_interval,
    format_norm,
    format_value,
    listed,
    plain,
)
from medrobust.report.table import Line, PartTable, attacks_of, worst_of
from medrobust.statistics import main_metric

FEW_CLUSTERS = 40  # at 40 a 95 % interval of a mean covers about 93 %, below it less

# A reason may hold a file name, and a file name a patient's: only what is matched here is printed.
_REASONS = (
    (r"not found|missing|no such|does not exist", "file or entry missing"),
    (r"truncat|corrupt|unreadable|cannot be read|cannot read|cannot identify|decode", "file cannot be read"),
    (r"\bnan\b|not finite|infinite|bounds|outside", "values not finite or out of bounds"),
    (r"mask|size|shape|channel", "image or mask of the wrong size or shape"),
    (r"label|class|grade|truth", "label missing or out of range"),
)


def metric_name(metric: str) -> str:
    """A metric as it is written in a sentence or heading."""
    return {"dice": "Dice", "iou": "IoU"}.get(metric, metric)


def budget_text(norm: str, eps: float, part: PartInfo) -> str:
    """A budget with its norm: "L∞ ≤ 4/255"."""
    return f"{format_norm(norm)} ≤ {format_eps(eps, part.dataset.unit)}"


def answer(table: PartTable, part: PartInfo, comparisons: list[pl.DataFrame]) -> list[str]:
    """What is left under the worst case, and which attack does it; SMIA against PGD where both ran."""
    main = main_metric(part.task)
    chosen = table.budgets if len(table.budgets) <= 4 else [table.budgets[0], table.budgets[-1]]
    left = [f"{line[main]!s} at {budget_text(line.norm, line.eps, part)}" for line in map(worst_of, chosen)]
    count = len(attacks_of(table.budgets[-1]))
    over = f"the worst case over {counted(count, 'attack')}" if count > 1 else "under attack"
    whose = "mean Dice" if main == "dice" else main
    first = (
        f"On clean images the {whose} is {table.clean[main]!s}; "
        f"{'in ' if count > 1 else ''}{over} it is {listed(left)}."
    )
    return [first, f"{_strongest(table.budgets[-1], part)}{_smia_clause(comparisons, table.budgets[-1][0])}."]


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


def verdict(row: dict[str, object]) -> str:
    """What a paired comparison (a row of `compare_attacks`) shows, and that nothing is shown when so."""
    low, high, difference = (_float(row[key]) for key in ("low", "high", "difference"))
    first, second = (plain(str(row[key]), 24) for key in ("first", "second"))
    size = f"{metric_name(str(row['metric']))} under {first} minus under {second}"
    told = f"({size} {format_value(difference, 3)} {format_interval(low, high, 3)}".strip() + ", paired)"
    if low is None or high is None:
        return f"whether {first} or {second} is the stronger cannot be told {told}"
    if low <= 0 <= high:
        return f"between {first} and {second} no difference is shown {told}"
    stronger, weaker = (first, second) if high < 0 else (second, first)
    return f"{stronger} is stronger than {weaker} {told}"


def short_verdict(row: dict[str, object]) -> str:
    """The verdict of a paired comparison in a table's cell."""
    low, high = _float(row["low"]), _float(row["high"])
    if low is None or high is None:
        return "no interval"
    if low <= 0 <= high:
        return "no difference shown"
    return f"{plain(str(row['first'] if high < 0 else row['second']), 24)} is stronger"


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
    if part.task == "segmentation":
        return (
            "An image counts as answered right while its mean Dice over the foreground classes is at least "
            f"{format_value(part.success_dice)}; success is the share of the images right before that fall "
            "below."
        )
    right = "all its known labels are" if part.task == "multilabel" else "its class is"
    return (
        f"An image counts as answered right when {right} predicted right; success is the share that the "
        "attack turns wrong (or to its target, when targeted) among the images answered right before."
    )


def threat_model(table: PartTable, part: PartInfo) -> list[str]:
    """What the attacker knows and may do, in words."""
    low, high = part.dataset.bounds
    unit = " HU" if part.dataset.unit == "HU" else ""
    budgets = [budget_text(budget[0].norm, budget[0].eps, part) for budget in table.budgets]
    meaning = {
        "linf": "L∞ bounds the change of every single pixel",
        "l2": "L2 bounds the root of the summed squared changes of all pixels",
        "l1": "L1 bounds the summed absolute changes of all pixels",
    }
    norms = [meaning[norm] for norm in table.norms if norm in meaning]
    sentences = [
        "The attacker knows the model, its weights and the true answer of every image, and changes the image "
        "that the model reads (evasion); neither training data nor model are touched.",
        f"The change is bounded by {listed(budgets, 'or')} in the units of the images, before any "
        f"preprocessing; the changed image stays within {low:g} to {high:g}{unit}.",
    ]
    if norms:
        sentences.append(f"{'; '.join(norms)}.")
    if any(threat.get("masked") for threat in part.threats):
        sentences.append("A mask kept the change to a part of the image.")
    if any(threat.get("quantum") for threat in part.threats):
        sentences.append("The changed images are rounded to values that a file can hold.")
    return sentences


def limits(table: PartTable, part: PartInfo) -> list[str]:
    """What was not tested and how far the figures reach."""
    ran = {attack_name(label, part) for label in part.attacks}
    found = []
    if not ran & {"square", "hopskipjump", "boundary", "simba", "zoo"}:
        found.append(
            "No black-box attack (without gradients) was run. Where gradients are broken or hidden, a "
            "white-box attack can miss what a black-box attack finds: the figures may flatter the model."
        )
    others = [format_norm(norm) for norm in ("linf", "l2", "l1") if norm not in table.norms]
    untested = listed([*others, "spatial and physical changes", "poisoning", "transfer from other models"])
    found.append(
        f"Not tested: {untested}. The worst case is the worst of the attacks listed, not of all possible "
        "ones: true robustness is at most this."
    )
    if not any(options.get("targeted") for options in part.attacks.values()):
        found.append("All attacks were untargeted: any wrong answer counts, whatever its clinical weight.")
    found.append(success_definition(part))
    found.append(
        "Intervals tell the uncertainty from the choice of the images, not from training the model again or "
        "from the attacks' random numbers; they hold for one figure at a time, uncorrected for the number of "
        "figures. A share that is 0 or 1 throughout has the exact binomial interval with "
        f"{'patients' if table.resampled == 'patients' else 'images'} as trials."
    )
    clusters = table.clean[main_metric(part.task)].clusters
    if clusters < FEW_CLUSTERS:
        noun = "patient" if table.resampled == "patients" else "image"
        found.append(f"With {counted(clusters, noun)} the intervals are rough and likely too narrow.")
    found.append("PSNR is averaged over the images that the attack changed; that of an unchanged image is infinite.")
    return found


def attack_name(label: str, part: PartInfo) -> str:
    """The catalogue name of the attack behind a label, in lower case."""
    return str(part.attacks.get(label, {}).get("attack", label)).lower()


def _float(value: object) -> float | None:
    return float(value) if isinstance(value, float | int) else None


def task_name(part: PartInfo) -> str:
    """The task as a noun to begin a sentence with."""
    return {"ordinal": "Ordinal grading", "multilabel": "Multi-label classification"}.get(
        part.task, part.task.capitalize()
    )


def options_text(options: dict[str, object]) -> str:
    """An attack's options in a line; the name and what is not set are left out."""
    words: dict[object, str] = {True: "yes", False: "no"}
    chosen = [
        f"{name} {words[value] if isinstance(value, bool) else value}"
        for name, value in options.items()
        if name != "attack" and value is not None
    ]
    return plain(", ".join(chosen), 400)


def class_metrics(table: PartTable) -> list[str]:
    """The metrics of single classes, "dice: <class>"."""
    return [metric for metric in table.clean.cells if metric.startswith("dice: ")]
