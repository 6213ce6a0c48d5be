from __future__ import annotations

import csv
import shutil
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from medrobust.data import DataOptions, Dataset, open_dataset
from medrobust.data.labels import class_of, infer_classes
from medrobust.errors import BadSampleError, InputError

WriteImage = Callable[..., Path]


@pytest.fixture
def aptos(tmp_path: Path, write_image: WriteImage) -> Path:
    """The layout that Kaggle gives: train.csv, test.csv without labels, train_images/, test_images/."""
    root = tmp_path / "aptos"
    for number, name in enumerate(("000c1434d8d7", "001639a390f0", "0024cdab0c1e")):
        write_image(root / "train_images" / f"{name}.png", (number, 0, 0))
    (root / "train.csv").write_text("id_code,diagnosis\n000c1434d8d7,2\n001639a390f0,4\n0024cdab0c1e,0\n")
    (root / "test.csv").write_text("id_code\n0005cfc8afb6\n")
    (root / "sample_submission.csv").write_text("id_code,diagnosis\n0005cfc8afb6,0\n")
    return root


@pytest.fixture
def table(tmp_path: Path, write_image: WriteImage) -> Callable[..., Path]:
    """Write a table beside images a.png, b.png and c.png, with its text or bytes as given."""

    def write(content: str | bytes) -> Path:
        for name in "abc":
            write_image(tmp_path / "set" / "images" / f"{name}.png", ord(name))
        path = tmp_path / "set" / "labels.csv"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


def truths(dataset: Dataset) -> dict[str, Any]:
    return {sample.id: sample.truth.tolist() for sample in (dataset[index] for index in range(len(dataset)))}


@pytest.mark.parametrize("name", ["", "train.csv"])
def test_aptos_is_recognised(aptos: Path, name: str) -> None:
    dataset = open_dataset(aptos / name)
    assert isinstance(dataset, Dataset)
    assert dataset.info.task == "ordinal"
    assert dataset.info.classes == ("no DR", "mild", "moderate", "severe", "proliferative DR")
    assert dataset.info.channels == 3
    assert truths(dataset) == {"000c1434d8d7": 2, "001639a390f0": 4, "0024cdab0c1e": 0}
    assert dataset.info.name == ("aptos" if not name else "train")


def test_columns_by_option(table: Callable[..., Path]) -> None:
    path = table("pic,who,truth,fold,age,hospital\na,p1,1,x,61,Köln\nb.png,p2,0,y,,\nc,p1,1,x,70,Wien\n")
    options = DataOptions(
        image_column="pic", label_column="truth", patient_column="who", split_column="fold", split="x"
    )
    dataset = open_dataset(path, options)
    assert truths(dataset) == {"a": 1, "c": 1}
    assert dataset[1].patient == "p1"
    assert dataset[0].columns == {"age": "61", "hospital": "Köln"}
    assert dataset.info.classes == ("0", "1")
    assert dataset.info.task == "classification"
    assert dataset.info.notes == ()


def test_usual_columns_are_found(table: Callable[..., Path]) -> None:
    dataset = open_dataset(table("image,label,patient_id,split\na,0,p,test\nb,3,q,train\n").parent)
    assert truths(dataset) == {"a": 0}
    assert dataset[0].patient == "p"
    assert len(dataset.info.classes) == 4, "classes are those of all splits"


def test_class_names(table: Callable[..., Path]) -> None:
    path = table("image,label\na,sick\nb,healthy\nc,sick\n")
    assert truths(open_dataset(path)) == {"a": 1, "b": 0, "c": 1}
    named = open_dataset(path, DataOptions(classes=("sick", "odd", "healthy"), task="ordinal"))
    assert truths(named) == {"a": 0, "b": 2, "c": 0}
    assert named.info.task == "ordinal"


def test_multilabel(table: Callable[..., Path]) -> None:
    path = table("image,mass,edema\na,1,0\nb,0,1.0\n")
    dataset = open_dataset(path, DataOptions(label_column=("mass", "edema")))
    assert dataset.info.task == "multilabel"
    assert dataset.info.classes == ("mass", "edema")
    assert truths(dataset) == {"a": [1, 0], "b": [0, 1]}
    with pytest.raises(BadSampleError, match=r"row 2, column 'mass': label '-1' is not 0 to 1"):
        open_dataset(table("image,mass,edema\na,-1,0\n"), DataOptions(label_column=("mass", "edema")))


