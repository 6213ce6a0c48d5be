from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from medrobust.data import BadSampleError, DataOptions, open_dataset
from medrobust.data.yolo import read_boxes
from medrobust.errors import InputError


@pytest.fixture
def write_text() -> Callable[[Path, str], Path]:
    def write(path: Path, text: str) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    return write


@pytest.fixture
def yolo(tmp_path: Path, write_image: Callable[..., Path], write_text: Callable[..., Path]) -> Path:
    """Two 20 × 10 images, the second without objects."""
    for name, text in (("a", "1 0.5 0.5 0.2 0.4\n\n0 0.25 0.25 0.5 0.5\n"), ("b", "")):
        write_image(tmp_path / "images" / f"{name}.png", size=(20, 10))
        write_text(tmp_path / "labels" / f"{name}.txt", text)
    write_text(tmp_path / "classes.txt", "polyp\nblood\n")
    return tmp_path


def test_boxes_in_pixels(yolo: Path) -> None:
    dataset = open_dataset(yolo)
    assert dataset.info.task == "detection"
    assert dataset.info.classes == ("polyp", "blood")
    torch.testing.assert_close(dataset[0].truth, torch.tensor([[8.0, 3, 12, 7, 1], [0, 0, 10, 5, 0]]))
    assert dataset[1].truth.shape == (0, 5)
    assert dataset[0].id == "images/a.png"


def test_folders_of_splits_inside_and_around(
    tmp_path: Path, write_image: Callable[..., Path], write_text: Callable[..., Path]
) -> None:
    for place in ("inside/{}/train", "around/train/{}", "inside/{}/val", "around/val/{}"):
        write_image(tmp_path / place.format("images") / "a.png")
        write_text(tmp_path / place.format("labels") / "a.txt", "2 .5 .5 1 1" if "val" in place else "0 .5 .5 1 1")
    for name in ("inside", "around"):
        write_text(tmp_path / name / "data.yaml", "nc: 3\nnames: {0: a, 1: b, 2: c}\n")
        dataset = open_dataset(tmp_path / name, DataOptions(split="val"))
        assert (dataset.info.classes, dataset[0].truth[:, 4].tolist()) == (("a", "b", "c"), [2])
        assert open_dataset(tmp_path / name, DataOptions(split="train"))[0].truth[:, 4].tolist() == [0]
        with pytest.raises(InputError, match="no split 'test'; choose one of: train, val"):
            open_dataset(tmp_path / name)


def test_beside_the_images(tmp_path: Path, write_image: Callable[..., Path], write_text: Callable[..., Path]) -> None:
    for name in ("a", "b", "c"):
        write_image(tmp_path / f"{name}.png")
    write_text(tmp_path / "b.txt", "0 .5 .5 1 1")
    write_text(tmp_path / "obj.names", "x\n")
    dataset = open_dataset(tmp_path)
    assert [len(dataset[index].truth) for index in range(3)] == [0, 1, 0]
    assert "Images without a text file count as without objects: 2 of 3." in dataset.info.notes


def test_not_one_text_file(yolo: Path) -> None:
    for name in ("a", "b"):
        (yolo / "labels" / f"{name}.txt").unlink()
    with pytest.raises(InputError, match="no image has a text file of its name"):
        open_dataset(yolo, DataOptions(format="yolo"))


