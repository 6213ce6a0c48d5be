"""The main metric by group: values, intervals, gaps and their p-values."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from scipy import stats
from synthetic_run import answer_row, classifier_records, frame, part_info, row, run_info, segmenter_records

from medrobust.errors import InputError
from medrobust.statistics.gaps import gap_p_values
from medrobust.statistics.subgroups import SUBGROUP_SCHEMA, subgroups
from medrobust.statistics.tabulating import Resampling


def grouped(records: pl.DataFrame, **columns) -> pl.DataFrame:
    """Records whose images have groups by a function of their index."""
    groups = [
        [{"column": name, "group": of(index)} for name, of in columns.items()] for index in records["index"].to_list()
    ]
    return records.with_columns(groups=pl.Series(groups, dtype=records.schema["groups"]))


def info(task="ordinal", part="grades", classes=5, **changes):
    return run_info({part: replace(part_info(task, [f"c{k}" for k in range(classes)]), **changes)})


def of(table: pl.DataFrame, **fields) -> pl.DataFrame:
    for name, value in fields.items():
        table = table.filter(pl.col(name).is_null() if value is None else pl.col(name) == value)
    return table


def sex(index: int) -> str:
    return "F" if index % 20 < 9 else "M"


def test_the_metric_of_each_group_by_hand():
    records = grouped(classifier_records(), sex=sex)
    table = subgroups(records, info())
    assert table.schema == SUBGROUP_SCHEMA
    rows = records.filter((pl.col("attack") == "pgd") & (pl.col("eps") == 1 / 255))
    for group in ("F", "M"):
        inside = rows.filter(pl.Series([sex(index) == group for index in rows["index"]]))
        line = of(table, attack="pgd", eps=1 / 255, group=group, metric="accuracy").row(0, named=True)
        assert line["value"] == pytest.approx(inside["right_after"].mean())
        assert (line["n"], line["clusters"]) == (inside.height, inside["patient"].n_unique())
        assert line["low"] < line["value"] < line["high"]
        drop = of(table, attack="pgd", eps=1 / 255, group=group, metric="drop of accuracy")["value"][0]
        assert drop == pytest.approx(inside["right_before"].mean() - inside["right_after"].mean())
    values = of(table, attack="pgd", eps=1 / 255, kind="group", metric="accuracy")["value"]
    gap = of(table, attack="pgd", eps=1 / 255, kind="gap", metric="accuracy").row(0, named=True)
    assert gap["value"] == pytest.approx(values.max() - values.min())
    assert gap["group"] is None
    assert gap["n"] == 60


def test_a_large_gap_is_shown_and_none_where_groups_are_alike():
    rows = [
        answer_row(0, 0, int(index % 10 < (8 if index % 2 else 1)), index=index, patient=f"p{index}")
        for index in range(100)
    ]
    table = subgroups(grouped(frame(rows), site=lambda index: f"s{index % 2}"), info(part="p", classes=2))
    gap = of(table, attack="pgd", kind="gap", metric="accuracy").row(0, named=True)
    assert gap["value"] == pytest.approx(0.6)  # wrong below 8 of 1, 3, 5, 7, 9 (0.8); below 1 of 0, 2, 4, 6, 8 (0.2)
    assert gap["p_value"] < 0.001
    assert gap["low"] > 0
    clean = of(table, attack="clean", kind="gap", metric="accuracy").row(0, named=True)
    assert (clean["value"], clean["p_value"]) == (0.0, 1.0)


def test_a_small_group_has_neither_figure_nor_name():
    records = grouped(classifier_records(), site=lambda index: {0: "Dr. Rare", 1: None}.get(index % 20, "big"))
    table = subgroups(records, info())
    assert "Dr. Rare" not in table.write_csv()
    small = of(table, kind="too small").row(0, named=True)
    assert (small["value"], small["n"], small["clusters"]) == (1.0, 3, 1)
    unknown = of(table, kind="unknown").row(0, named=True)
    assert (unknown["value"], unknown["n"], unknown["clusters"]) == (None, 3, 1)
    assert of(table, kind="gap").is_empty()
    assert set(of(table, kind="group")["group"]) == {"big"}


def test_bands_stand_in_their_order():
    names = ["under 9", "9 to under 40", "40 to under 65", "65 and over"]
    table = subgroups(grouped(classifier_records(), age=lambda index: names[index % 4]), info())
    # 60 images of 20 patients: five patients by four bands are too few
    assert of(table, kind="too small")["value"].to_list() == [4.0]
    table = subgroups(grouped(classifier_records(patients=None), age=lambda index: names[index % 4]), info())
    assert of(table, attack="clean", kind="group", metric="accuracy")["group"].to_list() == names


def test_lesions_are_grouped_by_size():
    rows = [
        row(
            index=index, dice_before=0.9, dice_after=0.1 if index < 10 else 0.8, right_before=True, right_after=True,
            success=False, loss_before=0.1, loss_after=0.2, volume_unit="ml",
            lesion_volumes_before=[] if index >= 30 else [float(index + 1), 0.5], dice_by_class_before=[0.9],
        )
        for index in range(33)
    ]  # fmt: skip
    table = subgroups(frame(rows), info("segmentation", "p", 2))
    lines = of(table, column="largest lesion", kind="group", attack="pgd", metric="dice")
    assert lines["group"].to_list() == ["up to 10.7 ml", "up to 20.3 ml", "above 20.3 ml"]
    assert lines["value"].to_list() == pytest.approx([0.1, 0.8, 0.8])
    assert of(table, kind="unknown")["n"].to_list() == [3]
    assert subgroups(segmenter_records(), info("segmentation", "tissue", 4)).is_empty()


def test_two_groups_against_scipy():
    rng = np.random.default_rng(3)
    values, second = rng.normal(0, 1, 14), np.arange(14) >= 6
    values[second] += 0.9
    ours = gap_p_values(sums_of(values, second.astype(int)), 14, Resampling())
    theirs = stats.permutation_test(
        (values[~second], values[second]), lambda a, b: abs(a.mean() - b.mean()), alternative="greater", n_resamples=1e5
    )
    assert ours[0] == pytest.approx(theirs.pvalue, abs=0.02)


def sums_of(values: np.ndarray, group: np.ndarray, codes: np.ndarray | None = None) -> np.ndarray:
    """(1, groups, clusters, 2) of images `(n,)`."""
    codes = np.arange(len(values)) if codes is None else codes
    count = codes.max() + 1
    columns = (values, np.ones(len(values)))
    inside = [group == place for place in range(group.max() + 1)]
    return np.array([[[np.bincount(codes, column * of, count) for column in columns] for of in inside]]).swapaxes(2, 3)


@pytest.mark.parametrize("within", [False, True])
def test_groups_that_are_alike_are_seldom_called_different(within):
    """5 % of the time, whether a patient is of one group (dealt anew) or of several (centred bootstrap)."""
    rng = np.random.default_rng(0)
    patients, each, trials = 30, 4, 300
    codes = np.repeat(np.arange(patients), each)
    group = np.tile(np.arange(each) % 2, patients) if within else codes % 3
    claimed = 0
    for _ in range(trials):
        values = rng.normal(0, 1, patients)[codes] + rng.normal(0, 1, len(codes))
        claimed += gap_p_values(sums_of(values, group, codes), patients, Resampling(resamples=400))[0] < 0.05
    assert claimed / trials < 0.085  # 5 % ± 2.8 standard errors


def test_patients_count_and_not_their_images():
    """Ten patients whose images are all alike: as images the gap would be certain."""
    codes = np.repeat(np.arange(12), 50)
    group = codes % 2
    values = np.repeat(np.random.default_rng(1).normal(0, 1, 12), 50) + 0.5 * group
    by_patient = gap_p_values(sums_of(values, group, codes), 12, Resampling())[0]
    by_image = gap_p_values(sums_of(values, group), 600, Resampling())[0]
    assert by_image < 0.001
    assert by_patient > 0.02


def test_options_out_of_range():
    with pytest.raises(InputError, match="confidence must be between"):
        subgroups(classifier_records(), info(), confidence=1.5)
