from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from medrobust.data import BadSampleError, DataOptions, open_dataset
from medrobust.errors import InputError


@pytest.fixture
def coco(tmp_path: Path, write_image: Callable[..., Path]) -> Callable[..., Path]:
    """Write a set of three 20 × 10 images, with whatever is to be changed in its JSON."""

    def write(name: str = "instances_test2017.json", **changes: Any) -> Path:
        content = {
            "images": [
                {"id": 7, "file_name": "b.png"},
                {"id": 3, "file_name": "a.png"},
                {"id": 9, "file_name": "c.png"},
            ],
            "categories": [{"id": 40, "name": "polyp"}, {"id": 2, "name": "tool"}],
            "annotations": [
                {"id": 1, "image_id": 7, "category_id": 40, "bbox": [2, 3, 4, 5], "iscrowd": 0},
                {"id": 2, "image_id": 7, "category_id": 2, "bbox": [0.5, 0, 19.5, 10]},
                {"id": 3, "image_id": 3, "category_id": 2, "bbox": [1, 1, 5, 5], "iscrowd": 1},
            ],
        } | changes
        for image in ("a.png", "b.png", "c.png"):
            write_image(tmp_path / "images" / image, size=(20, 10))
        (tmp_path / "annotations").mkdir(exist_ok=True)
        (tmp_path / "annotations" / name).write_text(json.dumps(content))
        return tmp_path

    return write


def annotation(**changes: Any) -> dict[str, Any]:
    return {"id": 1, "image_id": 7, "category_id": 40, "bbox": [2, 3, 4, 5]} | changes


def test_boxes_classes_and_images_as_the_file_has_them(coco: Callable[..., Path]) -> None:
    root = coco()
    for path in (root, root / "annotations" / "instances_test2017.json"):
        dataset = open_dataset(path)
        assert dataset.info.task == "detection"
        assert dataset.info.classes == ("tool", "polyp")  # by id: 2, 40
        assert [dataset[index].id for index in range(3)] == ["b.png", "a.png", "c.png"]
        assert dataset[0].truth.tolist() == [[2, 3, 6, 8, 1], [0.5, 0, 20, 10, 0]]
        assert dataset[1].truth.shape == dataset[2].truth.shape == (0, 5)
        assert "Boxes marked iscrowd are left out: 1." in dataset.info.notes


def test_the_users_order_of_classes(coco: Callable[..., Path]) -> None:
    dataset = open_dataset(coco(), DataOptions(classes=("polyp", "blood", "tool")))
    assert dataset.info.classes == ("polyp", "blood", "tool")
    assert dataset[0].truth[:, 4].tolist() == [0, 2]
    with pytest.raises(InputError, match=r"class 'tool' is not among classes \(polyp, x\); name it there"):
        open_dataset(coco(), DataOptions(classes=("polyp", "x")))


def test_boxes_follow_a_resize(coco: Callable[..., Path]) -> None:
    dataset = open_dataset(coco(), DataOptions(resize=(20, 10)))
    assert dataset[0].truth[0].tolist() == [1, 6, 3, 16, 1]


def test_the_file_of_the_split(coco: Callable[..., Path]) -> None:
    root = coco("instances_val2017.json")
    coco("instances_train2017.json", annotations=[])
    coco("captions_val2017.json")
    assert len(open_dataset(root, DataOptions(split="val"))[0].truth) == 2
    assert len(open_dataset(root, DataOptions(split="train"))[0].truth) == 0
    with pytest.raises(InputError, match=r"no file of split 'test' in annotations \(instances_train2017.json, inst"):
        open_dataset(root)
    with pytest.raises(InputError, match=r"this is the split 'val', not 'train'"):
        open_dataset(root / "annotations" / "instances_val2017.json", DataOptions(split="train"))


