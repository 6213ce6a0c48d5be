"""Several models side by side: the figures are those of their runs, and runs that cannot be compared are refused."""

from __future__ import annotations

from dataclasses import replace

import polars as pl
import pytest
from synthetic_run import BUDGETS, answer_row, frame, part_info, run_info

import medrobust as mr
from medrobust.errors import InputError
from medrobust.statistics import Check
from medrobust.statistics.tradeoff import TRADEOFF_SCHEMA


def run_of(right_clean: int, right: dict[str, list[int]], **changes) -> mr.Run:
    """Ten images, so many of which are answered right: clean, and under each attack at each of two budgets."""
    rows = [
        answer_row(0, int(index >= right_clean), int(index >= left), attack=attack, eps=eps, part="grades", index=index)
        for attack, lefts in right.items()
        for eps, left in zip(BUDGETS, lefts, strict=False)
        for index in range(10)
    ]
    part = part_info("classification", "ab", evaluated=10, size=10)
    part = replace(part, attacks={name: {"attack": name} for name in right}, threats=part.threats[:2])
    return mr.Run(frame(rows), run_info({"grades": replace(part, **changes)}))


def test_each_model_has_its_figures_clean_and_in_the_worst_case():
    weak = run_of(9, {"pgd": [5, 1], "smia": [4, 2]})
    hard = run_of(7, {"pgd": [7, 6], "smia": [6, 6]})
    found = mr.tradeoff({"weak": weak, "hard": hard})
    assert found.table.columns == list(TRADEOFF_SCHEMA)
    assert found.table["model"].to_list() == ["weak", "hard"] * 2
    assert found.table["clean"].to_list() == pytest.approx([0.9, 0.7] * 2)
    assert found.table["attacked"].to_list() == pytest.approx([0.4, 0.6, 0.1, 0.6])
    assert found.table["eps"].to_list() == [BUDGETS[0]] * 2 + [BUDGETS[1]] * 2
    row = found.table.row(3, named=True)
    worst = hard.summary.filter(attack="worst case", metric="accuracy", eps=BUDGETS[1])
    assert (row["attacked_low"], row["attacked_high"]) == worst.select("low", "high").row(0)
    assert row["attacked_low"] < 0.6 < row["attacked_high"]
    assert row["clean_low"] < 0.7 < row["clean_high"]


@pytest.mark.parametrize(
    ("other", "told"),
    [
        ({"data_sha256": "e" * 64}, "differ in their images"),
        ({"evaluated": 9}, "differ in their number of images"),
        ({"task": "ordinal"}, "differ in their task"),
        ({"threats": []}, "differ in their budgets"),
        ({"attacks": {"pgd": {"attack": "pgd", "steps": 3}, "smia": {"attack": "smia"}}}, "attacked by other attacks"),
    ],
)
def test_runs_that_say_nothing_of_each_other_are_refused(other, told):
    attacks = {"pgd": [5, 1], "smia": [4, 2]}
    with pytest.raises(InputError, match=f"'one' and 'two' .*{told}"):
        mr.tradeoff({"one": run_of(9, attacks), "two": run_of(9, attacks, **other)})
    with pytest.raises(InputError, match="at least one run"):
        mr.tradeoff({})


def test_afterchecks_are_no_parts_of_it():
    run = run_of(9, {"pgd": [5, 1]})
    rows = run.records.with_columns(part=pl.lit("grades, JPEG 90"))
    info = replace(run.info, parts={**run.info.parts, "grades, JPEG 90": run.info.parts["grades"]})
    found = mr.tradeoff({"one": mr.Run(pl.concat([run.records, rows]), info)})
    assert found.table["part"].unique().to_list() == ["grades"]


def test_a_model_whose_figures_are_not_to_be_trusted_is_told():
    run = run_of(9, {"pgd": [5, 6]})  # more is left at the larger budget
    run.trust = {"grades": [Check("steps", "title", "fail", 0.5, "", "The loss falls with more steps.")]}
    found = mr.tradeoff({"honest": run_of(9, {"pgd": [5, 1]}), "hiding": run})
    (told,) = found.distrusted
    assert told.startswith("hiding fails 1 check of trust (steps): it may hide its gradients")
    assert told in " ".join(repr(found).split())
    assert "hiding fails 1 check of trust" in found.markdown()
