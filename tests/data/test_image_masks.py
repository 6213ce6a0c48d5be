from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from medrobust.data import DataOptions, Dataset, open_dataset
from medrobust.errors import BadSampleError, InputError

Write = Callable[..., Path]

SOFT = [[0, 127, 128, 255]]


@pytest.fixture
def pair(tmp_path: Path, write_image: Write, write_mask: Write) -> Callable[..., Path]:
    """Write an image of the mask's size, and the mask, under given names."""

    def write(values: object, image: str = "images/a.png", mask: str = "masks/a.png") -> Path:
        height, width = np.shape(values)  # type: ignore[arg-type]
        write_image(tmp_path / image, 9, (width, height))
        write_mask(tmp_path / mask, values)
        return tmp_path

    return write


def test_soft_edges_are_cut_in_the_middle(pair: Callable[..., Path]) -> None:
    dataset = open_dataset(pair(SOFT))
    assert isinstance(dataset, Dataset)
    assert dataset.info.task == "segmentation"
    assert dataset.info.classes == ("background", "foreground")
    sample = dataset[0]
    assert sample.id == "images/a.png"
    assert sample.truth.dtype == torch.int64
    assert sample.truth.tolist() == [[0, 0, 1, 1]]
    assert sample.image.shape == (1, 1, 4)


@pytest.mark.parametrize(
    ("values", "options", "classes"),
    [
        ([[0, 1]], {}, ("background", "foreground")),
        ([[0, 0]], {}, ("background", "foreground")),
        ([[0, 3]], {}, ("background", "1", "2", "3")),
        ([[0, 1]], {"classes": 4}, ("background", "1", "2", "3")),
        ([[0, 2]], {"classes": ("none", "grey", "white")}, ("none", "grey", "white")),
    ],
)
def test_class_indices(pair: Callable[..., Path], values: object, options: dict, classes: tuple[str, ...]) -> None:
    dataset = open_dataset(pair(values), DataOptions(**options))
    assert dataset.info.classes == classes
    assert dataset[0].truth.tolist() == values


@pytest.mark.parametrize(
    ("values", "classes", "words"),
    [
        ([[0, 7]], 3, r"masks/a\.png has the value 7, outside the classes 0 to 2: set classes"),
        ([[0, 200]], 2, "has the value 200, outside the classes 0 to 1"),
        ([[0, 255]], 3, "has the value 255, outside the classes 0 to 2"),
        ([[0, 1, 255]], 2, "has the values 0, 1 and 255, which may be classes and an edge to ignore"),
        ([[0, 1, 2, 255]], 3, "has the value 255, outside the classes 0 to 2: .* set ignore_index"),
    ],
)
def test_values_that_are_no_class(pair: Callable[..., Path], values: object, classes: int, words: str) -> None:
    dataset = open_dataset(pair(values), DataOptions(classes=classes))
    with pytest.raises(BadSampleError, match=words):
        dataset[0]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([0, 1, 2, 255], "0, 1, 2 and 255"),
        ([0, 1, 255], "0, 1 and 255"),
        ([1, 2, 255], "1, 2 and 255"),
        ([0, 30, 255], "0, 30 and 255"),
        ([0, 5, 90, 255], "0, 5, 90 and 255"),
        ([*range(9), 255], "0, 1, 2, 3, 4, 5, … and 255"),
    ],
)
def test_class_indices_with_an_edge_to_ignore_are_no_soft_edge(
    pair: Callable[..., Path], values: list[int], words: str
) -> None:
    root = pair([values])
    words = rf"masks/a\.png has the values {words}, which may be .*: set classes and ignore_index"
    with pytest.raises(InputError, match=words) as caught:
        open_dataset(root, DataOptions(skip_bad=True))
    assert "\n" not in str(caught.value)
    with pytest.raises(BadSampleError, match=words):
        open_dataset(root, DataOptions(classes=2))[0]


@pytest.mark.parametrize(
    "values",
    [[0, 255], [255, 255], [0, 31, 255], [0, 1, 60, 128, 200, 255], [0, 7, 254, 255]],
)
def test_black_and_white_with_or_without_a_soft_edge(pair: Callable[..., Path], values: list[int]) -> None:
    dataset = open_dataset(pair([values]))
    assert dataset.info.classes == ("background", "foreground")
    assert dataset.info.ignore_index is None
    assert dataset[0].truth.tolist() == [[int(value > 127) for value in values]]


@pytest.mark.parametrize(
    ("values", "ignored", "options", "count"),
    [
        ([0, 1, 2, 255], 255, {}, 3),
        ([0, 1, 2, 255], 255, {"classes": 5}, 5),
        ([0, 1, 255], 255, {}, 2),
        ([0, 255], 255, {}, 2),
        ([0, 1, 1], 255, {"classes": ("a", "b")}, 2),
        ([0, 1, 3, 9], 9, {}, 4),
    ],
)
def test_ignored_pixels_keep_their_value(
    pair: Callable[..., Path], values: list[int], ignored: int, options: dict, count: int
) -> None:
    dataset = open_dataset(pair([values]), DataOptions(ignore_index=ignored, **options))
    assert dataset.info.ignore_index == ignored
    assert len(dataset.info.classes) == count
    assert dataset[0].truth.tolist() == [values]


