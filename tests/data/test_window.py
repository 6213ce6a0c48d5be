"""Images through a window: of a whole set, in [0, 1], as a viewer shows them."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch

from medrobust.data import DataOptions, open_dataset
from medrobust.errors import InputError


@pytest.fixture
def ct(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for place in range(2):
        values = rng.integers(-1000, 1500, (6, 5, 4)).astype(np.int16)
        for folder, content in (("images", values), ("masks", (values > 0).astype(np.uint8))):
            (tmp_path / folder).mkdir(exist_ok=True)
            nibabel.save(nibabel.Nifti1Image(content, np.eye(4)), tmp_path / folder / f"case{place}.nii.gz")
    return tmp_path


@pytest.mark.parametrize("slices", [None, "axial"])
def test_values_are_those_of_the_window_by_hand(ct: Path, slices: str | None):
    plain = open_dataset(ct, DataOptions(unit="HU", slices=slices))
    shown = open_dataset(ct, DataOptions(window=(40, 400), slices=slices))
    assert (shown.info.unit, shown.info.bounds) == ("[0, 1]", (0.0, 1.0))
    assert any("window (40, 400)" in note for note in shown.info.notes)
    for index in range(len(shown)):
        by_hand = ((plain[index].image - -160) / 400).clip(0, 1)
        torch.testing.assert_close(shown[index].image, by_hand)
        assert torch.equal(shown[index].truth, plain[index].truth)
        assert shown[index].file is None, "the file does not hold these values"
        assert shown[index].quantum is None
    assert shown.fingerprint() != plain.fingerprint()


def test_a_file_that_names_no_window(ct: Path):
    with pytest.raises(InputError, match=r"case0\.nii\.gz names no window: set window to a level and a width"):
        open_dataset(ct, DataOptions(window="file"))


def test_bounds_have_no_meaning_through_a_window(ct: Path):
    with pytest.raises(InputError, match=r"option bounds has no meaning for images in \[0, 1\]"):
        open_dataset(ct, DataOptions(window=(40, 400), bounds=(-1024, 3071)))
