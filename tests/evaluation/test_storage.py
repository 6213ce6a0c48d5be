"""A run on disk: what is saved is what is loaded, whole or not at all."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import polars as pl
import pytest
import torch
from polars.testing import assert_frame_equal
from synthetic_run import detection_run

import medrobust as mr
from medrobust.data import DatasetInfo, InMemoryDataset, Sample
from medrobust.errors import InputError
from medrobust.evaluation import StoredRun, check_output_folder, save_run


@pytest.fixture(scope="module")
def run(trained) -> mr.Run:
    victim, images, truth = trained
    info = DatasetInfo(name="slices", task="ordinal", classes=tuple("abcde"), channels=1)
    data = InMemoryDataset(info, [Sample(f"s{k}", images[k], truth[k]) for k in range(8)])
    return mr.evaluate(victim, data, threats=[mr.Threat(eps=2 / 255)], config={"note": "x"})


@pytest.fixture(scope="module")
def saved(run, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "run"
    run.save(folder)
    return folder


def test_round_trip(run, tmp_path):
    run.save(tmp_path / "run")
    assert {path.name for path in (tmp_path / "run").iterdir()} == {
        "run.json", "records.parquet", "gallery.safetensors", "report.html", "trust.json",
    }  # fmt: skip
    loaded = mr.load_run(tmp_path / "run")
    assert_frame_equal(loaded.records, run.records)
    assert loaded.info == run.info
    assert repr(loaded.table()) == repr(run.table())
    for ours, theirs in zip(run.gallery, loaded.gallery, strict=True):
        assert torch.equal(ours.clean, theirs.clean)
        assert [a.attack for a in ours.attacks] == [a.attack for a in theirs.attacks]
        assert torch.equal(ours.attacks[1].adversarial, theirs.attacks[1].adversarial)


def test_a_report_is_rebuilt_from_the_records_alone(run, tmp_path):
    run.save(tmp_path / "run")
    mr.load_run(tmp_path / "run").report(tmp_path / "again.html")
    assert (tmp_path / "again.html").read_bytes() == (tmp_path / "run" / "report.html").read_bytes()
    (tmp_path / "run" / "gallery.safetensors").unlink()
    assert mr.load_run(tmp_path / "run").gallery == []


def test_boxes_come_back_as_they_were(tmp_path):
    made = detection_run()
    save_run(StoredRun(made.records, made.info, made.gallery), tmp_path / "run")
    loaded = mr.load_run(tmp_path / "run")
    assert_frame_equal(loaded.records, made.records)
    none = loaded.records.filter(pl.col("truth").list.len() == 0)
    assert len(none) == 6 * 9
    assert none["truth_boxes"].to_list() == [[]] * len(none)
    assert loaded.info.parts["organs"].victim["task_options"]["score"] == 0.5


def test_does_not_touch_another_run(run, tmp_path):
    run.save(tmp_path / "run")
    before = (tmp_path / "run" / "run.json").read_bytes()
    with pytest.raises(InputError, match="holds another run"):
        run.save(tmp_path / "run")
    assert (tmp_path / "run" / "run.json").read_bytes() == before
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    with pytest.raises(InputError, match="not an empty folder"):
        run.save(tmp_path / "mine")
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="not an empty folder"):
        run.save(tmp_path / "file")


def test_an_empty_folder_may_be_filled(run, tmp_path):
    (tmp_path / "run").mkdir()
    run.save(tmp_path / "run")
    assert mr.load_run(tmp_path / "run").info == run.info


def test_nothing_is_half_written(run, tmp_path, monkeypatch):
    def full(*_args, **_options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pl.DataFrame, "write_parquet", full)
    with pytest.raises(InputError, match="No space left"):
        run.save(tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def edit_info(change):
    def damage(folder):
        info = json.loads((folder / "run.json").read_text())
        change(info)
        (folder / "run.json").write_text(json.dumps(info))

    return damage


def edit_records(change):
    return lambda folder: change(pl.read_parquet(folder / "records.parquet")).write_parquet(folder / "records.parquet")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "run.json").unlink(), r"is no run: it has no run.json"),
        (lambda f: (f / "run.json").write_text("{"), r"run.json is damaged"),
        (lambda f: (f / "run.json").write_text("[]"), r"run.json is damaged"),
        (lambda f: (f / "records.parquet").unlink(), r"records.parquet cannot be read"),
        (lambda f: (f / "records.parquet").write_bytes(b"PAR1 nonsense"), r"records.parquet cannot be read"),
        (
            lambda f: pl.read_parquet(f / "records.parquet").drop("eps").write_parquet(f / "records.parquet"),
            r"records.parquet has no column 'eps'",
        ),
        (lambda f: (f / "run.json").write_text('{"schema_version": ' + "[" * 100_000), r"run.json is damaged"),
        (edit_info(lambda info: info["parts"]["slices"].update(task="clas")), r"run.json is damaged"),
        (edit_info(lambda info: info["parts"]["slices"].update(evaluated=9)), r"16 rows .* tells 9 images × 2 attacks"),
        (edit_info(lambda info: info["parts"].update(other=info["parts"].pop("slices"))), r"'slices' that run.json"),
        (edit_records(lambda r: r.head(15)), r"has 15 rows of part 'slices', run.json tells 8 images × 2 attacks × 1"),
        (
            edit_records(lambda r: pl.concat([r.head(15), r.head(1)])),
            r"has two rows of part slices, index 0, attack pgd",
        ),
        (edit_records(lambda r: r.cast({"eps": pl.Float32})), r"column 'eps': Float32 where Float64 is expected"),
        (edit_records(lambda r: r.cast({"truth": pl.List(pl.Int8)})), r"column 'truth': List\(Int8\) where"),
        (edit_records(lambda r: r.with_columns(index=pl.lit(None, pl.Int64))), r"a row lacks its part, index"),
        (lambda f: (f / "gallery.safetensors").write_bytes(b"12345678"), r"gallery.safetensors is damaged"),
    ],
)
def test_damage_is_told_in_one_line(saved, tmp_path, damage, message):
    shutil.copytree(saved, tmp_path / "run")
    damage(tmp_path / "run")
    with pytest.raises(InputError, match=message) as caught:
        mr.load_run(tmp_path / "run")
    assert "\n" not in str(caught.value)


def test_another_schema_version_is_told(run, tmp_path):
    run.save(tmp_path / "run")
    path = tmp_path / "run" / "run.json"
    path.write_text(re.sub(r'"schema_version": ?4', '"schema_version": 99', path.read_text()))
    assert json.loads(path.read_text())["schema_version"] == 99
    with pytest.raises(InputError, match="schema_version 99 is not 4"):
        mr.load_run(tmp_path / "run")


def test_a_run_from_before_there_were_groups_is_read(run, tmp_path):
    run.save(tmp_path / "run")
    path = tmp_path / "run" / "run.json"
    path.write_text(re.sub(r'"schema_version": ?4', '"schema_version": 3', path.read_text()))
    run.records.drop("groups").write_parquet(tmp_path / "run" / "records.parquet")
    loaded = mr.load_run(tmp_path / "run")
    assert_frame_equal(loaded.records, run.records)
    assert loaded.info.schema_version == 4


def test_runs_are_joined(run):
    with pytest.raises(InputError, match="both runs have a part 'slices'"):
        run.joined(run)


def test_a_folder_below_a_file_is_refused(run, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="file is no folder"):
        run.save(tmp_path / "file" / "run")


def test_a_name_that_is_too_long_is_told_before_the_work(run, tmp_path):
    with pytest.raises(InputError, match="cannot be written: File name too long") as caught:
        check_output_folder(tmp_path / ("x" * 256))
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="File name too long"):
        run.save(tmp_path / ("x" * 256) / "run")
    longest = tmp_path / ("x" * 255)
    check_output_folder(longest)
    run.save(longest)
    assert mr.load_run(longest).info == run.info


def test_a_run_of_before_the_victim_was_kept_is_read(run, tmp_path):
    run.save(tmp_path / "run")
    edit_info(lambda info: info["parts"]["slices"].pop("victim"))(tmp_path / "run")
    assert mr.load_run(tmp_path / "run").info.parts["slices"].victim == {}
