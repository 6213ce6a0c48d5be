"""`mr.stability` from a small victim to a folder and back."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import polars as pl
import pydantic
import pytest
import torch
from victims import CASES, assert_same_state, build, state

import medrobust as mr
from medrobust.evaluation.stability_files import StabilityInfo

QUICK = {"pgd": mr.PGD(steps=4), "mi": mr.MIFGSM(steps=4), "smia": mr.SMIA(steps=4)}


def part(name: str, copies: int = 4) -> tuple[mr.Victim, mr.InMemoryDataset]:
    case = CASES[name]
    victim, images, truth = build(case)
    task = "segmentation" if "segmentation" in name else "classification"
    info = mr.DatasetInfo(name, task, tuple("abcd"[: case.classes]), images.shape[1], case.bounds)
    generator = torch.Generator().manual_seed(0)
    samples = [
        mr.Sample(f"id {copy}-{row}", (images[row] + noise).clamp(*case.bounds), truth[row])
        for copy in range(copies)
        for row in range(len(images))
        for noise in [0.05 * torch.rand(images[row].shape, generator=generator)]
    ]
    return victim, mr.InMemoryDataset(info, samples)


@pytest.fixture(scope="module")
def whole() -> mr.Stability:
    first = mr.stability(*part("segmentation"), QUICK, mr.Threat(0.03), seeds=2, pictures=1, name="masks")
    second = mr.stability(*part("ordinal"), QUICK, mr.Threat(0.03), seeds=2, pictures=1, name="grades")
    return first.joined(second)


def test_what_it_tells(whole):
    assert whole.info.reference == "smia"
    assert whole.info.seeds == [0, 1]
    assert whole.info.step_lengths["masks"] == pytest.approx({"pgd": 0.01875, "mi": 0.0075, "smia": 0.01875})
    assert set(whole.trajectories["part"]) == {"masks", "grades"}
    assert whole.info.parts["masks"].evaluated == 12
    assert whole.info.parts["masks"].attacks["smia"]["random_start"] is True
    assert set(whole.tests["second"]) == {"pgd", "mi"}
    assert set(whole.components["scope"]) >= {"segmentation", "ordinal"}
    assert len(whole.maps) == 3
    assert {one.part for one in whole.surfaces} == {"masks", "grades"}
    assert all(isinstance(sentence, str) for sentence in whole.sentences())


@pytest.fixture(scope="module")
def saved(whole, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "analysis"
    whole.save(folder)
    return folder


@pytest.fixture
def copied(saved, tmp_path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "analysis"))


def test_saved_and_read_again_it_is_the_same(whole, saved, tmp_path):
    again = mr.load_stability(saved)
    assert again.trajectories.equals(whole.trajectories)
    assert again.outcomes.equals(whole.outcomes)
    written = pydantic.TypeAdapter(StabilityInfo)
    assert written.dump_json(again.info) == written.dump_json(whole.info)
    assert again.sentences() == whole.sentences()
    assert torch.equal(again.maps[0].final, whole.maps[0].final)
    assert again.surfaces[1].end == pytest.approx(whole.surfaces[1].end)
    again.report(tmp_path / "page.html")
    assert (tmp_path / "page.html").read_bytes() == (saved / "stability.html").read_bytes()
    with pytest.raises(mr.InputError, match="is not an empty folder"):
        whole.save(saved)


def test_a_folder_that_cannot_be_finished_is_not_there(whole, tmp_path, monkeypatch):
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("medrobust.stability_run.write_figures", fail)
    with pytest.raises(mr.InputError, match="cannot be written: No space left"):
        whole.save(tmp_path / "analysis")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda folder: (folder / "stability.json").unlink(), "is no stability analysis: it has no stability.json"),
        (lambda folder: (folder / "stability.json").write_text("{"), "stability.json is damaged"),
        (
            lambda folder: (folder / "stability.json").write_text('{"schema_version": 99}'),
            "schema_version 99 is not 2: made by another medrobust",
        ),
        (lambda folder: (folder / "trajectories.parquet").write_bytes(b"x"), "trajectories.parquet cannot be read"),
        (lambda folder: (folder / "pictures.safetensors").write_bytes(b"x"), "pictures.safetensors is damaged"),
    ],
)
def test_a_damaged_folder(copied, damage, words):
    damage(copied)
    with pytest.raises(mr.InputError, match=words):
        mr.load_stability(copied)


def test_rows_of_other_parts_or_columns(whole, copied):
    path = copied / "outcomes.parquet"
    whole.outcomes.with_columns(part=pl.lit("other")).write_parquet(path)
    with pytest.raises(mr.InputError, match="do not tell of the same parts: 'grades'"):
        mr.load_stability(copied)
    whole.outcomes.with_columns(pl.col("seed").cast(pl.String)).write_parquet(path)
    with pytest.raises(mr.InputError, match="column 'seed' is String where Int64 is expected"):
        mr.load_stability(copied)
    whole.outcomes.drop("l2").write_parquet(path)
    with pytest.raises(mr.InputError, match="column 'l2' is missing"):
        mr.load_stability(copied)


def test_without_its_pictures_it_can_be_read(copied):
    (copied / "pictures.safetensors").unlink()
    assert mr.load_stability(copied).maps == []


def test_what_does_not_go_together(whole):
    with pytest.raises(mr.InputError, match="both analyses have a part"):
        whole.joined(whole)
    other = mr.Stability(
        whole.trajectories, whole.outcomes, replace(whole.info, parts={"x": whole.info.parts["masks"]})
    )
    other.info = replace(other.info, seeds=[5])
    with pytest.raises(mr.InputError, match=r"different seeds, \[0, 1\] and \[5\]"):
        whole.joined(other)
    other.info = replace(other.info, seeds=[0, 1], reference="pgd")
    with pytest.raises(mr.InputError, match="different attacks"):
        whole.joined(other)


@pytest.mark.parametrize(
    ("threat", "steps", "words"),
    [
        (mr.Threat(0.06), 2, "different budgets: eps 0.03 and 0.06; trace both at one"),
        (mr.Threat(0.03, "l2"), 2, 'different budgets: norm "linf" and "l2"'),
        (mr.Threat(0.03), 3, "attack 'pgd' was not run alike in the two analyses: steps 2 and 3; trace both alike"),
    ],
)
def test_other_budgets_and_options_are_no_other_models(threat, steps, words, tmp_path):
    victim, data = part("1 channel", copies=1)

    def traced(name: str, threat: mr.Threat, steps: int) -> mr.Stability:
        attacks = {"pgd": mr.PGD(steps=steps), "smia": mr.SMIA(steps=2)}
        return mr.stability(victim, data, attacks, threat, seeds=1, images=2, pictures=0, name=name)

    first = traced("a", mr.Threat(0.03), 2)
    first.save(tmp_path / "a")
    for one in (first, mr.load_stability(tmp_path / "a")):
        with pytest.raises(mr.InputError, match=words):
            one.joined(traced("b", threat, steps))
        assert set(one.joined(traced("b", mr.Threat(0.03), 2)).info.parts) == {"a", "b"}


def test_data_in_another_unit_have_a_budget_of_their_own():
    victim, data = part("1 channel", copies=1)
    hu = mr.InMemoryDataset(replace(data.info, name="hu", unit="HU"), data.samples)
    attacks = {"pgd": mr.PGD(steps=2), "smia": mr.SMIA(steps=2)}
    first, second = (
        mr.stability(victim, one, attacks, mr.Threat(eps), seeds=1, images=2, pictures=0)
        for one, eps in ((data, 0.03), (hu, 0.06))
    )
    assert len(first.joined(second).info.parts) == 2


def test_two_models_of_one_data_set_are_told_apart():
    victim, data = part("ordinal")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        second = mr.Victim(CASES["ordinal"].model(), CASES["ordinal"].task)
    found = [
        mr.stability(one, data, QUICK, mr.Threat(0.03), seeds=2, pictures=0, name=name)
        for name, one in (("first", victim), ("second", second))
    ]
    both = found[0].joined(found[1])
    rows = both.components.filter(component="model", quantity="effect")
    assert rows["value"].null_count() == 0
    assert rows["models"].unique().to_list() == [2]


def test_the_model_is_left_as_it_was():
    victim, data = part("1 channel", copies=1)
    before = state(victim.model)
    mr.stability(victim, data, QUICK, mr.Threat(0.03), seeds=1, pictures=1)
    assert_same_state(before, state(victim.model))


def test_a_budget_must_be_named_for_data_in_a_unit():
    victim, data = part("1 channel", copies=1)
    hu = mr.InMemoryDataset(replace(data.info, unit="HU"), data.samples)
    with pytest.raises(mr.InputError, match=r"is not in \[0, 1\] but in HU: give a threat"):
        mr.stability(victim, hu)
    with pytest.raises(mr.InputError, match="seeds must be a whole number of at least 1"):
        mr.stability(victim, data, seeds=0)


def test_usual_attacks_and_budget():
    victim, data = part("1 channel", copies=1)
    found = mr.stability(victim, data, seeds=1, images=2, pictures=0)
    [only] = found.info.parts.values()
    assert list(only.attacks) == ["pgd", "mi", "smia"]
    assert only.threats[0]["eps"] == 4 / 255
