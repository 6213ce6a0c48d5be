from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile

from medrobust.data import DataOptions, Dataset, open_dataset
from medrobust.errors import BadSampleError, InputError

WriteImage = Callable[..., Path]


@pytest.fixture
def folder(tmp_path: Path, write_image: WriteImage) -> Path:
    root = tmp_path / "my set ä"
    write_image(root / "sick" / "b.png", 255)
    write_image(root / "healthy" / "a.png", 0)
    write_image(root / "healthy" / "deeper" / "c 肺.JPG", 10, (8, 8))
    (root / "healthy" / "notes.txt").write_text("no image")
    write_image(root / "healthy" / "._a.png")
    write_image(root / "__MACOSX" / "a.png")
    return root


def test_a_folder_per_class(folder: Path) -> None:
    dataset = open_dataset(folder)
    assert isinstance(dataset, Dataset)
    assert dataset.info.classes == ("healthy", "sick")
    assert dataset.info.task == "classification"
    assert dataset.info.channels == 1
    assert dataset.info.name == "my set ä"
    samples = [dataset[index] for index in range(len(dataset))]
    assert [sample.id for sample in samples] == ["healthy/a.png", "healthy/deeper/c 肺.JPG", "sick/b.png"]
    assert [int(sample.truth) for sample in samples] == [0, 0, 1]
    assert [tuple(sample.image.shape) for sample in samples] == [(1, 4, 6), (1, 8, 8), (1, 4, 6)]
    assert "no splits" in dataset.info.notes[0]


def test_options(folder: Path) -> None:
    options = DataOptions(
        classes=("sick", "healthy", "other"),
        task="ordinal",
        channels=3,
        resize=5,
        limit=2,
        format="image_folder",
    )
    dataset = open_dataset(folder, options)
    assert dataset.info.task == "ordinal"
    assert len(dataset) == 2
    assert dataset[0].image.shape == (3, 5, 5)
    assert dataset[0].truth == 1


def test_splits(tmp_path: Path, write_image: WriteImage) -> None:
    for name in ("train/a", "train/b", "test/b"):
        write_image(tmp_path / name / "1.png")
    dataset = open_dataset(tmp_path)
    assert dataset.info.classes == ("a", "b"), "classes are those of all splits"
    assert [dataset[0].id, int(dataset[0].truth), len(dataset)] == ["test/b/1.png", 1, 1]
    assert dataset.info.notes == ()
    assert len(open_dataset(tmp_path, DataOptions(split="train"))) == 2
    with pytest.raises(InputError, match=r"no split 'val'; choose one of: test, train"):
        open_dataset(tmp_path, DataOptions(split="val"))


def test_a_split_of_unsplit_data_is_an_error(folder: Path) -> None:
    with pytest.raises(InputError, match="these data have no splits, so no 'train'; leave split out"):
        open_dataset(folder, DataOptions(split="train"))


def test_numbers_are_indices(tmp_path: Path, write_image: WriteImage) -> None:
    for number in range(11):
        write_image(tmp_path / str(number) / "1.png")
    dataset = open_dataset(tmp_path)
    assert dataset.info.classes[10] == "10"
    shutil.rmtree(tmp_path / "3")
    with pytest.raises(InputError, match=r"class folders 0, 1, 2, 4, .* are numbers but not 0 to 9"):
        open_dataset(tmp_path)
    (tmp_path / "3").mkdir()
    assert len(open_dataset(tmp_path)) == 10
    assert len(open_dataset(tmp_path).info.classes) == 11


def test_classes_that_do_not_fit(folder: Path) -> None:
    with pytest.raises(InputError, match=r"the folder 'sick' is not among classes \(healthy, ill\)"):
        open_dataset(folder, DataOptions(classes=("healthy", "ill")))
    with pytest.raises(InputError, match=r"2 class folders \(healthy, sick\) but 5 classes are needed"):
        open_dataset(folder, DataOptions(classes=5))
    shutil.rmtree(folder / "sick")
    with pytest.raises(InputError, match=r"1 class folders .* but at least 2"):
        open_dataset(folder)


def test_a_bad_image_is_told_when_it_is_read(folder: Path) -> None:
    (folder / "healthy" / "a.png").write_bytes(b"damaged")
    dataset = open_dataset(folder)
    assert dataset.info.channels == 1
    with pytest.raises(BadSampleError, match=r"healthy/a\.png cannot be read"):
        dataset[0]
    assert dataset[2].truth == 1


