"""Attacked DICOM series on disk: slice by slice, in whole Hounsfield units, and measured as they lie."""

from __future__ import annotations

import numpy as np
import torch
from pydicom import dcmread
from synthetic_dicom import save, series, slices
from torch import nn

from medrobust.attacks import PGD
from medrobust.data import DataOptions, open_dataset
from medrobust.data.file_types import read_stored
from medrobust.evaluation import export_adversarial
from medrobust.tasks import Segmentation
from medrobust.threat import Threat
from medrobust.victim import Victim

EPS = 3.6


def data_set(folder, flat: bool):
    """Images and masks of five slices each: a volume, or five images."""
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
        datasets = slices()
        for dataset in datasets:
            values = dataset.pixel_array + 900  # −124 HU and up: the truth is what is above 0
            stored = values if name == "images" else (values > 1024)
            dataset.PixelData = stored.astype(np.int16).tobytes()
        if flat:
            for number, dataset in enumerate(datasets):
                save(dataset, folder / name / f"slice{number}.dcm")
        else:
            series(folder / name / "p1", datasets)
    return open_dataset(folder, DataOptions(format="image_masks"))


def victim(dims: int) -> Victim:
    """Foreground where a value is above 0."""
    model = (nn.Conv3d if dims == 3 else nn.Conv2d)(1, 2, 1)
    nn.init.zeros_(model.weight)
    model.weight.data[1] += 0.01
    assert model.bias is not None
    nn.init.zeros_(model.bias)
    return Victim(model, Segmentation(2), (-1024, 3071))


def test_a_series_is_attacked_and_written_back(tmp_path):
    dataset = data_set(tmp_path / "set", flat=False)
    out = tmp_path / "out"
    (row,) = export_adversarial(victim(3), dataset, PGD(steps=2), Threat(EPS), out)
    clean, attacked = (read_stored(out / str(row[name])).pixels for name in ("clean_file", "file"))
    assert torch.equal(clean, dataset[0].image)
    change = (attacked - clean).abs()
    assert change.max() == row["linf"] == 3  # whole Hounsfield units within 3.6
    written = [dcmread(path) for path in sorted((out / str(row["file"])).iterdir())]
    assert len(written) == 5
    assert {one.SeriesDescription for one in written} == {"ADVERSARIAL"}
    assert {one.PatientIdentityRemoved for one in written} == {"YES"}
    twin = dcmread(next((out / str(row["clean_file"])).iterdir()))
    assert twin.SeriesDescription == "CLEAN COPY"


def test_single_files_are_written_as_single_files(tmp_path):
    dataset = data_set(tmp_path / "set", flat=True)
    rows = export_adversarial(victim(2), dataset, PGD(steps=2), Threat(EPS), tmp_path / "out")
    assert [str(row["file"]).rsplit(".", 1)[1] for row in rows] == ["dcm"] * 5
    for row, sample in zip(rows, dataset, strict=True):
        assert torch.equal(read_stored(tmp_path / "out" / str(row["clean_file"])).pixels, sample.image)
        assert row["linf"] == 3
