"""Attacked volumes on disk: in their source's format, on its grid, and measured as they lie there."""

from __future__ import annotations

import csv
import shutil
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from torch import nn

from medrobust import cli
from medrobust.attacks import PGD
from medrobust.data import DataOptions, open_dataset
from medrobust.data.file_types import read_stored
from medrobust.errors import BadSampleError, InputError
from medrobust.evaluation import export_adversarial
from medrobust.tasks import Segmentation
from medrobust.threat import Threat
from medrobust.victim import Victim

AFFINE = np.diag([2.0, 3, 5, 1])
MODEL = """
from torch import nn

def make(outputs, channels):
    model = nn.Conv3d(channels, outputs, 3, padding=1)
    nn.init.constant_(model.weight, 0)
    nn.init.zeros_(model.bias)
    model.weight.data[1, :, 1, 1, 1] = 0.01
    return model

def flat(outputs, channels):
    return nn.Conv2d(channels, outputs, 1)
"""


def save(path: Path, values: np.ndarray, slope: float | None = None, inter: float = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(values, AFFINE, dtype=values.dtype)
    image.header["descrip"] = b"Jane Doe"
    if slope is not None:
        image.header.set_slope_inter(slope, inter)
    nib.save(image, path)


def raw(path: Path) -> np.ndarray:
    return np.asarray(nib.load(path).dataobj.get_unscaled())


def volumes(folder: Path, dtype=np.int16, slope=None, inter=0.0, names=("a.nii.gz", "b.nii")) -> Path:
    """Air of −1000 with a block of 3 to 40: the truth is where the block is."""
    rng = np.random.default_rng(0)
    for name in names:
        values = np.full((6, 5, 4), (-1000 - inter) / (slope or 1))
        values[1:4, 1:4, 1:3] = (rng.integers(3, 40, (3, 3, 2)) - inter) // (slope or 1)
        save(folder / "images" / name, values.astype(dtype), slope, inter)
        save(folder / "masks" / name, (np.asarray(nib.load(folder / "images" / name).dataobj) > -500).astype(np.uint8))
    return folder


def victim(dims: int = 3) -> Victim:
    """Foreground where a value is above 0."""
    model = (nn.Conv3d if dims == 3 else nn.Conv2d)(1, 2, 1)
    with torch.no_grad():
        model.weight.zero_()
        model.weight[1] += 0.01
        assert model.bias is not None
        model.bias.zero_()
    return Victim(model, Segmentation(2), (-1024, 3071))


def export(folder: Path, out: Path, threat: Threat, *, deidentify: bool = True, batch_size: int = 16, **options):
    dataset = open_dataset(folder, DataOptions(**options))
    dims = dataset.info.spatial_dims
    rows = export_adversarial(
        victim(dims), dataset, PGD(steps=5), threat, out, deidentify=deidentify, batch_size=batch_size
    )
    return dataset, rows


@pytest.mark.parametrize(
    ("dtype", "slope", "inter"),
    [(np.int16, None, 0), (np.int32, 0.5, -1000.25), (np.uint16, 1, -1024), (np.float32, None, 0)],
)
def test_volumes_come_back_in_their_own_format(tmp_path, dtype, slope, inter):
    folder = volumes(tmp_path / "set", dtype, slope, inter)
    dataset, rows = export(folder, tmp_path / "out", Threat(10.2), unit="HU", bounds=(-1100, 3071))
    assert [row["file"] for row in rows] == ["000000_a.nii.gz", "000001_b.nii"]
    for index, row in enumerate(rows):
        source = folder / "images" / ("a.nii.gz", "b.nii")[index]
        clean, attacked = tmp_path / "out" / str(row["clean_file"]), tmp_path / "out" / str(row["file"])
        assert np.array_equal(raw(clean), raw(source))
        written = nib.load(attacked)
        assert written.get_data_dtype() == dtype
        assert np.array_equal(written.affine, nib.load(source).affine)
        assert (written.dataobj.slope, written.dataobj.inter) == (slope or 1, inter)
        assert written.header["descrip"].item() == b"medrobust adversarial"
        assert nib.load(clean).header["descrip"].item() == b""
        change = read_stored(attacked).pixels - dataset[index].image
        steps = change / (slope or 1)
        if dtype != np.float32:
            assert torch.equal(steps, steps.round())
        assert 9 < float(change.abs().max()) <= 10.2 + 1e-3
        assert row["linf"] == pytest.approx(float(change.abs().max()))
        assert row["dice_before"] == 1
        assert float(row["dice_after"]) < 1
        # voxels that the attack left alone keep what is stored
        kept = (change[0] == 0).numpy().T
        assert np.array_equal(raw(attacked)[kept], raw(source)[kept])


def test_the_answer_is_that_to_the_saved_volume(tmp_path):
    """A block of 3 to 39 HU and a budget of 10: what was below 10 is gone, as the file shows."""
    folder = volumes(tmp_path / "set", names=("a.nii.gz",))
    dataset, (row,) = export(folder, tmp_path / "out", Threat(10))
    saved = read_stored(tmp_path / "out" / row["file"]).pixels
    answer = (saved[0] > 0).long()
    assert answer.sum() < dataset[0].truth.sum()
    overlap = 2 * (answer * dataset[0].truth).sum() / (answer.sum() + dataset[0].truth.sum())
    assert row["dice_after"] == pytest.approx(float(overlap))


def test_grids_are_not_mixed_in_a_batch(tmp_path):
    folder = volumes(tmp_path / "set", slope=2, names=("a.nii", "c.nii"))
    volumes(folder, slope=0.5, names=("b.nii",))
    dataset, rows = export(folder, tmp_path / "out", Threat(4.4), unit="HU")
    for index, step in enumerate((2, 0.5, 2)):
        change = (read_stored(tmp_path / "out" / str(rows[index]["file"])).pixels - dataset[index].image) / step
        assert torch.equal(change, change.round())
        assert float(change.abs().max()) == 4 // step if step == 2 else 8
    alone = export(folder, tmp_path / "alone", Threat(4.4), unit="HU", batch_size=1)[1]
    assert [row["dice_after"] for row in alone] == [row["dice_after"] for row in rows]


def test_a_budget_below_the_grid_is_told(tmp_path):
    with pytest.raises(InputError, match=r"eps 0\.5 is smaller than one step 1 of the grid: nothing can change"):
        export(volumes(tmp_path / "set"), tmp_path / "out", Threat(0.5))
    assert not (tmp_path / "out").exists()


def test_a_value_outside_the_bounds_is_told(tmp_path):
    folder = volumes(tmp_path / "set")
    dataset = open_dataset(folder, DataOptions(bounds=(-900, 3071)))
    narrow = Victim(nn.Conv3d(1, 2, 1), Segmentation(2), dataset.info.bounds)
    with pytest.raises(BadSampleError, match=r"outside the bounds \[-900, 3071\]; set bounds to the lowest and high"):
        export_adversarial(narrow, dataset, PGD(steps=1), Threat(5), tmp_path / "out")


@pytest.mark.parametrize(
    ("options", "threat", "shape"),
    [
        ({"resize": 8}, Threat(10), (1, 4, 8, 8)),
        ({"slices": "axial"}, Threat(10), (1, 5, 6)),
        ({}, Threat(10, quantum=0.25), (1, 4, 5, 6)),
    ],
)
def test_what_the_files_do_not_hold_is_stored_as_floats(tmp_path, options, threat, shape):
    folder = volumes(tmp_path / "set", names=("a.nii",))
    _, rows = export(folder, tmp_path / "out", threat, **options)
    for row in rows:
        assert str(row["file"]).endswith(".npy")
        assert np.load(tmp_path / "out" / str(row["file"])).shape == shape


def test_a_slices_file_is_named_by_its_volume_and_number(tmp_path):
    _, rows = export(volumes(tmp_path / "set", names=("a.nii.gz",)), tmp_path / "out", Threat(10), slices="axial")
    assert [row["id"] for row in rows][:2] == ["images/a.nii.gz#0000", "images/a.nii.gz#0001"]
    assert [row["file"] for row in rows][:2] == ["000000_a_0000.npy", "000001_a_0001.npy"]


def test_names_of_patients_stay_when_asked(tmp_path):
    folder = volumes(tmp_path / "set", names=("a.nii",))
    export(folder, tmp_path / "out", Threat(10), deidentify=False)
    header = nib.load(tmp_path / "out" / "000000_a.nii").header
    assert header["descrip"].item() == b"Jane Doe; medrobust adversarial"


def test_real_ct(tmp_path, shared_data):
    """The int16 crop of TotalSegmentator's CT: what can be read of the file is the whole result."""
    (tmp_path / "set" / "images").mkdir(parents=True)
    shutil.copy(shared_data / "totalseg" / "example_ct_sm.nii.gz", tmp_path / "set" / "images" / "ct.nii.gz")
    organs = nib.load(shared_data / "totalseg" / "example_seg.nii.gz")
    (tmp_path / "set" / "masks").mkdir()
    seen = nib.Nifti1Image((np.asarray(organs.dataobj) > 0).astype(np.uint8), organs.affine)
    nib.save(seen, tmp_path / "set" / "masks" / "ct.nii.gz")
    dataset = open_dataset(tmp_path / "set", DataOptions(bounds=(-1200, 3071)))
    viewer = victim()
    viewer.bounds = dataset.info.bounds
    threat = Threat(10, mask=torch.arange(30).reshape(30, 1, 1) < 2)
    (row,) = export_adversarial(viewer, dataset, PGD(steps=1), threat, tmp_path / "out")
    before = raw(tmp_path / "set" / "images" / "ct.nii.gz")
    after = raw(tmp_path / "out" / str(row["file"]))
    change = after.astype(int) - before
    assert after.dtype == before.dtype == np.int16
    assert not change[:, :, 2:].any()
    assert np.abs(change).max() == row["linf"] == 10


@pytest.fixture
def medrobust(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "block_model.py").write_text(MODEL)

    def command(*arguments: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["medrobust", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_:
            cli.main()
        return int(exit_.value.code or 0), capsys.readouterr().err

    return command


def test_from_the_command_line(medrobust, tmp_path):
    volumes(tmp_path / "set")
    line = ("attack", "--data", "set", "--model", "python:block_model:make", "--attack", "smia")
    code, err = medrobust(*line, "--eps", "10HU", "--out", "adversarial")
    assert (code, err) == (0, "adversarial: 2 images; 0 of 2 answered right before are now wrong\n")
    with Path("adversarial/manifest.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["file"] for row in rows] == ["000000_a.nii.gz", "000001_b.nii"]
    change = raw(Path("adversarial") / rows[0]["file"]).astype(int) - raw(Path("set/images/a.nii.gz"))
    assert np.abs(change).max() == float(rows[0]["linf"]) == 10
    assert b"Jane" not in Path("adversarial/000001_b.nii").read_bytes()
    assert medrobust(*line, "--eps", "10HU", "--no-deidentify", "--out", "named")[0] == 0
    assert b"Jane" in Path("named/000001_b.nii").read_bytes()
    assert medrobust(*line, "--out", "tiny") == (
        2,
        "error: 'set' is not in [0, 1] but in HU: give eps, 10HU (or set data.window)\n",
    )


def test_limits_and_options_of_the_data_from_line_and_file(medrobust, tmp_path):
    volumes(tmp_path / "set")
    line = ("--data", "set", "--model", "python:block_model:make", "--attacks", "fgsm", "--eps", "5")
    code, err = medrobust("evaluate", *line, "--max-pixels", 100, "--out", "r")
    assert code == 2
    assert "a.nii.gz is too large (6 × 5 × 4, more than 100 voxels): cut it up, or set max_pixels" in err
    Path("run.yaml").write_text(
        "data: {path: set, unit: HU, bounds: [-1100, 500], max_pixels: 120, slices: axial, slices_with_truth: true}\n"
        "model: python:block_model:flat\nattacks: {fgsm: {}}\nthreat: {eps: [5HU]}\nout: r\n"
    )
    code, err = medrobust("evaluate", "run.yaml")
    assert (code, err) == (0, "report: r/report.html\n")
