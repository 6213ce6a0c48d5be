"""The conditions under which a part was measured: clean, each attack at each budget, and the worst case.

The worst case is taken per image over the attacks at one norm and eps (as AutoAttack does, arXiv 2003.01690):
where robustness is claimed, an image that any attack breaks is broken.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import polars as pl

from medrobust.evaluation.records import CLEAN, WORST_CASE, PartInfo
from medrobust.statistics.task_traits import TASK_TRAITS


@dataclass(frozen=True)
class Condition:
    """One line of the table: the rows that it is computed from, one an image, sorted by index.

    `when` names the columns that hold the answers: clean images are read from "…_before".
    """

    attack: str
    norm: str
    eps: float
    rows: pl.DataFrame
    when: Literal["before", "after"] = "after"


def images_of(records: pl.DataFrame) -> pl.DataFrame:
    """One row an image, sorted by index, of the records of one part."""
    return records.unique("index", keep="first", maintain_order=True).sort("index")


def conditions_of(records: pl.DataFrame, part: PartInfo) -> Iterator[Condition]:
    """Clean first; then by norm and rising eps the attacks in the order of the run, the worst case last.

    One by one, so that the rows of a large run are not held twice.
    """
    yield Condition(CLEAN, "", 0.0, images_of(records), "before")
    budgets = records.select("norm", "eps").unique(maintain_order=True)
    norms = list(dict.fromkeys(budgets["norm"].to_list()))
    for norm, eps in sorted(budgets.iter_rows(), key=lambda budget: (norms.index(budget[0]), budget[1])):
        group = records.filter((pl.col("norm") == norm) & (pl.col("eps") == eps))
        for label in in_order(group["attack"].unique().to_list(), part):
            yield Condition(label, norm, eps, group.filter(pl.col("attack") == label).sort("index"))
        yield Condition(WORST_CASE, norm, eps, worst_rows(group, part.task))


def worst_rows(records: pl.DataFrame, task: str) -> pl.DataFrame:
    """The row of each image in which the model does worst, sorted by index.

    That is the one answered wrong, or of the lowest Dice or F1; among equals the one of the highest loss.
    """
    judged = pl.col(f"{TASK_TRAITS[task].image_value}_after").cast(pl.Float64).fill_nan(None)
    keys = records.select("index", judged, -pl.col("loss_after").fill_nan(None), row=pl.int_range(pl.len()))
    worst_first = keys.sort(keys.columns[:-1], nulls_last=True, maintain_order=True)
    return records[worst_first.unique("index", keep="first", maintain_order=True)["row"]]


def in_order(labels: Sequence[str], part: PartInfo) -> list[str]:
    """Attack labels in the order in which the run lists them; those it does not list come last."""
    known = list(part.attacks)
    return sorted(labels, key=lambda label: (known.index(label) if label in known else len(known), label))
