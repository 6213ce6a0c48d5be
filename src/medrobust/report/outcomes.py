"""What became of an image under all attacks, and which images came to most harm."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import polars as pl

from medrobust.evaluation.records import PartInfo
from medrobust.report.answers import is_right

Outcome = Literal["fooled", "held", "wrong before"]
OUTCOME_MARKS: dict[Outcome, str] = {"fooled": "✗", "held": "✓", "wrong before": "–"}


def outcome_of(rows: pl.DataFrame, part: PartInfo) -> Outcome | None:
    """Of the rows of one image: fooled by any attack at any budget, held against all, or wrong on the clean image.

    None when records or truth do not tell.
    """
    answers = [(is_right(row, "before", part), is_right(row, "after", part)) for row in rows.iter_rows(named=True)]
    if not answers or answers[0][0] is None:
        return None
    if not answers[0][0]:
        return "wrong before"
    return "fooled" if any(after is False for _, after in answers) else "held"


def by_harm(rows: Mapping[int, pl.DataFrame], part: PartInfo) -> list[int]:
    """Places of images in the data set, the worst first.

    Those that were fooled first, by how many of the attacks and budgets, then by how far the loss rose; then those that
    held, and last those that were wrong before.
    """
    return sorted(rows, key=lambda index: (_harm(rows[index], part), -index), reverse=True)


def _harm(rows: pl.DataFrame, part: PartInfo) -> tuple[int, int, float]:
    outcome = outcome_of(rows, part)
    wrong = sum(is_right(row, "after", part) is False for row in rows.iter_rows(named=True))
    rise = (rows["loss_after"] - rows["loss_before"]).drop_nulls().drop_nans()
    largest = float(rise.to_numpy().max()) if len(rise) else 0.0
    if outcome == "fooled":
        return 2, wrong, largest
    return (1 if outcome == "held" else 0), 0, largest