def test_ignored_pixels_after_resizing(pair: Callable[..., Path]) -> None:
    options = DataOptions(ignore_index=255, resize=(2, 8))
    dataset = open_dataset(pair([[0, 1, 2, 255]]), options)
    assert dataset[0].truth.tolist() == [[0, 0, 1, 1, 2, 2, 255, 255]] * 2


def test_values_that_are_no_class_beside_ignore_index(pair: Callable[..., Path]) -> None:
    options = DataOptions(ignore_index=255, classes=2)
    with pytest.raises(BadSampleError, match="has the value 128, outside the classes 0 to 1"):
        open_dataset(pair([[0, 128, 255]]), options)[0]
    with pytest.raises(InputError, match="has the value 255 beside ignore_index 128: store class indices"):
        open_dataset(pair([[0, 128, 255]]), DataOptions(ignore_index=128))
    with pytest.raises(InputError, match=r"ignore_index 1 is not a value above the classes 0 to 2, up to 255"):
        open_dataset(pair([[0, 1, 2]]), DataOptions(ignore_index=1))
    with pytest.raises(InputError, match=r"ignore_index -1 is not a value above the classes 0 to 1, up to 255"):
        open_dataset(pair([[0, 1]]), DataOptions(ignore_index=-1))


def test_an_image_that_is_ignored_as_a_whole(pair: Callable[..., Path]) -> None:
    pair([[255, 255]])
    root = pair([[0, 3]], "images/b.png", "masks/b.png")
    dataset = open_dataset(root, DataOptions(ignore_index=255))
    assert len(dataset.info.classes) == 4, "classes are guessed from the first mask that has any"
    with pytest.raises(BadSampleError, match=r"images/a\.png has no truth but ignore_index 255"):
        dataset[0]
    pair([[0, 255, 255]])
    thin = DataOptions(ignore_index=255, resize=(1, 1))
    with pytest.raises(BadSampleError, match="no truth but ignore_index"):
        open_dataset(root, thin)[0]


def test_negative_values_are_no_class(pair: Callable[..., Path]) -> None:
    root = pair([[0, 1]])
    (root / "masks" / "a.png").unlink()
    tifffile.imwrite(root / "masks" / "a.tif", np.array([[-1, 1]], np.int16), photometric="minisblack")
    with pytest.raises(BadSampleError, match="has the value -1, outside the classes 0 to 1"):
        open_dataset(root)[0]
    tifffile.imwrite(root / "masks" / "a.tif", np.array([[-1, 255]], np.int16), photometric="minisblack")
    with pytest.raises(BadSampleError, match="has the values -1 and 255"):
        open_dataset(root, DataOptions(classes=2))[0]


def test_sizes_that_differ(pair: Callable[..., Path], write_image: Write) -> None:
    root = pair(SOFT)
    write_image(root / "images" / "a.png", 9, (5, 2))
    with pytest.raises(BadSampleError, match=r"images/a\.png is 5 × 2 but its mask .*masks/a\.png is 4 × 1"):
        open_dataset(root, DataOptions(resize=4))[0]


@pytest.mark.parametrize("suffix", ["", "_mask", "-mask", "_seg", "_segmentation"])
def test_names_of_masks(pair: Callable[..., Path], suffix: str) -> None:
    assert open_dataset(pair(SOFT, "images/x 1/ä.jpg", f"masks/x 1/ä{suffix}.png"))[0].id == "images/x 1/ä.jpg"


def test_folders_and_suffix_by_option(pair: Callable[..., Path]) -> None:
    root = pair(SOFT, "scans/a.png", "truth/a_EX.png")
    pair([[0, 0, 0, 0]], "scans/a.png", "truth/a_HE.png")
    options = DataOptions(image_folder="scans", mask_folder="truth", mask_suffix="_EX")
    assert open_dataset(root, options)[0].truth.sum() == 2


def test_both_in_one_folder(pair: Callable[..., Path]) -> None:
    root = pair(SOFT, "all/a.png", "all/a_mask.png")
    dataset = open_dataset(root, DataOptions(image_folder="all", mask_folder="all"))
    assert [dataset[index].id for index in range(len(dataset))] == ["all/a.png"]


def test_splits(pair: Callable[..., Path]) -> None:
    root = pair(SOFT, "test/images/a.png", "test/masks/a.png")
    pair(SOFT, "train/images/b.png", "train/masks/b.png")
    assert open_dataset(root)[0].id == "test/images/a.png"
    assert open_dataset(root, DataOptions(split="train"))[0].id == "train/images/b.png"
    with pytest.raises(InputError, match="no split 'val'; choose one of: test, train"):
        open_dataset(root, DataOptions(split="val"))