def test_unknown_labels(table: Callable[..., Path]) -> None:
    path = table("image,mass,edema\na,1,-1.0\nb,-1,0\nc,1,0\n")
    dataset = open_dataset(path, DataOptions(label_column=("mass", "edema"), ignore_index=-1))
    assert dataset.info.ignore_index == -1
    assert dataset.info.classes == ("mass", "edema")
    assert truths(dataset) == {"a": [1, -1], "b": [-1, 0], "c": [1, 0]}
    with pytest.raises(BadSampleError, match=r"row 2, column 'edema': label '-1\.0' is not 0 to 1; .*ignore_index"):
        open_dataset(path, DataOptions(label_column=("mass", "edema")))
    with pytest.raises(BadSampleError, match=r"row 2, column 'edema': label '-1\.0' is not 0 to 1"):
        open_dataset(path, DataOptions(label_column=("mass", "edema"), ignore_index=9))
    path = table("image,mass,edema\na,1,-1\nb,,0\n")
    with pytest.raises(BadSampleError, match=r"row 3, column 'mass': the cell is empty"):
        open_dataset(path, DataOptions(label_column=("mass", "edema"), ignore_index=-1))


def test_a_row_of_which_all_labels_are_unknown(table: Callable[..., Path]) -> None:
    path = table("image,mass,edema\na,1,0\nb,-1,-1\n")
    options: dict[str, Any] = {"label_column": ("mass", "edema"), "ignore_index": -1}
    with pytest.raises(BadSampleError, match=r"labels\.csv, row 3: all labels are unknown \(-1\); leave the row out"):
        open_dataset(path, DataOptions(**options))
    dataset = open_dataset(path, DataOptions(**options, skip_bad=True))
    assert dataset[0].truth.tolist() == [1, 0]
    with pytest.raises(BadSampleError, match="row 3: all labels are unknown"):
        dataset[1]


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbfimage,label\r\na,0\r\nb,1\r\n",
        "image;label\na;0\nb;1\n",
        "image\tlabel\na\t0\nb\t1\n",
        'image,label\n\n"a","0"\n\nb, 1 \n\n',
        "image,label\na.png,0.0\nb.png,1.0\n",
    ],
)
def test_ways_to_write_a_table(table: Callable[..., Path], content: str | bytes) -> None:
    dataset = open_dataset(table(content))
    assert list(truths(dataset).values()) == [0, 1]
    assert dataset[0].columns == {}


