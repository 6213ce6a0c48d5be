"""What the report tells of clinical harm: costs of the answers by attack and budget, and the costs themselves."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from medrobust.evaluation.records import PartInfo
from medrobust.report.budgets import budget_text
from medrobust.report.numbers import format_value, plain
from medrobust.report.table import PartTable, part_table, worst_of
from medrobust.statistics.harm import COST, COSTLY, RISE, costs_of

METRICS = (COST, RISE, COSTLY)


@dataclass(frozen=True)
class HarmTable:
    """Costs of a part: what the answers cost, of each wrong answer by the true class, and the main sentence."""

    table: PartTable
    classes: list[str]
    costs: list[list[str]]
    sentence: str

    metrics = METRICS


def harm_table(table: pl.DataFrame, name: str, part: PartInfo) -> HarmTable | None:
    """From what `medrobust.statistics.harm` returned; None for a task without costs."""
    lines, costs = part_table(table, name), costs_of(part)
    if lines is None or costs is None:
        return None
    worst = worst_of(lines.hardest(COST, highest=True))
    sentence = (
        f"An answer costs {lines.clean[COST]!s} on average on clean images, and {worst[COST]!s} in the costliest case "
        f"at {budget_text(worst.norm, worst.eps, part)}: a rise of {worst[RISE]!s}."
    )
    return HarmTable(
        lines,
        [plain(one, 40) for one in part.dataset.classes],
        [[format_value(cost, 0) if cost == int(cost) else f"{cost:g}" for cost in row] for row in costs],
        sentence,
    )
