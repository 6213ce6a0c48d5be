"""A run on disk: what is saved is what is loaded, whole or not at all."""

from __future__ import annotations

import json
import re

import polars as pl
import pytest
import torch
from polars.testing import assert_frame_equal

import medrobust as mr
from medrobust.data import DatasetInfo, InMemoryDataset, Sample
from medrobust.errors import InputError


@pytest.fixture(scope="module")
def run(trained) -> mr.Run:
    victim, images, truth = trained
    info = DatasetInfo(name="slices", task="ordinal", classes=tuple("abcde"), channels=1)
    data = InMemoryDataset(info, [Sample(f"s{k}", images[k], truth[k]) for k in range(8)])
    return mr.evaluate(victim, data, threats=[mr.Threat(eps=2 / 255)], config={"note": "x"})


def test_round_trip(run, tmp_path):
    run.save(tmp_path / "run")
    assert {path.name for path in (tmp_path / "run").iterdir()} == {
        "run.json", "records.parquet", "gallery.safetensors", "report.html",
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
        (lambda f: (f / "gallery.safetensors").write_bytes(b"12345678"), r"gallery.safetensors is damaged"),
    ],
)
def test_damage_is_told_in_one_line(run, tmp_path, damage, message):
    run.save(tmp_path / "run")
    damage(tmp_path / "run")
    with pytest.raises(InputError, match=message) as caught:
        mr.load_run(tmp_path / "run")
    assert "\n" not in str(caught.value)


def test_another_schema_version_is_told(run, tmp_path):
    run.save(tmp_path / "run")
    path = tmp_path / "run" / "run.json"
    path.write_text(re.sub(r'"schema_version": ?1', '"schema_version": 99', path.read_text()))
    assert json.loads(path.read_text())["schema_version"] == 99
    with pytest.raises(InputError, match="schema_version 99 is not 1"):
        mr.load_run(tmp_path / "run")


def test_runs_are_joined(run):
    with pytest.raises(InputError, match="both runs have a part 'slices'"):
        run.joined(run)


def test_a_folder_below_a_file_is_refused(run, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="file does not allow it"):
        run.save(tmp_path / "file" / "run")