def test_an_unnamed_column_gets_a_name(table: Callable[..., Path]) -> None:
    assert open_dataset(table(",image,label\n7,a,0\n8,b,1\n"))[0].columns == {"column 1": "7"}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("image,label\na,0\nzzz,1\n", r"row 3, column 'image': there is no image 'zzz' in .*set/images"),
        ("image,label\na,0\n\n\nzzz,1\n", r"labels\.csv, row 5, column 'image'"),
        ('image,label,note\na,0,"two\nlines"\nzzz,1,\n', r"row 3, column 'image'"),
        ("image,label\na,0\nb,\n", r"row 3, column 'label': the cell is empty; fill it in"),
        ("image,label\na,0\n,1\n", r"row 3, column 'image': the cell is empty"),
        ("image,label,patient\na,0,p\nb,1,\n", r"row 3, column 'patient': the cell is empty"),
        ("image,label\na,0\nb,-1\n", r"row 3, column 'label': label '-1' is not 0 to 1"),
        ("image,label\na,0\nb,1\nc,sick\n", r"row 4, column 'label': label 'sick' is not 0 to 1"),
        ("image,label\na,0\nb,1\nc,0.5\n", r"row 4, column 'label': label '0\.5'"),
        (
            "image,label\n../secret,0\nb,1\n",
            r"row 2, column 'image': '\.\./secret' leads out of the image folder",
        ),
        ("image,label\n/etc/passwd,0\nb,1\n", "leads out of the image folder"),
        ("image,label\n..\\secret,0\nb,1\n", "leads out of the image folder"),
        ("image,label\nC:\\a.png,0\nb,1\n", "leads out of the image folder"),
        ("image,label\n.,0\nb,1\n", "row 2, column 'image'"),
    ],
)
def test_rows_that_are_bad_samples(table: Callable[..., Path], content: str, words: str) -> None:
    path = table(content)
    with pytest.raises(BadSampleError, match=words) as caught:
        open_dataset(path)
    assert "\n" not in str(caught.value)
    assert "--skip-bad" in str(caught.value)
    dataset = open_dataset(path, DataOptions(skip_bad=True))
    assert 2 <= len(dataset) <= 3
    (bad,) = (index for index, entry in enumerate(dataset.entries) if entry.fault)  # type: ignore[attr-defined]
    with pytest.raises(BadSampleError, match=words):
        dataset[bad]
    assert all(dataset[index].id for index in range(len(dataset)) if index != bad)
    assert len(dataset.fingerprint()) == 64


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "is empty; its first row must name the columns"),
        ("image,label\n", "has no rows below its header"),
        ("image,label\na,0\nb,1\na,1\n", r"row 4, column 'image': 'a' is already in row 2; keep one"),
        ("image,label\na,0\na.png,1\n", r"row 3, column 'image': 'a\.png' is already in row 2"),
        ("image,label,split\na,0,test\na,1,train\n", r"row 3, column 'image': 'a' is already in row 2"),
        ("image,lable\na,0\n", r"unknown column 'diagnosis': known: image, lable; set label_column"),
        ("picture,label\na,0\n", r"column 'id_code'.*; set image_column"),
        ("image,label,label\na,0,1\n", r"row 1: column 'label' is there twice"),
        ("image,label\na,0,1\n", r"row 2: has 3 cells for 2 columns"),
        ("image,label,split\na,0,\n", r"row 2, column 'split': the cell is empty"),
        (
            "image,label,split\na,0,train\nb,1,val\n",
            r"column 'split': no split 'test'; choose one of: train, val",
        ),
        ("image,label\na,0\nb,123456\n", r"label 123456 is too high for a class index"),
        (
            "image,label\na,0\nb,1\nc,\x00".encode("utf-16"),
            r"is not UTF-8 text \(byte 0\); save it as 'CSV UTF-8'",
        ),
        (b"image,label\na,K\xf6ln\n", "is not UTF-8 text"),
        ('image,label\na,"0\n', "is not a CSV file that can be read"),
    ],
)
def test_tables_that_are_refused(table: Callable[..., Path], content: str | bytes, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        open_dataset(table(content))
    assert "labels.csv" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_options_that_do_not_fit(table: Callable[..., Path]) -> None:
    path = table("image,label\na,sick\nb,healthy\n")
    for options, words in [
        (
            DataOptions(label_column="lable"),
            "unknown column 'lable': did you mean 'label'?; set label_column",
        ),
        (DataOptions(label_column="image"), "column 'image' is both image and label"),
        (DataOptions(image_folder="pics"), "set/pics: there is no such folder; set image_folder"),
        (DataOptions(split="train"), "these data have no splits, so no 'train'"),
        (DataOptions(classes=3), r"column 'label': 2 labels (healthy, sick) for 3 classes"),
        (DataOptions(classes=("well", "sick")), "label 'healthy' is not 0 to 1, or one of: well, sick"),
        (DataOptions(task="segmentation"), "task 'segmentation' does not fit"),
        (DataOptions(label_column=("label",), classes=3), "3 classes for 1 label columns"),
        (DataOptions(ignore_index=255), "ignore_index is for several label columns"),
    ]:
        with pytest.raises(InputError) as caught:
            open_dataset(path, options)
        assert words.replace("\\", "") in str(caught.value)


def test_which_table(aptos: Path) -> None:
    (aptos / "train.csv").rename(aptos / "first.csv")
    with pytest.raises(
        InputError, match=r"several CSV files \(first\.csv, sample_submission\.csv, test\.csv\); set table"
    ):
        open_dataset(aptos)
    assert len(open_dataset(aptos, DataOptions(table="first.csv"))) == 3
    with pytest.raises(InputError, match=r"there is no file 'none\.csv'"):
        open_dataset(aptos, DataOptions(table="none.csv"))


def test_one_name_with_two_files(table: Callable[..., Path], tmp_path: Path) -> None:
    path = table("image,label\na,0\nb,1\n")
    Image.new("L", (2, 2)).save(tmp_path / "set" / "images" / "a.jpg")
    with pytest.raises(BadSampleError, match=r"row 2, column 'image': 'a' may be any of a\.jpg, a\.png"):
        open_dataset(path)
    path.write_text("image,label\na.jpg,0\nb,1\n")
    assert open_dataset(path)[0].image.shape == (1, 2, 2)


def test_paths_below_the_folder_and_accents(tmp_path: Path, write_image: WriteImage) -> None:
    write_image(tmp_path / "images" / "left eye" / f"{unicodedata.normalize('NFD', 'Müller')}.png")
    (tmp_path / "t.csv").write_text(f"file,label\nleft eye/{unicodedata.normalize('NFC', 'Müller')},1\n")
    assert truths(open_dataset(tmp_path)) == {"left eye/Müller": 1}


def test_images_beside_the_table_and_limit(tmp_path: Path, write_image: WriteImage) -> None:
    for number in range(10):
        write_image(tmp_path / f"{number}.png", number)
    lines = [["file", "label"], *([f"{number}.png", str(number % 2)] for number in range(10))]
    with (tmp_path / "t.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows(lines)
    dataset = open_dataset(tmp_path, DataOptions(limit=3, resize=(2, 3)))
    assert list(truths(dataset)) == ["0.png", "3.png", "6.png"]
    assert dataset[0].image.shape == (1, 2, 3)


def test_a_bad_image_is_told_when_it_is_read(table: Callable[..., Path], tmp_path: Path) -> None:
    path = table("image,label\na,0\nb,1\n")
    (tmp_path / "set" / "images" / "b.png").write_bytes(b"damaged")
    dataset = open_dataset(path)
    assert dataset[0].truth == 0
    with pytest.raises(BadSampleError, match=r"images/b\.png cannot be read"):
        dataset[1]


def test_fingerprint_follows_labels_and_images(table: Callable[..., Path], write_image: WriteImage) -> None:
    path = table("image,label\na,0\nb,1\n")
    first = open_dataset(path).fingerprint()
    assert open_dataset(path).fingerprint() == first
    assert open_dataset(table("image,label\na,1\nb,1\n")).fingerprint() != first
    path = table("image,label\na,0\nb,1\n")
    write_image(path.parent / "images" / "a.png", 3)
    assert open_dataset(path).fingerprint() != first


def test_fingerprint_follows_the_reading(table: Callable[..., Path]) -> None:
    path = table("image,label\na,0\nb,1\n")
    ways: list[dict[str, Any]] = [{}, {"resize": 8}, {"channels": 3}, {"classes": 3}, {"classes": ("well", "sick")}]
    prints = [open_dataset(path, DataOptions(**way)).fingerprint() for way in ways]
    assert len(set(prints)) == len(ways)
    assert open_dataset(path, DataOptions(channels=1, image_column="image")).fingerprint() == prints[0]


@pytest.mark.parametrize("name", ["x" * 300, "x" * 300 + "/a", "a.png/b", "images", "a\0b/c"])
def test_a_cell_that_can_be_no_file(table: Callable[..., Path], name: str) -> None:
    path = table(f"image,label\na,0\n{name},1\n")
    with pytest.raises(BadSampleError, match=r"labels\.csv, row 3, column 'image': ") as caught:
        open_dataset(path)
    assert "\n" not in str(caught.value)
    dataset = open_dataset(path, DataOptions(skip_bad=True))
    assert dataset[0].truth == 0
    with pytest.raises(BadSampleError, match="row 3"):
        dataset[1]


def test_a_folder_in_place_of_an_image(table: Callable[..., Path]) -> None:
    path = table("image,label\na,0\nb,1\n")
    (path.parent / "images" / "b.png").unlink()
    (path.parent / "images" / "b.png").mkdir()
    dataset = open_dataset(path)
    with pytest.raises(BadSampleError, match=r"images/b\.png cannot be opened \(Is a directory\)"):
        dataset[1]


@pytest.mark.parametrize(
    ("label", "classes", "index"),
    [
        ("mild", ("none", "mild"), 1),
        ("1", ("none", "mild"), 1),
        ("2.0", ("0", "1", "2"), 2),
        ("2", ("1", "2", "3"), 1),  # a name that is a number is a name
    ],
)
def test_class_of(label: str, classes: tuple[str, ...], index: int) -> None:
    assert class_of(label, classes) == index


@pytest.mark.parametrize(
    ("label", "classes"), [("0", ("1", "2")), ("2", ("a", "b")), ("nan", ("0", "1")), ("inf", ("a", "b"))]
)
def test_class_of_refuses(label: str, classes: tuple[str, ...]) -> None:
    with pytest.raises(InputError, match=f"label '{label}' is not "):
        class_of(label, classes)


def test_infer_classes() -> None:
    assert infer_classes(["0", "0"], None) == ("0", "1")
    assert infer_classes(["0", "2"], 5) == ("0", "1", "2", "3", "4")
    assert infer_classes(["b", "a", "", "b"], None) == ("a", "b")
    assert infer_classes([], ("x", "y")) == ("x", "y")


def test_real_fundus_images(shared_data: Path, tmp_path: Path) -> None:
    (tmp_path / "train_images").mkdir()
    for number in (1, 2, 3):
        shutil.copy(shared_data / "idrid512" / f"IDRiD_0{number}.jpg", tmp_path / "train_images")
    (tmp_path / "train.csv").write_text("id_code,diagnosis\nIDRiD_01,3\nIDRiD_02,4\nIDRiD_03,2\n")
    dataset = open_dataset(tmp_path)
    assert dataset[1].image.shape == (3, 512, 512)
    assert truths(dataset) == {"IDRiD_01": 3, "IDRiD_02": 4, "IDRiD_03": 2}
