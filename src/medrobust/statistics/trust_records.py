"""The checks of trust that the records of a run answer by themselves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import pairwise

import polars as pl

from medrobust.evaluation.records import CLEAN, PartInfo
from medrobust.statistics.attack_kinds import (
    SINGLE_STEP,
    WITHOUT_GRADIENTS,
    attack_name,
    is_transfer,
    sees_answers_alone,
    sees_gradients,
)
from medrobust.statistics.conditions import images_of
from medrobust.statistics.metrics import image_values
from medrobust.statistics.task_traits import TASK_TRAITS
from medrobust.statistics.trust_pairs import Budget, Pair, worst_pair
from medrobust.statistics.trust_rules import RULES, Check, Verdict, inapplicable, judged

ROUNDED = 0.005  # a figure stated to two digits is off by up to this
Chosen = Callable[[str], bool]
ENOUGH = 20  # images, to compare with the commonest class


def stated(summary: pl.DataFrame, name: str, part: PartInfo) -> Check:
    """Is the main metric on clean images what the user states?"""
    if part.expected is None:
        return inapplicable("stated", "no figure was stated for clean images (--expect-accuracy)")
    metric = TASK_TRAITS[part.task].main
    rows = summary.filter((pl.col("part") == name) & (pl.col("attack") == CLEAN) & (pl.col("metric") == metric))
    if rows.is_empty() or rows["value"][0] is None:
        return inapplicable("stated", f"the {metric} of clean images could not be measured")
    value, low, high = (rows[column][0] for column in ("value", "low", "high"))
    ends = (value, value) if low is None or high is None else (low, high)
    away = max(ends[0] - part.expected, part.expected - ends[1], 0.0)
    interval = "" if low is None else f" [{low:.2f}, {high:.2f}]"
    found = f"On clean images the {metric} is {value:.3f}{interval}, {part.expected:g} was stated"
    cause = "other weights, another order of the classes, another mean and std, or other data"
    verdict: Verdict = "pass" if away <= ROUNDED else "fail"
    return judged("stated", value, found, f"it is not the model that was meant ({cause})", verdict)


def constant(records: pl.DataFrame, part: PartInfo) -> Check:
    """Does a classifier do better than one answer to everything?"""
    if TASK_TRAITS[part.task].answer != "class":
        return inapplicable("constant", "only an answer of one class can be compared with a constant one")
    images = images_of(records)
    truth, answers = (Counter(images[column].list.first().to_list()) for column in ("truth", "prediction_before"))
    if len(truth) < 2:
        return inapplicable("constant", "all images are of one class")
    commonest = truth.most_common(1)[0][1] / len(images)
    right = float(image_values(images, part, "before").mean())
    told = f"{right:.0%} of the clean images are answered right; always the commonest class would be in {commonest:.0%}"
    few = len(images) < ENOUGH
    verdict: Verdict = "pass" if right > commonest or (few and right == commonest) else "warn"
    if len(answers) == 1:
        verdict = "fail"
    only = "every one gets the same answer, which no attack can change for the worse"
    return judged("constant", right - commonest, told, only if verdict == "fail" else "that says little", verdict)


def budgets(found: list[Budget], part: PartInfo) -> Check:
    """Is less left at larger budgets, in the worst case over the attacks, and under each of several steps or none?

    One step is told of in the worst case alone: from far off, a long one may well lead past what a short one finds.
    """
    pairs = []
    for smaller, larger in pairwise(found):
        if smaller.norm != larger.norm:
            continue
        where = f"eps {larger.text} than at {smaller.text}"
        alone = [
            label for label in larger.left if label in smaller.left and attack_name(label, part) not in SINGLE_STEP
        ]
        pairs += [Pair(larger.left[label], smaller.left[label], f"{where} under {label}") for label in alone]
        first, second = larger.least(lambda _: True), smaller.least(lambda _: True)
        if (len(larger.left) > 1 or not alone) and first is not None and second is not None:
            pairs.append(Pair(first, second, f"{where} in the worst case"))
    if not pairs:
        return inapplicable("budgets", "the run has one budget of this kind")
    worst = worst_pair(pairs)
    verdict = worst.tested(RULES["budgets"].passes)
    more = f"At {worst.where}, {worst.excess:.3f} more is left"
    told = "Nowhere is more left at a larger budget" if verdict == "pass" else more
    return judged("budgets", worst.excess, told, "the attacks fail to use what they are allowed", verdict)


def transfer(found: list[Budget], part: PartInfo) -> Check:
    """Do images made on a surrogate do more than those made on the model?"""
    if not any(is_transfer(label, part) for label in part.attacks):
        return inapplicable("transfer", "no other model was attacked (--surrogate)")

    def direct(label: str) -> bool:
        return sees_gradients(label, part)

    pairs = _pairs(found, direct, lambda label: is_transfer(label, part))
    if not pairs:
        return inapplicable("transfer", "no attack went along the model's own gradients")
    worst = worst_pair(pairs)
    verdict = worst.tested(RULES["transfer"].passes)
    less = f"Images made on another model leave {worst.excess:.3f} less than those made on this one{worst.where}"
    told = "Nowhere do images made on another model leave less" if verdict == "pass" else less
    return judged("transfer", worst.excess, told, "the gradients of this one mislead", verdict)


def single_against_several(found: list[Budget], part: PartInfo) -> Pair | None:
    """What several steps and one step leave; None where the run has not both."""
    return _worst(
        found, lambda label: _is_iterative(label, part), lambda label: attack_name(label, part) in SINGLE_STEP
    )


def alone_against_gradients(found: list[Budget], part: PartInfo) -> Pair | None:
    """What several steps along gradients and attacks on answers alone leave; None where the run has not both."""
    pairs = _pairs(found, lambda label: _is_iterative(label, part), lambda label: sees_answers_alone(label, part))
    return max(pairs, key=lambda pair: pair.missed) if pairs else None


def found_without_gradients(records: pl.DataFrame) -> tuple[float, int, int]:
    """Of the images answered right, what share ensembles broke by a member without gradients alone, and how many.

    The largest over attacks and budgets; the last number is of images, 0 where there is no ensemble of both kinds.
    """
    rows = records.filter(pl.col("right_before") & pl.col("found_by").is_not_null())
    worst = (0.0, 0, 0)
    for _, cell in rows.group_by("attack", "norm", "eps", maintain_order=True):
        alone = cell.filter(pl.col("success") & pl.col("found_by").is_in(WITHOUT_GRADIENTS)).height
        worst = max(worst, (alone / cell.height, alone, cell.height))
    return worst


def stuck_steps(records: pl.DataFrame, part: PartInfo) -> tuple[int, int]:
    """Steps of the attacks along the model's gradients that had none, and all of them.

    Where only a region may change, an image without it has none for another reason: such a run is not counted.
    """
    if any(threat.get("region") or threat.get("masked") for threat in part.threats):
        return 0, 0
    rows = records.filter(pl.col("attack").is_in([label for label in part.attacks if sees_gradients(label, part)]))
    return int(rows["zero_gradients"].sum() or 0), int(rows["steps_used"].sum() or 0)


def _is_iterative(label: str, part: PartInfo) -> bool:
    steps = part.attacks.get(label, {}).get("steps")
    return sees_gradients(label, part) and isinstance(steps, int) and steps > 1


def _worst(found: list[Budget], first: Chosen, second: Chosen) -> Pair | None:
    pairs = _pairs(found, first, second)
    return worst_pair(pairs) if pairs else None


def _pairs(found: list[Budget], first: Chosen, second: Chosen) -> list[Pair]:
    sides = [(budget, budget.least(first), budget.least(second)) for budget in found]
    return [
        Pair(one, other, f" at eps {budget.text}")
        for budget, one, other in sides
        if one is not None and other is not None
    ]
