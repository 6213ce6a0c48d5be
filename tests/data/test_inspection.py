from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medrobust.data import DataOptions
from medrobust.data.inspection import ClassCount, inspect, middle_size
from medrobust.errors import InputError

Paint = Callable[..., Path]


@pytest.fixture
def boxes(tmp_path: Path, write_image: Paint) -> Path:
    """A manifest of three splits with a patient in two of them, the same image twice, and two that cannot be read."""
    rows = ["image,boxes,patient,split"]
    for number, (split, patient, truth, size) in enumerate(
        [
            ("train", "p1", "0 0 2 2 x;0 0 3 3 x;1 1 2 2 y", (6, 4)),
            ("train", "p2", "", (8, 10)),
            ("train", "p2", "0 0 1 1 y", (5, 5)),
            ("test", "p2", "0 0 4 4 y", (6, 4)),
            ("val", "p3", "0 0 9 9 y", (6, 4)),
            ("val", "p3", "0 0 2 2 y", (6, 4)),
            ("val", "p4", "0 0 2 2 x", (6, 4)),
        ]
    ):
        write_image(tmp_path / f"{number}.png", 20 * number, size)
        rows.append(f"{number}.png,{truth},{patient},{split}")
    (tmp_path / "3.png").write_bytes((tmp_path / "0.png").read_bytes())
    (tmp_path / "5.png").write_bytes((tmp_path / "5.png").read_bytes()[:40])
    (tmp_path / "data.csv").write_text("\n".join(rows))
    return tmp_path


def test_every_count_by_hand(boxes: Path) -> None:
    found = inspect(boxes)
    assert (found.format, found.task, found.classes, found.unit) == ("manifest", "detection", ("x", "y"), "[0, 1]")
    assert [split.name for split in found.splits] == ["train", "test", "val"]
    train, test, val = found.splits
    assert train.classes == {"x": ClassCount(1, 2), "y": ClassCount(2, 2)}
    assert (train.images, test.images, val.images, found.images) == (3, 1, 1, 5)
    assert train.sizes == {(6, 4): 1, (8, 10): 1, (5, 5): 1}
    assert (train.low, train.high) == (0, pytest.approx(40 / 255))
    assert train.depths == {"8 bits": 3}
    assert (train.patients, train.without_patient) == (2, 0)


def test_leaks_duplicates_and_unreadable_files(boxes: Path) -> None:
    found = inspect(boxes)
    assert found.shared_patients == {"p2": ("train", "test")}
    assert found.duplicates == (("train: 0.png", "test: 3.png"),)
    assert len(found.unreadable) == 2
    assert "9, 9" in found.unreadable[0]
    assert "4.png, which is 6 × 4" in found.unreadable[0]
    assert "5.png cannot be read as an image" in found.unreadable[1]


def test_one_split_and_a_limit(boxes: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    found = inspect(boxes, DataOptions(limit=2), split="train", on_progress=lambda *state: seen.append(state))
    assert [split.name for split in found.splits] == ["train"]
    assert found.images == 2
    assert seen == [("train", 0, 2), ("train", 1, 2), ("train", 2, 2)]
    with pytest.raises(InputError, match="no split 'x'; choose one of: test, train, val"):
        inspect(boxes, split="x")


def test_masks_by_their_share_of_pixels(tmp_path: Path, write_image: Paint, write_mask: Paint) -> None:
    for name, mask in (("a", [[0, 0, 1, 1]] * 2), ("b", [[0, 0, 0, 2]] * 2)):
        write_image(tmp_path / "images" / f"{name}.png", size=(4, 2))
        write_mask(tmp_path / "masks" / f"{name}.png", mask)
    (found,) = inspect(tmp_path, DataOptions(classes=3)).splits
    assert found.name == "all"
    assert found.classes == {
        "background": ClassCount(2, None, 10 / 16),
        "1": ClassCount(1, None, 4 / 16),
        "2": ClassCount(1, None, 2 / 16),
    }
    assert (found.patients, found.without_patient) == (0, 2)


def test_patients_by_a_pattern(tmp_path: Path, write_image: Paint) -> None:
    for number, (split, label, name) in enumerate(
        [("train", "a", "p1_1"), ("train", "b", "p2_1"), ("test", "a", "p1_2"), ("test", "b", "p3_1")]
    ):
        write_image(tmp_path / split / label / f"{name}.png", number)
    found = inspect(tmp_path, DataOptions(patient_pattern=r"(p\d)_"))
    assert found.shared_patients == {"p1": ("test", "train")}
    assert [split.patients for split in found.splits] == [2, 2]


def test_depths_and_sizes(tmp_path: Path, write_image: Paint) -> None:
    write_image(tmp_path / "a" / "1.png", 7)
    (tmp_path / "b").mkdir()
    Image.fromarray(np.full((4, 6), 1000, np.uint16)).save(tmp_path / "b" / "2.png")
    Image.fromarray(np.full((4, 6), 1 / 3000, np.float32)).save(tmp_path / "b" / "3.tif")
    (found,) = inspect(tmp_path).splits
    assert found.depths == {"8 bits": 1, "16 bits": 1, "float": 1}
    assert middle_size({(10, 4): 2, (2, 8): 1, (6, 6): 2}) == ((2, 4), (6, 6), (10, 8))


def test_data_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no such file or folder"):
        inspect(tmp_path / "nothing")
    with pytest.raises(InputError, match="no known data format"):
        inspect(tmp_path)
    with pytest.raises(InputError, match="unknown data format 'x'"):
        inspect(tmp_path, DataOptions(format="x"))


def test_a_real_ct_volume_by_a_manifest(tmp_path: Path, shared_data: Path) -> None:
    for name in ("example_ct_sm.nii.gz", "example_seg.nii.gz"):
        (tmp_path / name).write_bytes((shared_data / "totalseg" / name).read_bytes())
    (tmp_path / "m.csv").write_text("image,mask,patient\nexample_ct_sm.nii.gz,example_seg.nii.gz,s1\n")
    found = inspect(tmp_path)
    (split,) = found.splits
    assert (found.format, found.task, found.unit, found.spatial_dims) == ("manifest", "segmentation", "HU", 3)
    assert list(split.sizes) == [(122, 101, 30)]
    assert split.low >= -1100
    assert sum(count.pixels or 0 for count in split.classes.values()) == pytest.approx(1)
    assert split.patients == 1


def test_medmnist_as_it_comes(shared_data: Path) -> None:
    found = inspect(shared_data / "retinamnist.npz")
    assert {split.name: split.images for split in found.splits} == {"train": 1080, "val": 120, "test": 400}
    # Yang et al., Sci Data 10, 2023, and DeepDRiD: 400 test images of grades 0 to 4
    assert [count.images for count in found.splits[2].classes.values()] == [174, 46, 92, 68, 20]
    assert not found.unreadable
