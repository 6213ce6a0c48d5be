from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from medrobust.data import DataOptions, Dataset, open_dataset
from medrobust.errors import BadSampleError, InputError


def write(path: Path, shape: tuple[int, ...] = (8, 8), labels: int = 1, **changes: Any) -> Path:
    """A file like MedMNIST's, of 6/2/4 images; `changes` replace arrays, or drop them with None."""
    random = np.random.default_rng(0)
    arrays: dict[str, Any] = {}
    for split, count in {"train": 6, "val": 2, "test": 4}.items():
        arrays[f"{split}_images"] = random.integers(0, 256, (count, *shape), np.uint8)
        arrays[f"{split}_labels"] = (np.arange(count * labels) % 2).reshape(count, labels).astype(np.uint8)
    arrays = {name: array for name, array in {**arrays, **changes}.items() if array is not None}
    np.savez_compressed(path, **arrays)
    return path


@pytest.mark.parametrize(
    ("shape", "image", "dims"),
    [((8, 9), (1, 8, 9), 2), ((8, 9, 3), (3, 8, 9), 2), ((5, 6, 7), (1, 5, 6, 7), 3)],
)
def test_shapes(tmp_path: Path, shape: tuple[int, ...], image: tuple[int, ...], dims: int) -> None:
    path = write(tmp_path / "some.npz", shape)
    dataset = open_dataset(path)
    assert isinstance(dataset, Dataset)
    assert len(dataset) == 4
    assert dataset.info.spatial_dims == dims
    assert dataset.info.channels == image[0]
    assert dataset.info.classes == ("0", "1")
    assert dataset.info.task == "classification"
    stored = np.load(path)["test_images"]
    for index in range(4):
        sample = dataset[index]
        assert sample.image.shape == image
        assert sample.image.dtype == torch.float32
        back = (sample.image * 255).round().byte().numpy()
        expected = stored[index].transpose(2, 0, 1) if shape[-1] == 3 else stored[index][None]
        assert np.array_equal(back, expected)
        assert sample.truth.shape == ()
        assert sample.truth.dtype == torch.int64
        assert sample.truth == index % 2
        assert sample.id == f"test/{index}"


def test_multilabel(tmp_path: Path) -> None:
    dataset = open_dataset(write(tmp_path / "some.npz", labels=3), DataOptions(split="val"))
    assert dataset.info.task == "multilabel"
    assert dataset.info.classes == ("0", "1", "2")
    assert dataset[1].truth.tolist() == [1, 0, 1]


def test_options(tmp_path: Path) -> None:
    path = write(tmp_path / "some.npz")
    options = DataOptions(
        split="train", limit=3, channels=3, resize=(4, 6), classes=("no", "yes", "maybe"), task="ordinal"
    )
    dataset = open_dataset(path, options)
    assert [dataset[index].id for index in range(len(dataset))] == ["train/0", "train/2", "train/4"]
    assert dataset[0].image.shape == (3, 4, 6)
    assert dataset.info.classes == ("no", "yes", "maybe")
    assert dataset.info.task == "ordinal"
    whole = open_dataset(path, DataOptions(split="train"))
    assert torch.equal(whole[4].image, open_dataset(path, DataOptions(split="train", limit=3))[2].image)


def test_fingerprint(tmp_path: Path) -> None:
    path = write(tmp_path / "some.npz")
    prints = {
        open_dataset(path).fingerprint(),
        open_dataset(path, DataOptions(split="val")).fingerprint(),
        open_dataset(path, DataOptions(limit=2)).fingerprint(),
        open_dataset(write(tmp_path / "other.npz", (9, 9))).fingerprint(),
        open_dataset(path, DataOptions(resize=4)).fingerprint(),
        open_dataset(path, DataOptions(channels=3)).fingerprint(),
        open_dataset(path, DataOptions(classes=3)).fingerprint(),
    }
    assert len(prints) == 7
    assert open_dataset(path).fingerprint() in prints