def test_an_image_without_mask_or_with_two(pair: Callable[..., Path], write_image: Write) -> None:
    root = pair(SOFT)
    write_image(root / "images" / "b.png")
    with pytest.raises(BadSampleError, match=r"images/b\.png has no mask in .*masks: .*--skip-bad"):
        open_dataset(root)
    dataset = open_dataset(root, DataOptions(skip_bad=True))
    assert dataset[0].truth.sum() == 2
    with pytest.raises(BadSampleError, match="has no mask"):
        dataset[1]
    assert len(dataset.fingerprint()) == 64
    pair(SOFT, "images/b.png", "masks/b.png")
    pair(SOFT, "images/b.png", "masks/b_mask.png")
    with pytest.raises(BadSampleError, match=r"may have the mask b\.png or b_mask\.png: set mask_suffix"):
        open_dataset(root)


def test_bad_files_are_told_when_read(pair: Callable[..., Path]) -> None:
    pair(SOFT)
    root = pair(SOFT, "images/b.png", "masks/b.png")
    (root / "masks" / "a.png").write_bytes(b"damaged")
    dataset = open_dataset(root)
    with pytest.raises(BadSampleError, match=r"masks/a\.png cannot be read"):
        dataset[0]
    assert dataset[1].truth.sum() == 2


def test_coloured_mask(pair: Callable[..., Path]) -> None:
    root = pair(SOFT)
    Image.new("RGB", (4, 1), (255, 0, 0)).save(root / "masks" / "a.png")
    with pytest.raises(BadSampleError, match="is a coloured mask"):
        open_dataset(root)[0]


def test_resize_and_limit(pair: Callable[..., Path]) -> None:
    for name in "abcd":
        root = pair(SOFT, f"images/{name}.png", f"masks/{name}.png")
    dataset = open_dataset(root, DataOptions(resize=(2, 8), limit=2, channels=3))
    assert [dataset[index].id for index in range(2)] == ["images/a.png", "images/c.png"]
    assert dataset[0].image.shape == (3, 2, 8)
    assert dataset[0].truth.tolist() == [[0, 0, 0, 0, 1, 1, 1, 1]] * 2


def test_folders_that_are_missing_or_empty(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    with pytest.raises(InputError, match="'images' and 'masks' are not both there; set image_folder and mask_folder"):
        open_dataset(tmp_path, DataOptions(format="image_masks"))
    (tmp_path / "masks").mkdir()
    with pytest.raises(InputError, match="images: there is no image"):
        open_dataset(tmp_path)


def test_other_tasks(pair: Callable[..., Path]) -> None:
    with pytest.raises(InputError, match="task 'ordinal' does not fit these data, which are for segmentation"):
        open_dataset(pair(SOFT), DataOptions(task="ordinal"))


def test_fingerprint_follows_the_masks(pair: Callable[..., Path]) -> None:
    before = open_dataset(pair(SOFT)).fingerprint()
    assert open_dataset(pair([[0, 0, 0, 255]])).fingerprint() != before


def test_fingerprint_follows_the_reading(pair: Callable[..., Path]) -> None:
    root = pair([[0, 1, 1]])
    ways: list[dict] = [
        {},
        {"resize": 8},
        {"resize": (8, 4)},
        {"channels": 3},
        {"classes": 3},
        {"ignore_index": 255},
    ]
    prints = [open_dataset(root, DataOptions(**way)).fingerprint() for way in ways]
    assert len(set(prints)) == len(ways)
    assert open_dataset(root, DataOptions(classes=2, channels=1)).fingerprint() == prints[0]


def test_real_lung_ct(shared_data: Path) -> None:
    dataset = open_dataset(shared_data / "lung_ct", DataOptions(channels=1, resize=128))
    assert len(dataset) == 16
    assert dataset.info.classes == ("background", "foreground")
    sample = dataset[3]
    assert sample.image.shape == (1, 128, 128)
    assert sample.truth.shape == (128, 128)
    assert 0.02 < sample.truth.double().mean() < 0.5
    assert sample.image[0][sample.truth == 1].mean() < sample.image[0][sample.truth == 0].mean() + 0.2


def test_real_lung_ct_left_and_right(shared_data: Path) -> None:
    options = {"mask_folder": "masks_lr", "classes": ("background", "left", "right")}
    with pytest.raises(BadSampleError, match=r"images/281\.png has no mask"):
        open_dataset(shared_data / "lung_ct", DataOptions(**options))
    dataset = open_dataset(shared_data / "lung_ct", DataOptions(**options, skip_bad=True))
    columns = torch.arange(512.0)
    for index in (0, 5):
        truth = dataset[index].truth
        left, right = ((truth == side).double() @ columns.double() for side in (1, 2))
        assert left.sum() / (truth == 1).sum() < right.sum() / (truth == 2).sum()
