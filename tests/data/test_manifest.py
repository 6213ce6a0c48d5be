from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch

from medrobust.data import BadSampleError, DataOptions, file_types, open_dataset, recognise
from medrobust.data.file_types import FileType, StoredImage
from medrobust.errors import InputError


@pytest.fixture
def write(tmp_path: Path, write_image: Callable[..., Path]) -> Callable[[str], Path]:
    """Write a manifest beside two 20 × 10 images and a text file of boxes."""

    def manifest(text: str, name: str = "data.csv") -> Path:
        for image in ("a", "b"):
            write_image(tmp_path / "pictures" / f"{image}.png", size=(20, 10))
        (tmp_path / "b.txt").write_text("1 2 3 4 polyp\n\n5.5 6 7 8 large blood\n")
        (tmp_path / name).write_text(text)
        return tmp_path / name

    return manifest


def test_boxes_in_the_cell_and_in_a_file(write: Callable[..., Path]) -> None:
    path = write(
        "id,image,boxes,patient,split,scanner\n"
        "first,pictures/a.png,0 0 20 10 polyp; 1 1 2 2 tool,p1,test,GE\n"
        "second,pictures/b.png,b.txt,p2,test,\n"
        "third,pictures/../pictures/b.png,,p2,train,\n"
    )
    path.write_text(path.read_text().replace("pictures/../pictures/b.png", "./pictures/b.png"))
    dataset = open_dataset(path)
    assert dataset.info.task == "detection"
    assert dataset.info.classes == ("large blood", "polyp", "tool")
    first, second = dataset[0], dataset[1]
    assert (first.id, first.patient, dict(first.columns)) == ("first", "p1", {"scanner": "GE"})
    assert first.truth.tolist() == [[0, 0, 20, 10, 1], [1, 1, 2, 2, 2]]
    assert second.truth.tolist() == [[1, 2, 3, 4, 1], [5.5, 6, 7, 8, 0]]
    train = open_dataset(path.parent, DataOptions(split="train"))
    assert train[0].truth.shape == (0, 5)
    assert train.info.classes == dataset.info.classes


def test_classes_by_index_and_by_the_users_names(write: Callable[..., Path]) -> None:
    path = write("image,boxes\npictures/a.png,0 0 2 2 1;0 0 3 3 0\npictures/b.png,\n")
    assert open_dataset(path).info.classes == ("0", "1")
    named = open_dataset(path, DataOptions(classes=("x", "y", "z")))
    assert named.info.classes == ("x", "y", "z")
    assert named[0].truth[:, 4].tolist() == [1, 0]
    path = write("image,boxes\npictures/a.png,0 0 2 2 0\n")
    assert open_dataset(path).info.classes == ("0",)


def test_masks(write: Callable[..., Path], write_mask: Callable[..., Path]) -> None:
    path = write("image;mask;age\npictures/a.png;truth/a.png;60\n")
    mask = [[0] * 20] * 9 + [[2] * 20]
    write_mask(path.parent / "truth" / "a.png", mask)
    dataset = open_dataset(path)
    assert (dataset.info.task, dataset.info.classes) == ("segmentation", ("background", "1", "2"))
    assert dataset[0].truth.tolist() == mask
    assert dataset[0].columns == {"age": "60"}
    named = open_dataset(path, DataOptions(classes=("none", "lung", "liver")))
    assert named.info.classes == ("none", "lung", "liver")


def test_labels(write: Callable[..., Path]) -> None:
    path = write("image,label\npictures/a.png,sick\npictures/b.png,healthy\n")
    dataset = open_dataset(path, DataOptions(format="manifest"))
    assert (dataset.info.task, dataset.info.classes) == ("classification", ("healthy", "sick"))
    assert [int(dataset[index].truth) for index in range(2)] == [1, 0]
    assert open_dataset(path, DataOptions(format="manifest", task="ordinal")).info.task == "ordinal"


def test_several_columns_of_truth(write: Callable[..., Path], write_mask: Callable[..., Path]) -> None:
    path = write("image,label,boxes\npictures/a.png,1,0 0 2 2 x\npictures/b.png,0,\n")
    with pytest.raises(InputError, match="the columns boxes, label all hold truth; set task to say which counts"):
        open_dataset(path)
    assert open_dataset(path, DataOptions(task="detection")).info.classes == ("x",)
    dataset = open_dataset(path, DataOptions(task="classification"))
    assert int(dataset[0].truth) == 1
    assert dataset[0].columns == {"boxes": "0 0 2 2 x"}
    with pytest.raises(InputError, match="task 'segmentation' does not fit these data"):
        open_dataset(path, DataOptions(task="segmentation"))