@pytest.mark.parametrize(
    ("name", "text", "found"),
    [
        ("data.yaml", "names: [x, y]", ("x", "y")),
        ("data.yaml", "names: {1: y, 0: x}", ("x", "y")),
        ("data.yaml", "names: {'1': y, '0': x}", ("x", "y")),
        ("class_list.txt", "\ufeffx\r\n\r\ny z\r\n", ("x", "y z")),
        ("labels/classes.txt", "x\ny", ("x", "y")),
    ],
)
def test_where_classes_are_named(
    yolo: Path, write_text: Callable[..., Path], name: str, text: str, found: tuple[str, ...]
) -> None:
    (yolo / "classes.txt").unlink()
    with pytest.raises(InputError, match=r"the names of the classes are in none of data.yaml, classes.txt"):
        open_dataset(yolo)
    assert open_dataset(yolo, DataOptions(classes=2)).info.classes == ("0", "1")
    write_text(yolo / name, text)
    assert open_dataset(yolo).info.classes == found
    assert open_dataset(yolo, DataOptions(classes=("p", "q"))).info.classes == ("p", "q")
    with pytest.raises(InputError, match="3 classes are wanted but the data name 2"):
        open_dataset(yolo, DataOptions(classes=3))


@pytest.mark.parametrize("text", ["names: {0: x, 2: y}", "nc: 2", "names: [x, x]", "names: [", "names: []", "- 1"])
def test_class_files_that_cannot_be_used(yolo: Path, write_text: Callable[..., Path], text: str) -> None:
    write_text(yolo / "data.yaml", text)
    with pytest.raises(InputError, match=r"data\.yaml") as caught:
        open_dataset(yolo)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("0 .5 .5 .1", "has 4 fields, not five"),
        ("0 .5 .5 .1 .1 .9", "has 6 fields, not five"),
        ("2 .5 .5 .1 .1", "class '2' is not 0 to 1"),
        ("-1 .5 .5 .1 .1", "class '-1' is not 0 to 1"),
        ("polyp .5 .5 .1 .1", "class 'polyp' is not 0 to 1"),
        ("0 .5 .5 .1 x", "are not four numbers"),
        ("0 .5 .5 .1 nan", "are not all within 0 and 1"),
        ("0 50 .5 .1 .1", "are not all within 0 and 1"),
        ("0 .5 .5 0 .1", "the box has no area"),
        ("0 .9 .5 .4 .1", "the box reaches out of the image"),
    ],
)
def test_a_row_that_cannot_be_used(yolo: Path, row: str, message: str) -> None:
    (yolo / "labels" / "b.txt").write_text(f"0 .5 .5 .1 .1\n\n{row}\n")
    with pytest.raises(BadSampleError, match=rf"b\.txt, row 3: .*{message}") as caught:
        open_dataset(yolo)
    assert "\n" not in str(caught.value)
    dataset = open_dataset(yolo, DataOptions(skip_bad=True))
    assert len(dataset[0].truth) == 2
    with pytest.raises(BadSampleError, match=message):
        dataset[1]


def test_a_corner_outside_by_rounding_alone(tmp_path: Path, write_text: Callable[..., Path]) -> None:
    truth = read_boxes(write_text(tmp_path / "a.txt", "0 0.333333 0.5 0.666667 1\n"), classes=1)
    assert truth.boxes[0].corners[0] == 0
    assert truth.relative


def test_bytes_that_are_no_text(yolo: Path) -> None:
    (yolo / "labels" / "b.txt").write_bytes(b"\xff\xfe0\x00")
    with pytest.raises(BadSampleError, match=r"b\.txt: is not UTF-8 text"):
        open_dataset(yolo)


def test_ead_as_it_comes(shared_data: Path) -> None:
    dataset = open_dataset(shared_data / "ead2019")
    assert dataset.info.classes[:2] == ("specularity", "saturation")
    assert [dataset[index].id for index in range(len(dataset))] == [
        f"000{n}.jpg" for n in ("03", "16", "17", "39", "42")
    ]
    boxes = torch.cat([dataset[index].truth for index in range(len(dataset))])
    assert len(boxes) == 30
    # 00003.txt, row 1: 0.111328125 ± 0.06640625 / 2 and 0.1650390625 ± 0.056640625 / 2 of 512
    assert dataset[0].truth[0].tolist() == [40, 70, 74, 99, 5]
    assert bool(((boxes[:, :2] >= 0) & (boxes[:, 2:4] <= 512) & (boxes[:, 2:4] > boxes[:, :2])).all())