def test_images_in_the_folder_of_the_split(coco: Callable[..., Path], write_image: Callable[..., Path]) -> None:
    root = coco()
    for image in ("a.png", "b.png", "c.png"):
        (root / "images" / image).unlink()
        write_image(root / "test2017" / image, size=(20, 10))
    assert open_dataset(root)[0].file == root / "test2017" / "b.png"
    assert open_dataset(root, DataOptions(image_folder="test2017"))[0].file == root / "test2017" / "b.png"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"annotations": [annotation(image_id=8)]}, r"annotation 1, field 'image_id': there is no image 8"),
        (
            {"annotations": [annotation(), annotation()]},
            r"annotation 1, field 'id': must be a whole number that no other",
        ),
        ({"annotations": [annotation(category_id=41)]}, r"annotation 1, field 'category_id': there is no category 41"),
        ({"annotations": [annotation(bbox=[1, 2, 3])]}, r"annotation 1, field 'bbox': must be four numbers"),
        (
            {"annotations": [annotation(bbox=[1, 2, 3, float("nan")])]},
            r"annotation 1, field 'bbox': must be four numbers",
        ),
        ({"annotations": [annotation(bbox=[1, 2, 0, 3])]}, r"annotation 1, field 'bbox': \[1, 2, 0, 3\] has no area"),
        ({"images": [{"id": 7, "file_name": "z.png"}]}, r"image 7, field 'file_name': there is no image .*z.png"),
        (
            {"images": [{"id": 7, "file_name": "../b.png"}]},
            r"image 7, field 'file_name': '../b.png' leads out of the data",
        ),
        ({"images": [{"id": 7, "file_name": "/etc/b.png"}]}, r"image 7, field 'file_name': '/etc/b.png' leads out of"),
        ({"images": [{"id": 7}]}, r"item 1 of 'images', field 'file_name': must be a text, not None"),
        (
            {"images": [{"id": 7, "file_name": "b.png"}] * 2},
            r"item 2 of 'images', field 'id': 7 must be a whole number",
        ),
        ({"images": []}, r"field 'images': is empty"),
        ({"categories": None}, r"field 'categories': must be a list of objects"),
        ({"categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "a"}]}, r"two categories have one name"),
    ],
)
def test_what_is_wrong_is_told_in_a_line(coco: Callable[..., Path], changes: dict[str, Any], message: str) -> None:
    if "images" in changes:
        changes = {"annotations": []} | changes
    root = coco(**changes)
    with pytest.raises(InputError, match=message) as caught:
        open_dataset(root, DataOptions(format="coco"))
    assert "instances_test2017.json" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_box_outside_names_its_annotation(coco: Callable[..., Path]) -> None:
    dataset = open_dataset(coco(annotations=[annotation(bbox=[10, 0, 11, 5])]))
    with pytest.raises(
        BadSampleError, match=r"annotation 1, field 'bbox': the box 10, 0, 21, 5 .* lies outside .*b.png"
    ):
        dataset[0]


def test_bad_annotations_can_be_skipped(coco: Callable[..., Path]) -> None:
    dataset = open_dataset(coco(annotations=[annotation(category_id=41)]), DataOptions(skip_bad=True))
    with pytest.raises(BadSampleError, match="there is no category 41"):
        dataset[0]
    assert dataset[1].id == "a.png"


@pytest.mark.parametrize("text", ["{", "[1]", "nothing", "[" * 100_000])
def test_files_that_are_no_coco(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(InputError, match=r"x\.json: is no") as caught:
        open_dataset(tmp_path / "x.json")
    assert "\n" not in str(caught.value)


def test_our_boxes_are_those_of_cocos_own_reader(coco: Callable[..., Path]) -> None:
    """faster_coco_eval's COCO class is pycocotools' reader."""
    reader = pytest.importorskip("faster_coco_eval").COCO
    root = coco()
    oracle = reader(str(root / "annotations" / "instances_test2017.json"))
    dataset = open_dataset(root)
    order = sorted(oracle.getCatIds())
    for index, key in enumerate([7, 3, 9]):
        theirs = oracle.loadAnns(oracle.getAnnIds(imgIds=[key], iscrowd=0))
        expected = [
            [
                a["bbox"][0],
                a["bbox"][1],
                a["bbox"][0] + a["bbox"][2],
                a["bbox"][1] + a["bbox"][3],
                order.index(a["category_id"]),
            ]
            for a in theirs
        ]
        assert dataset[index].truth.tolist() == expected