def test_names_of_known_sets(tmp_path: Path) -> None:
    assert open_dataset(write(tmp_path / "breastmnist_128.npz")).info.classes[0] == "malignant"
    retina = open_dataset(write(tmp_path / "RetinaMNIST_224.npz", (8, 8, 3)))
    assert retina.info.task == "ordinal"
    assert len(retina.info.classes) == 5
    chest = open_dataset(write(tmp_path / "chestmnist.npz", labels=14))
    assert chest.info.classes[13] == "hernia"
    assert chest.info.task == "multilabel"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"test_images": np.zeros((4, 8, 8), np.float32)}, "'test_images': has dtype float32; .* are uint8"),
        ({"test_images": np.zeros((4, 8), np.uint8)}, r"'test_images': has shape \(4, 8\)"),
        ({"test_images": np.asfortranarray(np.zeros((4, 8, 8), np.uint8))}, "Fortran order"),
        ({"test_images": np.array([None] * 4)}, "'test_images': holds Python objects"),
        ({"test_labels": None}, "'test_labels': is missing; it holds 'test_images'"),
        ({"test_labels": np.zeros((3, 1), np.uint8)}, "'test_labels': has 3 labels for 4 images"),
        ({"test_labels": np.zeros((4, 1))}, "'test_labels': has dtype float64"),
        ({"test_labels": np.zeros(4, np.uint8)}, r"'test_labels': has shape \(4,\)"),
        ({"test_labels": np.array([["a"]] * 4)}, "'test_labels': has dtype <U1"),
        ({"test_labels": np.full((4, 1), -1)}, "'test_labels': label -1 is outside 0 to 1"),
        ({"test_images": None, "test_labels": None}, "no split 'test'; choose one of: train, val"),
    ],
)
def test_arrays_that_are_refused(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    path = write(tmp_path / "some.npz", **changes)
    with pytest.raises(InputError, match=words) as caught:
        open_dataset(path)
    assert "some.npz" in str(caught.value)


def test_labels_outside_the_known_classes(tmp_path: Path) -> None:
    labels = np.array([[0], [1], [2], [7]], np.uint8)
    path = write(tmp_path / "retinamnist.npz", (8, 8, 3), test_labels=labels)
    with pytest.raises(InputError, match=r"array 'test_labels': label 7 is outside 0 to 4"):
        open_dataset(path)
    several = write(tmp_path / "x.npz", labels=2, test_labels=np.full((4, 2), 2))
    with pytest.raises(InputError, match="label 2 is outside 0 to 1"):
        open_dataset(several)


def test_options_that_do_not_fit(tmp_path: Path) -> None:
    path = write(tmp_path / "some.npz", labels=3)
    with pytest.raises(InputError, match="3 labels but 5 classes"):
        open_dataset(path, DataOptions(classes=5))
    with pytest.raises(InputError, match="task 'ordinal' does not fit these data, which are for multilabel"):
        open_dataset(path, DataOptions(task="ordinal"))
    with pytest.raises(InputError, match="resize is for 2-D images"):
        open_dataset(write(tmp_path / "deep.npz", (5, 6, 7)), DataOptions(resize=4))
    with pytest.raises(InputError, match=r"no split 'validation'; choose one of: train, val, test"):
        open_dataset(path, DataOptions(split="validation"))


def test_files_that_are_no_medmnist(tmp_path: Path) -> None:
    (tmp_path / "text.npz").write_text("hello")
    with pytest.raises(InputError, match=r"text\.npz: is not a readable \.npz file"):
        open_dataset(tmp_path / "text.npz")
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    with pytest.raises(InputError, match=r"other\.npz: no array 'train_images', .*; it holds 'x'"):
        open_dataset(tmp_path / "other.npz")
    content = write(tmp_path / "whole.npz", (64, 64)).read_bytes()
    (tmp_path / "half.npz").write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match=r"half\.npz: is not a readable"):
        open_dataset(tmp_path / "half.npz")


def test_an_array_that_is_cut_short(tmp_path: Path) -> None:
    write(tmp_path / "whole.npz")
    with (
        zipfile.ZipFile(tmp_path / "whole.npz") as whole,
        zipfile.ZipFile(tmp_path / "cut.npz", "w") as cut,
    ):
        for name in whole.namelist():
            cut.writestr(name, whole.read(name)[: -1 if name == "val_images.npy" else None])
    with pytest.raises(InputError, match=r"array 'val_images': is cut short, it says shape \(2, 8, 8\)"):
        open_dataset(tmp_path / "cut.npz")


def test_damaged_pixels_are_told_when_they_are_read(tmp_path: Path) -> None:
    path = write(tmp_path / "some.npz", (64, 64))
    with zipfile.ZipFile(path) as archive:
        begin = archive.getinfo("test_images.npy").header_offset
    content = bytearray(path.read_bytes())
    content[begin + 5000 : begin + 6000] = b"\xff" * 1000
    path.write_bytes(content)
    dataset = open_dataset(path)
    with pytest.raises(BadSampleError, match="array 'test_images': is not a readable"):
        dataset[3]


def test_a_file_that_vanished(tmp_path: Path) -> None:
    path = write(tmp_path / "some.npz")
    dataset = open_dataset(path)
    path.unlink()
    with pytest.raises(InputError, match=r"some\.npz: cannot be read \(No such file or directory\)"):
        dataset.fingerprint()
    with pytest.raises(BadSampleError, match=r"array 'test_images': cannot be read \(No such file or directory\)"):
        dataset[0]


def test_a_folder_for_a_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot be read \(Is a directory\); give an \.npz file"):
        open_dataset(tmp_path, DataOptions(format="medmnist"))


def test_no_option_for_what_cannot_be_ignored(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="option ignore_index has no meaning for medmnist data"):
        open_dataset(write(tmp_path / "some.npz"), DataOptions(ignore_index=255))


def test_opening_reads_no_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise AssertionError("pixels were read")

    monkeypatch.setattr("medrobust.data.medmnist._read_rows", fail)
    assert len(open_dataset(write(tmp_path / "some.npz"))) == 4


def test_real_retinamnist(shared_data: Path) -> None:
    dataset = open_dataset(shared_data / "retinamnist.npz")
    assert len(dataset) == 400
    assert dataset.info.task == "ordinal"
    assert dataset.info.classes[0] == "no DR"
    arrays = np.load(shared_data / "retinamnist.npz")
    sample = dataset[123]
    assert np.array_equal((sample.image * 255).round().numpy().transpose(1, 2, 0), arrays["test_images"][123])
    assert sample.truth == arrays["test_labels"][123, 0]


def test_real_pneumoniamnist(shared_data: Path) -> None:
    dataset = open_dataset(shared_data / "pneumoniamnist.npz", DataOptions(split="val", limit=10))
    assert (len(dataset), dataset.info.channels) == (10, 1)
    assert dataset.info.classes == ("normal", "pneumonia")
    assert dataset.info.task == "classification"
    assert dataset[9].image.shape == (1, 28, 28)
