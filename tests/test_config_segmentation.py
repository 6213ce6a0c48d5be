"""Segmentation from a configuration: windows, slices, regions, targets and lesions, by the names of classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import medrobust as mr
from medrobust.config import RunConfig, read_config
from medrobust.data import DatasetInfo
from medrobust.errors import InputError, MedrobustWarning
from medrobust.jobs import _victim, run_config
from medrobust.models import OverSlices, SlidingWindow

MODEL = """
import torch
from torch import nn

class Brightness(nn.Module):
    def forward(self, x):
        return torch.cat([-((x - level) ** 2) * 20 for level in (0.0, 0.5, 1.0)], 1)

def make(outputs, channels):
    return Brightness()
"""
CLASSES = ["background", "liver", "lesion"]
VOLUMES = DatasetInfo("volumes", "segmentation", tuple(CLASSES), 1, spatial_dims=3)


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """Two images of a liver with a lesion, their masks, and a mask to draw."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text(MODEL)
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("data/images", "data/masks", "drawn"):
        (tmp_path / name).mkdir(parents=True)
    for place in range(2):
        mask = np.zeros((16, 16), np.uint8)
        mask[2:12, 2:12] = 1
        mask[4 + place : 7 + place, 5:9] = 2
        Image.fromarray(mask).save(tmp_path / f"data/masks/{place}.png")
        Image.fromarray(np.roll(mask, 3, 1)).save(tmp_path / f"drawn/{place}.png")
        Image.fromarray(np.clip(mask * 127, 12, 243).astype(np.uint8)).save(tmp_path / f"data/images/{place}.png")
    return tmp_path


def config(folder, **fields) -> RunConfig:
    base = {
        "data": {"path": str(folder / "data"), "classes": CLASSES},
        "model": {"source": "python:net:make"},
        "attacks": {"bim": {"steps": 3}},
        "threat": {"eps": ["0.3"]},
        "batch_size": 1,
        "device": "cpu",
    }
    return RunConfig.model_validate(base | fields)


def test_all_of_it_at_once(folder):
    run = run_config(
        config(
            folder,
            model={"source": "python:net:make", "window": [8, 8], "overlap": 0.5, "lesion_classes": ["lesion"]},
            attacks={
                "bim": {"steps": 3},
                "erase": {"attack": "smia", "steps": 10, "target": {"empty": [2]}},
                "moved": {"attack": "cospgd", "target": {"shift": [3, 0]}},
                "drawn": {"attack": "asma", "target": {"files": "drawn"}},
            },
            threat={"eps": ["0.3"], "inside": ["lesion"], "margin": 1},
        )
    )
    rows = {row["attack"]: row for row in run.records.filter(index=0).iter_rows(named=True)}
    assert rows["erase"]["success"]
    assert rows["bim"]["lesion_volumes_before"] == [12.0]
    assert (rows["erase"]["lesion_covered_before"], rows["erase"]["lesion_covered_after"]) == ([1.0], [0.0])
    assert (rows["erase"]["volume_unit"], rows["erase"]["missed_volume_after"]) == ("pixels", 12.0)
    (part,) = run.info.parts.values()
    assert part.model == "python:net:make"
    assert part.threats[0]["region"] == {"classes": [2], "outside": False, "margin": 1}
    assert part.attacks["drawn"]["target"] == {"kind": "files", "folder": "drawn"}
    assert part.victim["task_options"]["lesion_classes"] == (2,)
    run.save(folder / "run")
    again = mr.load_run(folder / "run")
    assert again.summary.equals(run.summary)
    page = (folder / "run" / "report.html").read_text()
    assert "Only pixels inside lesion of the image’s own truth, extended by 1 pixel on all sides, may change." in page
    assert "Lesions found: " in page
    assert "SMIA towards a mask" in page
    assert str(folder) not in page


def test_the_region_keeps_the_change_where_the_truth_says(folder):
    outside = run_config(config(folder, threat={"eps": ["0.3"], "outside": "liver"}))
    everywhere = run_config(config(folder))
    assert outside.records["l2"].max() < everywhere.records["l2"].min()


def test_a_model_of_images_for_volumes(folder):
    settings = config(folder, model={"source": "python:net:make", "over_slices": "coronal"})
    victim = _victim(VOLUMES, settings, "python:net:make")
    assert isinstance(victim.model, OverSlices)
    assert victim.model.axis == 1
    assert victim(torch.rand(1, 1, 4, 5, 6)).shape == (1, 3, 4, 5, 6)
    settings = config(folder, model={"source": "python:net:make", "window": [4, 4, 4]})
    victim = _victim(VOLUMES, settings, "python:net:make")
    assert isinstance(victim.model, SlidingWindow)
    assert (victim.model.size, victim.model.overlap) == ((4, 4, 4), 0.25)


def test_slices_are_asked_of_a_model_of_two_axes(folder):
    """A library's 2-D network is refused for volumes, and taken over their slices."""
    pytest.importorskip("segmentation_models_pytorch")
    plain = config(folder, model={"source": "smp:unet-resnet18"})
    with pytest.raises(InputError):
        _victim(VOLUMES, plain, "smp:unet-resnet18")
    sliced = config(folder, model={"source": "smp:unet-resnet18", "over_slices": 0})
    with pytest.warns(MedrobustWarning, match="untrained"):
        assert isinstance(_victim(VOLUMES, sliced, "smp:unet-resnet18").model, OverSlices)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"threat": {"inside": ["livr"]}}, "unknown class 'livr': did you mean 'liver'"),
        ({"threat": {"outside": [3]}}, "unknown class 3: the data have 3, from 0 to 2"),
        ({"threat": {"inside": [1], "outside": [2]}}, "inside and outside cannot both be given"),
        ({"threat": {"margin": 2}}, "margin extends the classes of inside or outside"),
        ({"model": {"source": "python:net:make", "lesion_classes": ["lession"]}}, "did you mean 'lesion'"),
        ({"model": {"source": "python:net:make", "lesion_classes": ["background"]}}, "must be among 1 to 2"),
        ({"model": {"source": "python:net:make", "window": [8, 8, 8]}}, r"a window of \[8, 8, 8\] does not fit images"),
        ({"model": {"source": "python:net:make", "window": [8, 8], "over_slices": 0}}, "cannot both be given"),
        ({"model": {"source": "python:net:make", "over_slices": 0}}, "over_slices is for volumes"),
        ({"model": {"source": "python:net:make", "window": [8, 0]}}, "a side of the window"),
        ({"attacks": {"asma": {}}}, "attack 'asma' is targeted"),
        ({"attacks": {"drawn": {"attack": "pgd", "target": {"files": "nowhere"}}}}, "nowhere: the masks cannot be"),
        ({"attacks": {"drawn": {"attack": "pgd", "target": "all"}}}, "attack pgd: target must be empty"),
    ],
)
def test_mistakes_are_told(folder, fields, message):
    with pytest.raises((InputError, ValueError), match=message):
        run_config(config(folder, **fields))


def test_a_region_needs_masks_or_boxes():
    classifier = DatasetInfo("grades", "ordinal", ("a", "b"), 1)
    threat = read_config(None, {"threat.inside": ["a"]}).threat
    with pytest.raises(InputError, match="need masks or boxes; 'grades' is for ordinal"):
        threat.threats(classifier)
    boxes = DatasetInfo("artefacts", "detection", ("blur", "bubble"), 3)
    (first, *_) = read_config(None, {"threat.inside": "bubble"}).threat.threats(boxes)
    assert first.region == mr.Region((1,))
