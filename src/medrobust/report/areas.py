"""What is left over all budgets, and under the strongest single attack: lines of the table of results."""

from __future__ import annotations

from medrobust.evaluation.records import PartInfo
from medrobust.report.table import Line, PartTable, worst_of
from medrobust.statistics import TASK_TRAITS
from medrobust.statistics.across import area_name, strongest_name

AREA_WORDS = (
    "Area under the curve of each metric, from clean at eps 0 to the largest eps, as a share of that range: what is "
    "left on average if every eps in it were as likely."
)
STRONGEST_WORDS = (
    "The strongest single attack: the lowest value under any one attack, the same for all images (in the worst case "
    "above each image has an attack of its own). It was chosen after the fact, and is chosen anew in every resample; "
    "intervals of several like attacks still hold somewhat less than they say (92 % in a simulation)."
)


def areas_of(table: PartTable, part: PartInfo) -> list[tuple[str, list[Line]]]:
    """Norm by norm the lines that have an area; none where there is but one budget."""
    names = [area_name(metric) for metric in TASK_TRAITS[part.task].curves]
    found = []
    for norm in table.norms:
        budgets = [budget for budget in table.budgets if budget[0].norm == norm]
        lines = [line for line in budgets[-1] if any(name in line.cells for name in names)]
        if len(budgets) > 1 and lines:
            found.append((norm, lines))
    return found


def strongest_of(table: PartTable, part: PartInfo) -> list[Line]:
    """The lines of the worst case that know of the strongest attack."""
    names = [strongest_name(metric) for metric in TASK_TRAITS[part.task].curves]
    return [line for line in map(worst_of, table.budgets) if any(name in line.cells for name in names)]
