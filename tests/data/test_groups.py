"""Columns to group by: how they are written, what groups their values make, and where they come from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from synthetic_dicom import image, save

import medrobust as mr
from medrobust.data.groups import GroupColumn, group_labels, read_groups
from medrobust.errors import InputError

AGE = GroupColumn("age", (40, 65))


@pytest.mark.parametrize(
    "written",
    [
        "sex, age:40,65,site",
        ["sex", "age:40,65", "site"],
        ["sex", {"age": [40, 65]}, "site"],
        {"sex": None, "age": [40, 65], "site": []},
        [GroupColumn("sex"), AGE, GroupColumn("site")],
    ],
)
def test_ways_to_write_columns(written):
    assert read_groups(written) == (GroupColumn("sex"), AGE, GroupColumn("site"))


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("sex,sex", "'sex' is there twice"),
        ("age:old", "write numbers behind the colon"),
        ({"age": [65, 40]}, "cut at rising numbers"),
        ({"age": ["40"]}, "cut at rising numbers"),
        ("sex,,age", "must be a name"),
        (3, "must be names of columns"),
    ],
)
def test_columns_that_cannot_be_used(written, words):
    with pytest.raises(InputError, match=words):
        read_groups(written)


def test_a_band_begins_at_its_cut():
    labels = group_labels(AGE, ["39.9", "40", "64", "65", "80", "", None, "old"])
    middle, old = "40 to under 65", "65 and over"
    assert labels == ["under 40", middle, middle, old, old, None, None, None]


def test_texts_and_codes_are_groups_as_they_are():
    assert group_labels(GroupColumn("sex"), ["F", "M", " F ", ""]) == ["F", "M", "F", None]
    assert group_labels(GroupColumn("site"), ["0", "1", "2", "1"]) == ["0", "1", "2", "1"]
    assert group_labels(GroupColumn("kind"), ["2D", "3D", "3D+t"]) == ["2D", "3D", "3D+t"]


def test_a_text_among_numbers_leaves_no_number_as_it_is():
    """Exact ages in the records would tell who it is, be one of them unknown or written as in DICOM."""
    labels = group_labels(GroupColumn("age"), ["63", "71", "n/a", "55", "63.5", "80"])
    assert [label is None for label in labels] == [False, False, True, False, False, False]
    assert all(label is None or "under" in label or "over" in label for label in labels)
    assert group_labels(AGE, ["063Y", "018M", "71Y"]) == ["40 to under 65", "under 40", "65 and over"]
    assert not {"063Y", "071Y"} & set(group_labels(GroupColumn("age"), ["063Y", "071Y", "055Y"]))
    assert group_labels(GroupColumn("site"), ["north", "south", "63", "2"]) == ["north", "south", None, "2"]


def test_numbers_without_cuts_are_cut_in_thirds():
    ages = np.random.default_rng(0).permutation(np.arange(20, 80))
    labels = group_labels(GroupColumn("age"), [str(age) for age in ages])
    assert set(labels) == {"under 39.7", "39.7 to under 59.3", "59.3 and over"}
    assert [labels.count(label) for label in sorted(set(labels))] == [20, 20, 20]


@pytest.mark.parametrize("values", [["45", "46"], ["45", "45"], ["1.5", "3", "3"], ["71.3812"]])
def test_no_number_that_may_be_an_age_stays_as_it_is(values):
    labels = group_labels(GroupColumn("age"), values)
    assert not set(labels) & set(values)
    assert all(label is not None and ("under" in label or "over" in label) for label in labels)


def test_in_memory():
    samples = [mr.Sample(f"s{k}", torch.rand(1, 4, 4), torch.tensor(k % 2)) for k in range(3)]
    info = mr.DatasetInfo("set", "classification", ("a", "b"), channels=1)
    data = mr.InMemoryDataset(info, samples, groups={"sex": ["F", "M", None], "age:40,65": [38, 71, 50]})
    assert data.info.groups == (GroupColumn("sex"), AGE)
    assert dict(data[1].columns) == {"sex": "M", "age": "71"}
    assert data[2].columns["sex"] == ""
    with pytest.raises(InputError, match="'sex' has 2 values for 3 samples"):
        mr.InMemoryDataset(info, samples, groups={"sex": ["F", "M"]})


@pytest.fixture
def table(tmp_path: Path, write_image) -> Path:
    for name in "abc":
        write_image(tmp_path / "set" / "images" / f"{name}.png", ord(name))
    path = tmp_path / "set" / "labels.csv"
    path.write_text("image,label,patient,sex,age\na.png,0,p1,F,38\nb.png,1,p2,M,\nc.png,1,p3,F,70\n")
    return path


def test_a_column_of_a_table(table):
    data = mr.open_dataset(table.parent, mr.DataOptions(groups="sex,age:40,65"))
    assert data.info.groups == (GroupColumn("sex"), AGE)
    assert data[0].columns["age"] == "38"
    assert mr.open_dataset(table.parent).info.groups == ()


@pytest.mark.parametrize(
    ("groups", "words"),
    [
        ("sexx", "unknown column to group by 'sexx': did you mean 'sex'"),
        ("patient", "unknown column to group by 'patient'"),
        ("sex:1", "column 'sex': 'F' is no number to cut"),
    ],
)
def test_columns_that_a_table_does_not_have(table, groups, words):
    with pytest.raises(InputError, match=words):
        mr.open_dataset(table.parent, mr.DataOptions(groups=groups))


def test_data_without_columns(tmp_path, write_image):
    for name in ("no", "yes"):
        write_image(tmp_path / "set" / name / "a.png", 3)
    with pytest.raises(InputError, match="have no columns to group by"):
        mr.open_dataset(tmp_path / "set", mr.DataOptions(groups="sex"))


@pytest.fixture
def scans(tmp_path) -> Path:
    for number, (age, sex) in enumerate([("045Y", "F"), ("018M", "M"), ("", "F")]):
        elements = {"PatientAge": age, "PatientSex": sex, "Manufacturer": "ACME", "InstitutionName": "St. Elsewhere"}
        folder = tmp_path / "scans" / ("no" if number else "yes")
        folder.mkdir(parents=True, exist_ok=True)
        save(image(np.full((8, 8), number + 1, np.uint16), **elements), folder / f"{number}.dcm")
    return tmp_path / "scans"


def test_of_a_dicom_header_only_what_is_named(scans):
    data = mr.open_dataset(scans, mr.DataOptions(groups="PatientAge,PatientSex"))
    found = {data[index].id: dict(data[index].columns) for index in range(3)}
    assert found["yes/0.dcm"] == {"PatientAge": "45", "PatientSex": "F"}
    assert found["no/1.dcm"] == {"PatientAge": "1.5", "PatientSex": "M"}
    assert found["no/2.dcm"] == {"PatientSex": "F"}
    assert mr.open_dataset(scans)[0].columns == {}


@pytest.mark.parametrize("identity", ["PatientName", "PatientID", "PatientBirthDate", "StudyDate", "AccessionNumber"])
def test_an_identity_in_a_dicom_header_is_no_group(scans, identity):
    with pytest.raises(InputError, match="unknown column to group by"):
        mr.open_dataset(scans, mr.DataOptions(groups=identity))


class Mean(torch.nn.Module):
    def forward(self, x):
        level = x.mean((1, 2, 3))
        return torch.stack([0.5 - level, level - 0.5], 1)


def test_records_hold_bands_and_no_number():
    ages = [38, 45, 52, 61, 66, 71, 83, None]
    images = torch.rand(8, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    samples = [mr.Sample(f"s{k}", images[k], torch.tensor(k % 2)) for k in range(8)]
    info = mr.DatasetInfo("set", "classification", ("a", "b"), channels=1)
    data = mr.InMemoryDataset(info, samples, groups={"sex": list("FMFMFMFM"), "age": ages})
    victim = mr.Victim(Mean(), mr.Classification(2), bounds=(0.0, 1.0))
    run = mr.evaluate(victim, data, {"fgsm": mr.FGSM(), "pgd": mr.PGD(steps=2)}, [mr.Threat(eps=1 / 255)], batch_size=3)
    groups = run.records.explode("groups").unnest("groups").filter(pl.col("column") == "age")
    assert groups.height == 16
    by_image = dict(groups.select("index", "group").iter_rows())
    assert [by_image[index] for index in range(8)] == [
        *["under 52"] * 2, *["52 to under 66"] * 2, *["66 and over"] * 3, None,
    ]  # fmt: skip
    assert run.info.parts["set"].dataset.groups == (GroupColumn("sex"), GroupColumn("age"))


def test_without_columns_records_hold_no_groups():
    data = mr.open_dataset("embedded:level", mr.DataOptions(limit=2))
    assert data.info.groups == ()
    grouped = mr.open_dataset("embedded:level", mr.DataOptions(limit=2, groups="z_mm:0"))
    assert grouped.info.groups == (GroupColumn("z_mm", (0,)),)
    with pytest.raises(InputError, match="embedded:level: unknown column"):
        mr.open_dataset("embedded:level", mr.DataOptions(groups="age"))
