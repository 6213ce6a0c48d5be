from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from medrobust.data.options import DataOptions, choose_task, evenly
from medrobust.errors import InputError


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"task": "clasification"}, "unknown task 'clasification': did you mean 'classification'"),
        ({"classes": 1}, "classes must be a number, 2 or more"),
        ({"classes": True}, "classes must be"),
        ({"classes": ("a",)}, "classes must be 2 or more names"),
        ({"classes": ("a", 3)}, "classes must be"),
        ({"classes": ("a", "b", "a")}, "classes: 'a' is there twice"),
        ({"resize": 0}, "resize must be a side in pixels"),
        ({"resize": (3, 4, 5)}, "resize must be"),
        ({"resize": 2.5}, r"resize must be .*, got 2\.5"),
        ({"limit": 0}, "limit must be a whole number, 1 or more, got 0"),
        ({"limit": "ten"}, "limit must be"),
        ({"channels": 2}, "channels must be 1 or 3, got 2"),
        ({"split": ""}, "split must be a name"),
        ({"ignore_index": 256}, "ignore_index must be a whole number from -1 to 255, got 256"),
        ({"ignore_index": -2}, "ignore_index must be a whole number"),
        ({"ignore_index": 2.0}, "ignore_index must be a whole number"),
        ({"ignore_index": True}, "ignore_index must be a whole number"),
        ({"ignore_index": "255"}, "ignore_index must be a whole number"),
        ({"ignore_index": 2, "classes": 3}, "ignore_index must be none of the values 0 to 2, .* got 2"),
        ({"ignore_index": 0, "classes": ("a", "b")}, "ignore_index must be none of the values 0 to 1"),
        ({"ignore_index": 1, "label_column": ("a", "b", "c")}, "ignore_index must be none of the values 0 to 1"),
        ({"ignore_index": 0, "task": "multilabel"}, "ignore_index must be none of the values 0 to 1"),
        ({"table": 3}, "table must be a name, got 3"),
        ({"label_column": ()}, "label_column must be 1 or more names"),
    ],
)
def test_values_that_are_refused(values: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        DataOptions(**values)


def test_lists_become_tuples() -> None:
    values: dict[str, Any] = {"classes": ["a", "b"], "resize": [3, 4], "label_column": ["x"]}
    options = DataOptions(**values)
    assert (options.classes, options.size, options.label_column) == (("a", "b"), (3, 4), ("x",))
    assert DataOptions(resize=7).size == (7, 7)
    assert DataOptions().size is None


def test_ignore_index_beside_the_classes() -> None:
    names = ("a", "b", "c", "d")
    assert DataOptions(ignore_index=3, classes=3).ignore_index == 3
    assert DataOptions(ignore_index=2, classes=names, label_column=names).ignore_index == 2


@pytest.mark.parametrize(("count", "limit"), [(10, 3), (10, 10), (10, 99), (7, 1), (100, 7)])
def test_evenly(count: int, limit: int) -> None:
    chosen = evenly(range(count), limit)
    assert len(chosen) == min(count, limit)
    assert chosen[0] == 0
    steps = {after - before for before, after in pairwise(chosen)}
    assert len(steps) <= 2
    assert evenly(range(count), None) == tuple(range(count))


def test_choose_task() -> None:
    assert choose_task(None, "ordinal", ["classification", "ordinal"], "x") == "ordinal"
    with pytest.raises(InputError, match="x: task 'segmentation' does not fit"):
        choose_task("segmentation", "ordinal", ["classification", "ordinal"], "x")