def test_images_below_another_folder(write: Callable[..., Path]) -> None:
    path = write("image,boxes\na.png,\nb.png,1 1 2 2 x\n")
    dataset = open_dataset(path, DataOptions(image_folder="pictures"))
    assert dataset[1].file == path.parent / "pictures" / "b.png"
    with pytest.raises(InputError, match=r"there is no such folder; set image_folder"):
        open_dataset(path, DataOptions(image_folder="nowhere"))


def test_volumes(write: Callable[..., Path]) -> None:
    path = write("image,mask,patient\nct.nii.gz,truth/m.nii.gz,p1\n")
    (path.parent / "truth").mkdir()
    values = np.zeros((3, 4, 5), np.int16)
    nibabel.save(nibabel.Nifti1Image(values - 1000, np.eye(4)), path.parent / "ct.nii.gz")
    values[1] = 2
    nibabel.save(nibabel.Nifti1Image(values.astype(np.uint8), np.eye(4)), path.parent / "truth" / "m.nii.gz")
    dataset = open_dataset(path, DataOptions(unit="HU"))
    assert dataset.info.classes == ("background", "1", "2")
    assert (dataset.info.unit, dataset.info.spatial_dims) == ("HU", 3)
    assert dataset[0].truth.unique(return_counts=True)[1].tolist() == [40, 20]
    assert dataset[0].patient == "p1"


def test_an_image_that_is_a_folder(write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """As a DICOM series is, whose patient the files name."""

    def read(path: Path, max_pixels: int | None) -> StoredImage:
        return StoredImage(torch.zeros(1, 3, 4, 5), "HU", patient=f"patient of {path.name}")

    kind = FileType(lambda path: path.is_dir(), read, lambda *_: torch.zeros(3, 4, 5, dtype=torch.int64))
    monkeypatch.setitem(file_types.FILE_TYPES, "series", kind)
    path = write("image,boxes,label\npictures,,x\n")
    dataset = open_dataset(path, DataOptions(format="manifest", task="classification"))
    assert dataset[0].image.shape == (1, 3, 4, 5)
    assert dataset[0].patient == "patient of pictures"
    (path.parent.parent / "elsewhere.png").touch()
    (path.parent / "pictures" / "c.png").symlink_to(path.parent.parent / "elsewhere.png")
    with pytest.raises(BadSampleError, match=r"c\.png leads out of the data folder"):
        open_dataset(path, DataOptions(format="manifest", task="classification"))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("../x.png,", r"row 2, column 'image': '../x.png' leads out of the data folder"),
        ("/etc/passwd,", r"row 2, column 'image': '/etc/passwd' leads out of the data folder"),
        (r"C:\x.png,", r"row 2, column 'image': .* leads out of the data folder"),
        ("pictures/a.png,../boxes.txt", r"row 2, column 'boxes': '../boxes.txt' leads out of the data folder"),
        ("pictures/z.png,", r"row 2, column 'image': there is no file .*z.png; put it there, or set image_folder"),
        (",0 0 1 1 x", r"row 2, column 'image': the cell is empty; fill it in"),
        ("pictures/a.png,z.txt", r"row 2, column 'boxes': there is no file .*z.txt"),
        ("pictures/a.png,1 2 3 x", r"row 2, column 'boxes', box 1: '1 2 3 x' is not 'x1 y1 x2 y2 class'"),
        ("pictures/a.png,0 0 1 1 x;1 2 3 4", r"row 2, column 'boxes', box 2: '1 2 3 4' is not"),
    ],
)
def test_what_is_wrong_names_row_and_column(write: Callable[..., Path], rows: str, message: str) -> None:
    path = write(f"image,boxes\n{rows}\npictures/b.png,0 0 2 2 x\n")
    with pytest.raises(BadSampleError, match=rf"data\.csv, {message}") as caught:
        open_dataset(path)
    assert "\n" not in str(caught.value)
    dataset = open_dataset(path, DataOptions(skip_bad=True))
    with pytest.raises(BadSampleError, match=message):
        dataset[0]
    assert len(dataset[1].truth) == 1


def test_a_file_of_boxes_names_its_row(write: Callable[..., Path]) -> None:
    path = write("image,boxes\npictures/a.png,b.txt\n")
    (path.parent / "b.txt").write_text("0 0 1 1 x\n\n0 0 1\n")
    with pytest.raises(BadSampleError, match=r"b\.txt, row 3: '0 0 1' is not 'x1 y1 x2 y2 class'"):
        open_dataset(path, DataOptions(classes=("x", "y")))
    (path.parent / "b.txt").write_text("0 0 1 1 z\n")
    with pytest.raises(BadSampleError, match=r"b\.txt, row 1: label 'z' is not 0 to 1, or one of: x, y"):
        open_dataset(path, DataOptions(classes=("x", "y")))
    (path.parent / "b.txt").write_text("0 0 21 1 y\n")
    with pytest.raises(BadSampleError, match=r"b\.txt, row 1: the box 0, 0, 21, 1 .* lies outside"):
        open_dataset(path, DataOptions(classes=("x", "y")))[0]


