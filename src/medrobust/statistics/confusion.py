"""Which class turns into which: answers counted by the truth, and by the answer to the clean image."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import polars as pl
from numpy.typing import NDArray

from medrobust.evaluation.records import PartInfo, RunInfo
from medrobust.statistics.metric import class_name
from medrobust.statistics.metrics import known_labels
from medrobust.statistics.summary import key_of
from medrobust.statistics.tabulating import KEY, PartRecords, Resampling, Row, tabulate
from medrobust.statistics.task_traits import TASK_TRAITS

TRUTH, BEFORE = "truth", "clean answer"

CONFUSION_SCHEMA = {
    **KEY,
    "label": pl.String,  # of a multi-label task, with the classes "no" and "yes"; null for others
    "counted_by": pl.String,  # "truth", or "clean answer": what it was before the attack
    "from_class": pl.String,
    "to_class": pl.String,  # the answer: to the clean image where `attack` is "clean", else to the attacked one
    "count": pl.Int64,  # images
    "share": pl.Float64,  # of the images of `from_class`; null where there are none
}

Codes = NDArray[np.int64]


def confusion(records: pl.DataFrame, info: RunInfo) -> pl.DataFrame:
    """Confusion matrices as a long table, for every task whose answers are classes or labels.

    Of a multi-label task the known labels alone are counted. Counts have no interval: those of their shares are in the
    summary, as "recall: <class>".

    Returns:
        A row for each condition (clean: by truth alone) and pair of classes; columns as `CONFUSION_SCHEMA`.
    """
    return tabulate(records, info, Resampling(), _rows, CONFUSION_SCHEMA)


def _rows(part: PartRecords) -> Iterator[Row]:
    answer = TASK_TRAITS[part.info.task].answer
    if answer not in ("class", "labels"):
        return
    for condition, _ in part.conditions():
        key = key_of(condition)
        sources = {TRUTH: "truth"} if condition.when == "before" else {TRUTH: "truth", BEFORE: "prediction_before"}
        truth = _numbers(condition.rows, "truth")
        answers = _numbers(condition.rows, f"prediction_{condition.when}")
        for counted_by, column in sources.items():
            source = _numbers(condition.rows, column)
            for label, names, before, after in _questions(part.info, truth, source, answers):
                for row in _counted(names, before, after):
                    yield {**key, "label": label, "counted_by": counted_by, **row}


def _questions(
    info: PartInfo, truth: Codes, source: Codes, answers: Codes
) -> Iterator[tuple[str | None, list[str], Codes, Codes]]:
    """Each with its label, the names of its classes, and the images' classes from and to."""
    if TASK_TRAITS[info.task].answer == "class":
        count = max(len(info.dataset.classes), int(max(source.max(), answers.max())) + 1)
        yield None, [class_name(info.dataset, place) for place in range(count)], source[:, 0], answers[:, 0]
        return
    known = known_labels(truth.astype(np.float64), info.dataset)
    for place in range(truth.shape[1]):
        used = known[:, place]
        yield class_name(info.dataset, place), ["no", "yes"], source[used, place], answers[used, place]


def _counted(names: list[str], before: Codes, after: Codes) -> Iterator[Row]:
    size = len(names)
    counts = np.bincount(before * size + after, minlength=size * size).reshape(size, size)
    for name, row in zip(names, counts, strict=True):
        total = int(row.sum())
        for to_class, count in zip(names, row, strict=True):
            share = int(count) / total if total else None
            yield {"from_class": name, "to_class": to_class, "count": int(count), "share": share}


def _numbers(rows: pl.DataFrame, column: str) -> Codes:
    """A column of lists of one length, `(n, length)`."""
    return np.array(rows[column].to_list(), dtype=np.int64).reshape(rows.height, -1)