def test_no_readable_image(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.png").write_bytes(b"damaged")
    with pytest.raises(InputError, match=r"no image can be read; the first: .*a/1\.png cannot be read"):
        open_dataset(tmp_path)


def test_no_image_at_all_in_a_split(tmp_path: Path, write_image: WriteImage) -> None:
    write_image(tmp_path / "train" / "a" / "1.png")
    for name in ("a", "b"):
        (tmp_path / "test" / name).mkdir(parents=True)
    with pytest.raises(InputError, match=r"test: no image in its class folders"):
        open_dataset(tmp_path)


def test_opening_decodes_one_image(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []
    from medrobust.data import traits

    original = traits.read_stored
    monkeypatch.setattr(traits, "read_stored", lambda path, most: read.append(path) or original(path, most))
    open_dataset(folder)
    assert len(read) == 1
    open_dataset(folder, DataOptions(channels=3))
    assert len(read) == 2


def test_fingerprint_follows_content_not_place(folder: Path, tmp_path: Path, write_image: WriteImage) -> None:
    before = open_dataset(folder).fingerprint()
    shutil.copytree(folder, tmp_path / "copy")
    assert open_dataset(tmp_path / "copy").fingerprint() == before
    write_image(folder / "sick" / "b.png", 254)
    assert open_dataset(folder).fingerprint() != before
    assert open_dataset(tmp_path / "copy", DataOptions(limit=1)).fingerprint() != before
    (tmp_path / "copy" / "sick").rename(tmp_path / "copy" / "zsick")
    assert open_dataset(tmp_path / "copy").fingerprint() != before


def test_fingerprint_follows_the_reading(folder: Path) -> None:
    ways: list[dict] = [{}, {"resize": 8}, {"channels": 3}, {"classes": ("healthy", "sick", "other")}]
    prints = [open_dataset(folder, DataOptions(**way)).fingerprint() for way in ways]
    assert len(set(prints)) == len(ways)
    assert open_dataset(folder, DataOptions(classes=("healthy", "sick"))).fingerprint() == prints[0]


def test_a_class_folder_that_may_not_be_listed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scan = os.scandir

    def refuse(path: str) -> object:
        if Path(path).name == "deeper":
            raise PermissionError(13, "Permission denied", path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(InputError, match=r"healthy/deeper: cannot be read \(Permission denied\)"):
        open_dataset(folder)


def test_an_image_that_may_not_be_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = open_dataset(folder)

    def refuse(self: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(BadSampleError, match=r"healthy/a\.png cannot be opened \(Permission denied\)"):
        dataset[0]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -0.1, 1.5])
def test_float_images_with_impossible_values(tmp_path: Path, bad: float) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        tifffile.imwrite(tmp_path / name / "1.tif", np.full((3, 4), 0.5, np.float32))
    tifffile.imwrite(tmp_path / "b" / "1.tif", np.array([[0.5, bad]], np.float32))
    dataset = open_dataset(tmp_path, DataOptions(resize=4, channels=3))
    assert dataset[0].image.unique().tolist() == [0.5]
    with pytest.raises(BadSampleError, match=r"b/1\.tif has (values that are not finite|float values)"):
        dataset[1]


def test_the_name_is_the_last_part_alone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder.parent / "link").symlink_to(folder)
    assert open_dataset(folder.parent / "link").info.name == "link"
    monkeypatch.chdir(folder)
    assert open_dataset(".").info.name == "my set ä"
    monkeypatch.chdir(folder / "sick")
    assert open_dataset("..").info.name == "my set ä"


def test_real_fundus_images(shared_data: Path, tmp_path: Path) -> None:
    for kind, names in {"DR": ["IDRiD_01.jpg", "IDRiD_02.jpg"], "no DR": ["IDRiD_NAR_*.jpg"]}.items():
        (tmp_path / kind).mkdir()
        for pattern in names:
            for path in sorted((shared_data / "idrid512").glob(pattern))[:2]:
                shutil.copy(path, tmp_path / kind)
    dataset = open_dataset(tmp_path, DataOptions(resize=64))
    assert len(dataset) == 4
    assert dataset[3].image.shape == (3, 64, 64)
    assert dataset[3].truth == 1
