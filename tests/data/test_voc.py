from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from medrobust.data import BadSampleError, DataOptions, open_dataset
from medrobust.errors import InputError

OBJECT = """<object><name>{name}</name><difficult>{difficult}</difficult><bndbox>
<xmin>{x1}</xmin><ymin>{y1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>"""
BOMB = """<?xml version="1.0"?><!DOCTYPE lolz [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">
<!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;">]><annotation><object><name>&c;</name></object></annotation>"""
OUTSIDE = """<?xml version="1.0"?><!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/hostname">]>
<annotation><object><name>&x;</name></object></annotation>"""


def an_object(name: str, x1: object, y1: object, x2: object, y2: object, difficult: int = 0) -> str:
    return OBJECT.format(name=name, x1=x1, y1=y1, x2=x2, y2=y2, difficult=difficult)


@pytest.fixture
def voc(tmp_path: Path, write_image: Callable[..., Path]) -> Callable[..., Path]:
    """Write 20 × 10 images with these objects each."""

    def write(**images: str) -> Path:
        for name, objects in images.items():
            write_image(tmp_path / "JPEGImages" / f"{name}.jpg", size=(20, 10))
            (tmp_path / "Annotations").mkdir(exist_ok=True)
            text = objects if objects.startswith("<?xml") else f"<annotation>{objects}</annotation>"
            (tmp_path / "Annotations" / f"{name}.xml").write_text(text)
        return tmp_path

    return write


def test_corners_counted_from_1_and_inclusive(voc: Callable[..., Path]) -> None:
    root = voc(a=an_object("polyp", 1, 1, 20, 10) + an_object("blood", 5, 3, 5, 3), b="")
    dataset = open_dataset(root)
    assert dataset.info.task == "detection"
    assert dataset.info.classes == ("blood", "polyp")
    # the whole image; and one pixel, the fifth of the third row
    assert dataset[0].truth.tolist() == [[0, 0, 20, 10, 1], [4, 2, 5, 3, 0]]
    assert dataset[1].truth.shape == (0, 5)
    assert [dataset[0].id, dataset[1].id] == ["a", "b"]


def test_difficult_objects_are_left_out(voc: Callable[..., Path]) -> None:
    dataset = open_dataset(voc(a=an_object("polyp", 1, 1, 4, 4) + an_object("blood", 2, 2, 9, 9, difficult=1)))
    assert dataset[0].truth.tolist() == [[0, 0, 4, 4, 1]]
    assert dataset.info.classes == ("blood", "polyp")  # its index does not hang on what is difficult
    assert "Objects marked difficult are left out: 1." in dataset.info.notes


def test_lists_of_splits(voc: Callable[..., Path]) -> None:
    root = voc(a=an_object("x", 1, 1, 4, 4), b=an_object("y", 1, 1, 4, 4), c="")
    lists = root / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    (lists / "test.txt").write_text("b\n")
    (lists / "train.txt").write_text("a 1\nc -1\n")
    (lists / "x_train.txt").write_text("a\n")  # of one class, which is no split
    test, train = open_dataset(root), open_dataset(root, DataOptions(split="train"))
    assert test.info.classes == train.info.classes == ("x", "y")
    assert [test[0].id, train[0].id, train[1].id] == ["b", "a", "c"]
    with pytest.raises(InputError, match="no split 'val'; choose one of: train, test"):
        open_dataset(root, DataOptions(split="val"))
    (lists / "test.txt").write_text("b\nmissing\n")
    with pytest.raises(BadSampleError, match="there is no image of the name 'missing'"):
        open_dataset(root)
    (lists / "test.txt").write_text("b\nb\n")
    with pytest.raises(InputError, match=r"test.txt: 'b' is there twice"):
        open_dataset(root)


def test_images_without_annotation(voc: Callable[..., Path], write_image: Callable[..., Path]) -> None:
    root = voc(a=an_object("x", 1, 1, 4, 4))
    write_image(root / "JPEGImages" / "z.jpg")
    dataset = open_dataset(root)
    assert len(dataset) == 1
    assert "Images without an annotation file are left out: 1." in dataset.info.notes


@pytest.mark.parametrize("text", [BOMB, OUTSIDE])
def test_entities_are_refused(voc: Callable[..., Path], text: str) -> None:
    root = voc(a=an_object("x", 1, 1, 4, 4), b=text)
    with pytest.raises(BadSampleError, match=r"b\.xml: defines entities or a document type, which is refused"):
        open_dataset(root)


@pytest.mark.parametrize(
    ("objects", "message"),
    [
        (an_object("x", 0, 1, 4, 4), r"b\.xml, object 1, field 'bndbox': 0, 1 lies outside; VOC counts pixels from 1"),
        (an_object("x", 5, 1, 4, 4), r"b\.xml, object 1, field 'bndbox': has no area"),
        (an_object("x", "five", 1, 4, 4), r"b\.xml, object 1, field 'xmin': must be a number, not 'five'"),
        (an_object("x", 1, 1, 4, 4) + an_object("", 1, 1, 4, 4), r"b\.xml, object 2, field 'name': is missing"),
        ("<object><name>x</name></object>", r"b\.xml, object 1, field 'xmin': must be a number, not None"),
        ("<object>", r"b\.xml: is not XML that can be read"),
    ],
)
def test_what_is_wrong_is_told_in_a_line(voc: Callable[..., Path], objects: str, message: str) -> None:
    root = voc(a=an_object("x", 1, 1, 4, 4), b=objects)
    with pytest.raises(BadSampleError, match=message) as caught:
        open_dataset(root)
    assert "\n" not in str(caught.value)
    dataset = open_dataset(root, DataOptions(skip_bad=True))
    assert len(dataset[0].truth) == 1
    with pytest.raises(BadSampleError, match=message):
        dataset[1]


def test_a_box_outside_names_its_object(voc: Callable[..., Path]) -> None:
    dataset = open_dataset(voc(a=an_object("x", 1, 1, 21, 4)))
    with pytest.raises(BadSampleError, match=r"a\.xml, object 1, field 'bndbox': the box 0, 0, 21, 4 .* lies outside"):
        dataset[0]
