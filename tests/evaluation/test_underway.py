from pathlib import Path

import pytest
import torch
from torch import nn

import medrobust as mr
from medrobust.evaluation import underway
from medrobust.evaluation.underway import progress_file, progress_path, read_progress


def test_it_is_there_while_the_run_is_and_gone_after(tmp_path, monkeypatch):
    clock = iter([100.0, 101.0, 101.2, 101.3, 101.4])
    monkeypatch.setattr(underway.time, "time", lambda: next(clock))
    folder = tmp_path / "runs" / "one"
    with progress_file(folder) as listen:
        assert read_progress(folder) is None
        listen("attacking", 0, 10)
        assert read_progress(folder) == underway.UnderWay("attacking", 0, 10, 100.0, 101.0)
        listen("attacking", 3, 10)  # within a second: not written
        assert read_progress(folder).done == 0
        listen("preparing", 3, 10)
        assert (read_progress(folder).stage, read_progress(folder).done) == ("preparing", 3)
        listen("preparing", 10, 10)  # the end is always told
        assert read_progress(folder).done == 10
    assert not (tmp_path / "runs").exists()  # made for the file alone


def test_it_is_gone_when_the_run_fails(tmp_path):
    def stopped():
        with progress_file(tmp_path / "one") as listen:
            listen("attacking", 0, 10)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_ends_no_run(tmp_path):
    (tmp_path / "file").write_text("")
    with progress_file(tmp_path / "file" / "one") as listen:
        listen("attacking", 0, 10)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"stage": 1}', b'{"stage": "a", "done": "x"}'])
def test_a_damaged_file_is_no_progress(tmp_path, content):
    progress_path(tmp_path / "one").write_bytes(content)
    assert read_progress(tmp_path / "one") is None


def test_an_evaluation_tells_how_far_it_is():
    info = mr.DatasetInfo("squares", "classification", ("a", "b"), 1)
    data = mr.InMemoryDataset(info, [mr.Sample(str(k), torch.rand(1, 4, 4), torch.tensor(0)) for k in range(5)])
    victim = mr.Victim(nn.Sequential(nn.Flatten(), nn.Linear(16, 2)), mr.Classification(2))
    heard = []
    mr.evaluate(
        victim, data, {"fgsm": mr.FGSM()}, [mr.Threat(eps=0.1), mr.Threat(eps=0.2)], batch_size=2, gallery=0,
        listen=lambda *said: heard.append(said),
    )  # fmt: skip
    assert heard[0][1:] == (0, 10)
    assert heard[-1][1:] == (10, 10)
    assert [done for _, done, _ in heard] == sorted(done for _, done, _ in heard)
    assert all("squares" in stage for stage, _, _ in heard)


def test_the_path_is_beside_the_folder_whatever_it_is_called():
    assert progress_path(Path("/runs/a b")) == Path("/runs/.a b.progress.json")