def test_paths_from_outside_on_request(write: Callable[..., Path], write_image: Callable[..., Path]) -> None:
    path = write("image,boxes\npictures/a.png,\n", "set.csv")
    inner = path.parent / "inner"
    inner.mkdir()
    (inner / "set.csv").write_text(f"image,boxes\n../pictures/a.png,1 1 2 2 x\n{path.parent}/pictures/b.png,\n")
    with pytest.raises(
        BadSampleError, match=r"leads out of the data folder; give a path relative to .*inner, or set allow_"
    ):
        open_dataset(inner / "set.csv")
    assert len(open_dataset(inner / "set.csv", DataOptions(allow_outside=True))) == 2


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("picture,boxes\nx,\n", {}, r"unknown column 'image'"),
        ("image,age\nx,\n", {}, r"there is no column boxes or mask or label; a manifest needs one"),
        ("image,boxes\n", {}, r"has no rows below its header"),
        ("image,boxes\npictures/a.png,\npictures/a.png,\n", {}, r"row 3, column 'image': .* is already in row 2"),
        ("id,image,boxes\n1,pictures/a.png,\n1,pictures/b.png,\n", {}, r"row 3, column 'id': '1' is already in row 2"),
        ("image,boxes\npictures/a.png,\n", {}, r"no row has a box; set classes"),
        ("image,boxes,split\npictures/a.png,0 0 1 1 x,train\n", {}, r"no split 'test'; choose one of: train"),
        ("image,boxes\npictures/a.png,0 0 1 1 x\n", {"ignore_index": 255}, r"ignore_index is for masks"),
    ],
)
def test_manifests_that_cannot_be_read(
    write: Callable[..., Path], text: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        open_dataset(write(text), DataOptions(format="manifest", **options))
    assert "data.csv" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_table_of_labels_stays_a_table(write: Callable[..., Path]) -> None:
    """Image names without suffix, in a folder of the usual name, are csv_table's."""
    path = write("image,label\na,0\nb,1\n")
    assert [open_dataset(path, DataOptions(image_folder="pictures"))[0].id] == ["a"]


def test_a_thousand_rows_with_boxes(write: Callable[..., Path]) -> None:
    rows = "".join(f"{n},pictures/a.png,0 0 2 2 x\n" for n in range(1000))
    dataset = open_dataset(write("id,image,boxes\n" + rows), DataOptions(limit=10))
    assert [dataset[index].id for index in range(3)] == ["0", "100", "200"]


def test_a_manifest_of_labels_is_told_from_a_table(
    write: Callable[..., Path], write_image: Callable[..., Path]
) -> None:
    """By where its images are: below the manifest's folder, whatever folder images/ lies there too."""
    path = write("image,label,patient\npictures/a.png,cat,p1\npictures/b.png,dog,p2\n")
    write_image(path.parent / "images" / "c.png")
    dataset = open_dataset(path)
    assert recognise(path, DataOptions()) == "manifest"
    assert [(sample.id, sample.patient, int(sample.truth)) for sample in (dataset[0], dataset[1])] == [
        ("pictures/a.png", "p1", 0),
        ("pictures/b.png", "p2", 1),
    ]
    write("image,label\na,cat\nb,dog\n")
    (path.parent / "pictures").rename(path.parent / "train_images")
    assert recognise(path, DataOptions()) == "csv_table"
    assert len(open_dataset(path)) == 2


def test_a_manifest_goes_before_folders_of_images_and_masks(
    tmp_path: Path, write_image: Callable[..., Path], write_mask: Callable[..., Path]
) -> None:
    """What it says of patients and splits counts, though the folders alone would be a data set too."""
    for name in ("a", "b"):
        write_image(tmp_path / "images" / f"{name}.png", size=(4, 4))
        write_mask(tmp_path / "masks" / f"{name}.png", np.eye(4))
    assert open_dataset(tmp_path).info.task == "segmentation"
    rows = "image,mask,patient,split\nimages/a.png,masks/a.png,p1,train\nimages/b.png,masks/b.png,p2,test\n"
    (tmp_path / "manifest.csv").write_text(rows)
    dataset = open_dataset(tmp_path)
    assert [(sample.id, sample.patient) for sample in (dataset[place] for place in range(len(dataset)))] == [
        ("images/b.png", "p2")
    ]
