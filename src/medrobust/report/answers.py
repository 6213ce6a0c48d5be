"""What the truth of an image says, and what the model answered, in the words of a caption."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from medrobust.evaluation.records import PartInfo
from medrobust.report.numbers import counted, format_value, listed, plain
from medrobust.statistics import TASK_TRAITS, class_name, judgement, known_labels

_LISTED = 6  # detections that a caption names
_UNKNOWN = "answer not recorded"

Row = dict[str, Any]


def is_right(row: Row, when: str, part: PartInfo) -> bool | None:
    """Whether the answer is right, if the records and the truth tell."""
    truth = row.get("truth")
    labels = TASK_TRAITS[part.task].answer == "labels"
    if labels and truth and not known_labels(np.array(truth, float), part.dataset).any():
        return None
    right: bool | None = row.get(f"right_{when}")
    return right


def truth_text(row: Row, part: PartInfo) -> str:
    """The true class, labels or objects; "" for a class map."""
    truth = row.get("truth")
    kind = TASK_TRAITS[part.task].answer
    if kind == "map" or truth is None:
        return ""
    if kind == "boxes":
        counts = Counter(plain(class_name(part.dataset, label), 30) for label in truth)
        return listed([f"{count} × {name}" for name, count in counts.items()]) or "no object"
    if kind == "labels" and truth:
        known = known_labels(np.array(truth, float), part.dataset)
        return _labels(np.where(known, truth, 0).tolist(), None, part) if known.any() else "unknown"
    return plain(class_name(part.dataset, truth[0])) if truth else ""


def answer_text(row: Row, when: str, part: PartInfo) -> str:
    """The class with its confidence, the labels found, the mean Dice, or what was found and missed."""
    kind = TASK_TRAITS[part.task].answer
    if kind == "map":
        return f"Dice {format_value(row.get(f'dice_{when}'))}"
    answer, scores = row.get(f"prediction_{when}"), row.get(f"scores_{when}")
    if kind == "boxes":
        return _UNKNOWN if answer is None else _found(row, when, part)
    if not answer:
        return _UNKNOWN
    if kind == "labels":
        return _labels(answer, scores, part)
    name = plain(class_name(part.dataset, answer[0]))
    return f"{name} ({format_value(scores[answer[0]])})" if scores and answer[0] < len(scores) else name


def counting_detections(row: Row, when: str, part: PartInfo) -> list[int]:
    """Places of the detections that score enough to count."""
    least = judgement(part).score
    return [place for place, score in enumerate(row.get(f"scores_{when}") or []) if score >= least]


def _found(row: Row, when: str, part: PartInfo) -> str:
    """For instance "2 of 3 found, 1 false positive: polyp (0.93), polyp (0.71)"."""
    truth, misses, wrong = row.get("truth") or [], row.get(f"misses_{when}"), row.get(f"false_positives_{when}")
    said = [f"{len(truth) - round(misses)} of {len(truth)} found"] if truth and misses is not None else []
    if wrong:
        said.append(counted(round(wrong), "false positive"))
    places = counting_detections(row, when, part)
    answers = [
        f"{plain(class_name(part.dataset, row[f'prediction_{when}'][place]), 30)} "
        f"({format_value(row[f'scores_{when}'][place])})"
        for place in places[:_LISTED]
    ]
    if len(places) > _LISTED:
        answers.append(f"{len(places) - _LISTED} more")
    return ": ".join(filter(None, [", ".join(said), listed(answers)])) or "nothing found"


def _labels(answer: list[int], scores: list[float] | None, part: PartInfo) -> str:
    found = [
        plain(class_name(part.dataset, place), 30) + (f" ({format_value(scores[place])})" if scores else "")
        for place, value in enumerate(answer)
        if value == 1
    ]
    return listed(found) if found else "no finding"
