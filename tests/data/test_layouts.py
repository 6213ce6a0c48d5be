"""Sets in their official layouts, and what holds for every layout: patients from ids, nothing from outside."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from PIL import Image

from medrobust.data import BadSampleError, DataOptions, open_dataset
from medrobust.data.class_names import EAD_2019, EAD_2020
from medrobust.data.masks import read_class_mask
from medrobust.errors import InputError

Paint = Callable[..., Path]


@pytest.mark.parametrize(("images", "labels"), [("frames", "gt_bbox"), ("originalImages", "bbox")])
def test_ead_2020(tmp_path: Path, write_image: Paint, images: str, labels: str) -> None:
    write_image(tmp_path / images / "EAD2020_00001.jpg", size=(20, 10))
    (tmp_path / labels).mkdir()
    (tmp_path / labels / "EAD2020_00001.txt").write_text("7 0.5 0.5 0.5 0.5\n")
    dataset = open_dataset(tmp_path)
    assert dataset.info.classes == EAD_2020
    assert dataset.info.classes[7] == "blood"
    assert dataset[0].truth.tolist() == [[5, 2.5, 15, 7.5, 7]]
    assert dataset[0].id == f"{images}/EAD2020_00001.jpg"


def test_ead_2019_without_its_list_of_classes(tmp_path: Path, write_image: Paint) -> None:
    write_image(tmp_path / "00001.jpg")
    (tmp_path / "00001.txt").write_text("6 0.5 0.5 0.5 0.5\n")
    dataset = open_dataset(tmp_path, DataOptions(format="ead"))
    assert dataset.info.classes == EAD_2019
    (tmp_path / "00001.txt").write_text("7 0.5 0.5 0.5 0.5\n")
    with pytest.raises(BadSampleError, match=r"00001.txt, row 1: class '7' is not 0 to 6"):
        open_dataset(tmp_path, DataOptions(format="ead"))


def test_another_list_of_classes_is_not_eads(tmp_path: Path, write_image: Paint) -> None:
    write_image(tmp_path / "a.jpg")
    (tmp_path / "a.txt").write_text("1 0.5 0.5 0.5 0.5\n")
    (tmp_path / "class_list.txt").write_text("cat\ndog\n")
    assert open_dataset(tmp_path).info.classes == ("cat", "dog")  # plain YOLO


@pytest.fixture
def kvasir(tmp_path: Path, write_image: Paint) -> Path:
    """Two images with a white disc as JPEG mask, and the official set's file of boxes."""
    rows, columns = np.mgrid[:64, :64]
    boxes = {}
    for name in ("cju0", "cju1"):
        write_image(tmp_path / "images" / f"{name}.jpg", (200, 90, 80), size=(64, 64))
        (tmp_path / "masks").mkdir(exist_ok=True)
        disc = ((rows - 30) ** 2 + (columns - 20) ** 2 < 150).astype(np.uint8) * 255
        Image.fromarray(disc).convert("RGB").save(tmp_path / "masks" / f"{name}.jpg", quality=75)
        box = {"label": "polyp", "xmin": 8, "ymin": 18, "xmax": 33, "ymax": 43}
        boxes[name] = {"height": 64, "width": 64, "bbox": [box]}
    (tmp_path / "kavsir_bboxes.json").write_text(json.dumps(boxes))
    return tmp_path


def test_kvasir_masks(kvasir: Path) -> None:
    dataset = open_dataset(kvasir)
    assert (dataset.info.task, dataset.info.classes) == ("segmentation", ("background", "polyp"))
    rows, columns = np.mgrid[:64, :64]
    disc = torch.from_numpy((rows - 30) ** 2 + (columns - 20) ** 2 < 150).long()
    assert (dataset[0].truth != disc).float().mean() < 0.01  # but for JPEG's soft edge
    assert dataset[0].truth.unique().tolist() == [0, 1]


def test_kvasir_boxes(kvasir: Path) -> None:
    dataset = open_dataset(kvasir, DataOptions(task="detection"))
    assert dataset.info.classes == ("polyp",)
    assert dataset[1].truth.tolist() == [[8, 18, 33, 43, 0]]
    assert dataset[1].id == "images/cju1.jpg"
    assert open_dataset(kvasir, DataOptions(task="detection", classes=("lesion",))).info.classes == ("lesion",)
    (kvasir / "kavsir_bboxes.json").write_text('{"cju0": {"bbox": []}, "cju1": {"bbox": [{"xmin": 1}]}}')
    with pytest.raises(BadSampleError, match=r"kavsir_bboxes.json, image 'cju1', box 1: must have the numbers xmin"):
        open_dataset(kvasir, DataOptions(task="detection"))
    assert open_dataset(kvasir, DataOptions(task="detection", skip_bad=True))[0].truth.shape == (0, 5)
    (kvasir / "kavsir_bboxes.json").write_text('{"cju0": {"bbox": []}}')
    with pytest.raises(BadSampleError, match=r"image 'cju1', field 'bbox': must be a list of boxes"):
        open_dataset(kvasir, DataOptions(task="detection"))


def test_a_jpeg_mask_is_black_and_white(tmp_path: Path) -> None:
    """Noise of the compression is neither a class nor a reason to refuse: 255 need not be reached."""
    mask = np.zeros((16, 16), np.uint8)
    mask[:, 8:] = 250
    Image.fromarray(mask).save(tmp_path / "m.jpg", quality=30)
    assert read_class_mask(tmp_path / "m.jpg", 2).tolist() == (mask > 127).astype(int).tolist()
    Image.fromarray(np.full((16, 16), 3, np.uint8)).save(tmp_path / "dark.jpg")
    assert read_class_mask(tmp_path / "dark.jpg", 2).sum() == 0


@pytest.fixture
def covid(tmp_path: Path) -> Path:
    """The set's folders, with volumes of 4 × 4 × 2 voxels: a coronacase in HU, Radiopaedia's as 0 to 255."""
    masks = {"Lung_Mask": 2, "Infection_Mask": 1, "Lung_and_Infection_Mask": 3}
    names = ("coronacases_001", "coronacases_002", "radiopaedia_10_85902_1", "radiopaedia_10_85902_3")
    for name in names:
        values = np.linspace(-1000, 400, 32) if name.startswith("corona") else np.linspace(10, 240, 32)
        _write_nifti(tmp_path / "COVID-19-CT-Seg_20cases" / f"{name}.nii.gz", values.astype(np.int16).reshape(4, 4, 2))
        for folder, value in masks.items():
            mask = np.zeros((4, 4, 2), np.uint8)
            mask[:2] = value
            _write_nifti(tmp_path / folder / f"{name}.nii.gz", mask)
    return tmp_path


def _write_nifti(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(values, np.diag([0.7, 0.7, 5.0, 1.0])), path)


def test_covid_ct(covid: Path) -> None:
    dataset = open_dataset(covid)
    assert dataset.info.task == "segmentation"
    assert dataset.info.classes == ("background", "left lung", "right lung", "infection")
    assert (dataset.info.unit, dataset.info.spatial_dims, dataset.info.channels) == ("HU", 3, 1)
    assert [dataset[index].id for index in range(len(dataset))] == ["coronacases_001", "coronacases_002"]
    sample = dataset[0]
    assert sample.patient == "coronacases_001"
    assert sorted(sample.spacing) == pytest.approx([0.7, 0.7, 5.0])
    assert sample.image.aminmax() == (-1000, 400)
    assert sample.truth.unique(return_counts=True)[1].tolist() == [16, 16]
    assert sample.truth.max() == 3
    assert any("Hounsfield" in note for note in dataset.info.notes)
    assert not any("names no unit" in note for note in dataset.info.notes)  # the authors do
    assert "Cases of another unit are left out: 2." in dataset.info.notes


def test_covid_ct_slice_by_slice(covid: Path) -> None:
    dataset = open_dataset(covid, DataOptions(slices="axial"))
    assert len(dataset) == 2 * 2
    assert dataset[0].image.shape == (1, 4, 4)
    assert {dataset[index].patient for index in range(4)} == {"coronacases_001", "coronacases_002"}


def test_covid_ct_cases_of_the_other_unit(covid: Path) -> None:
    dataset = open_dataset(covid, DataOptions(cases="radiopaedia"))
    assert [dataset[index].patient for index in range(len(dataset))] == ["radiopaedia_10", "radiopaedia_10"]
    assert (dataset.info.unit, dataset.info.bounds) == ("stored", (0, 255))
    assert any("0 to 255" in note and "-1250 to 250 HU" in note for note in dataset.info.notes)
    with pytest.raises(InputError, match="unknown cases 'corona': did you mean 'coronacases'"):
        open_dataset(covid, DataOptions(cases="corona"))


@pytest.mark.parametrize(("folder", "classes", "value"), [("Lung_Mask", 3, 2), ("Infection_Mask", 2, 1)])
def test_covid_ct_other_masks(covid: Path, folder: str, classes: int, value: int) -> None:
    dataset = open_dataset(covid, DataOptions(mask_folder=folder))
    assert len(dataset.info.classes) == classes
    assert dataset[0].truth.unique().tolist() == [0, value]


def test_covid_ct_without_a_mask(covid: Path) -> None:
    (covid / "Lung_and_Infection_Mask" / "coronacases_002.nii.gz").unlink()
    with pytest.raises(
        BadSampleError, match=r"coronacases_002.nii.gz has no mask in .*Lung_and_Infection_Mask: put one"
    ):
        open_dataset(covid)


def _class_folders(root: Path, write_image: Paint) -> Path:
    write_image(root / "b" / "p2_1.png")
    return write_image(root / "a" / "p1_1.png")


def _image_masks(root: Path, write_image: Paint) -> Path:
    write_image(root / "masks" / "p1_1.png", 0)
    return write_image(root / "images" / "p1_1.png")


def _table(root: Path, write_image: Paint) -> Path:
    root.mkdir()
    (root / "t.csv").write_text("image,label\np1_1.png,0\n")
    return write_image(root / "images" / "p1_1.png")


def _manifest(root: Path, write_image: Paint) -> Path:
    root.mkdir()
    (root / "t.csv").write_text("image,boxes\nimages/p1_1.png,0 0 2 2 x\n")
    return write_image(root / "images" / "p1_1.png")


def _coco(root: Path, write_image: Paint) -> Path:
    (root / "annotations").mkdir(parents=True)
    content: dict[str, Any] = {
        "images": [{"id": 1, "file_name": "p1_1.png"}],
        "categories": [{"id": 1, "name": "x"}],
        "annotations": [],
    }
    (root / "annotations" / "a.json").write_text(json.dumps(content))
    return write_image(root / "images" / "p1_1.png")


def _voc(root: Path, write_image: Paint) -> Path:
    (root / "Annotations").mkdir(parents=True)
    (root / "Annotations" / "p1_1.xml").write_text(
        "<annotation><object><name>x</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox>"
        "</object></annotation>"
    )
    return write_image(root / "JPEGImages" / "p1_1.png")


def _yolo(root: Path, write_image: Paint) -> Path:
    (root / "labels").mkdir(parents=True)
    (root / "labels" / "p1_1.txt").write_text("0 .5 .5 .5 .5")
    (root / "classes.txt").write_text("x")
    return write_image(root / "images" / "p1_1.png")


LAYOUTS = [_class_folders, _image_masks, _table, _manifest, _coco, _voc, _yolo]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_link_out_of_the_data_folder_is_refused(
    tmp_path: Path, write_image: Paint, layout: Callable[..., Path]
) -> None:
    image = layout(tmp_path / "set", write_image)
    index = next(place for place, sample in enumerate(_samples(tmp_path / "set")) if sample.file == image)
    moved = image.rename(tmp_path / "elsewhere.png")
    image.symlink_to(moved)
    with pytest.raises(
        BadSampleError, match=r"p1_1.png leads out of the data folder .*set, to .*elsewhere.png: put the"
    ) as caught:
        open_dataset(tmp_path / "set")
    assert "\n" not in str(caught.value)
    if len(_samples(tmp_path / "set", allow_outside=True)) > 1:
        with pytest.raises(BadSampleError, match="leads out of the data folder"):
            open_dataset(tmp_path / "set", DataOptions(skip_bad=True))[index]
    assert _samples(tmp_path / "set", allow_outside=True)[index].file == image


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_link_within_the_data_folder_is_followed(
    tmp_path: Path, write_image: Paint, layout: Callable[..., Path]
) -> None:
    image = layout(tmp_path / "set", write_image)
    (tmp_path / "set" / "store").mkdir()
    moved = image.rename(tmp_path / "set" / "store" / "x.bin")
    image.symlink_to(moved)
    (tmp_path / "link").symlink_to(tmp_path / "set")  # the user's own word for the folder counts
    assert image in [
        sample.file.resolve().parents[1] / sample.file.relative_to(tmp_path / "link")
        for sample in _samples(tmp_path / "link")
    ]


def test_text_files_that_lead_out(tmp_path: Path, write_image: Paint) -> None:
    _yolo(tmp_path / "set", write_image)
    text = tmp_path / "set" / "labels" / "p1_1.txt"
    text.unlink()
    (tmp_path / "secret.txt").write_text("password 1 2 3 4")
    text.symlink_to(tmp_path / "secret.txt")
    with pytest.raises(BadSampleError, match=r"p1_1.txt leads out of the data folder") as caught:
        open_dataset(tmp_path / "set")
    assert "password" not in str(caught.value)


@pytest.mark.parametrize(("layout", "name"), [(_yolo, "classes.txt"), (_table, "t.csv"), (_manifest, "t.csv")])
def test_lists_that_lead_out(tmp_path: Path, write_image: Paint, layout: Callable[..., Path], name: str) -> None:
    layout(tmp_path / "set", write_image)
    (tmp_path / "set" / name).rename(tmp_path / "elsewhere")
    (tmp_path / "set" / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BadSampleError, match=rf"{name} leads out of the data folder"):
        open_dataset(tmp_path / "set")
    assert len(_samples(tmp_path / "set", allow_outside=True)) == 1


@pytest.mark.parametrize(("layout", "name"), [(_table, "t.csv"), (_manifest, "t.csv"), (_coco, "annotations/a.json")])
def test_the_users_own_path_may_be_a_link(
    tmp_path: Path, write_image: Paint, layout: Callable[..., Path], name: str
) -> None:
    layout(tmp_path / "set", write_image)
    (tmp_path / "set" / name).rename(tmp_path / "elsewhere")
    (tmp_path / "set" / name).symlink_to(tmp_path / "elsewhere")
    assert len(_samples(tmp_path / "set" / name)) == 1


@pytest.mark.parametrize("layout", [_manifest, _coco, _table])
@pytest.mark.parametrize("value", ["x" * 300, "a\0b", "\ud800", "annotations/a.json/x"])
def test_image_folders_that_can_be_none(
    tmp_path: Path, write_image: Paint, layout: Callable[..., Path], value: str
) -> None:
    layout(tmp_path / "set", write_image)
    with pytest.raises(InputError) as caught:
        open_dataset(tmp_path / "set", DataOptions(image_folder=value))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "name", ["a\0b", "\ud800/a.png", "\ud800", "x" * 300, "a.png/b.png", ".", "images/../../a.png"]
)
def test_names_in_json_that_can_be_no_file(tmp_path: Path, write_image: Paint, name: str) -> None:
    _coco(tmp_path / "set", write_image)
    file = tmp_path / "set" / "annotations" / "a.json"
    file.write_text(file.read_text().replace('"p1_1.png"', json.dumps(name)))
    with pytest.raises(InputError) as caught:
        open_dataset(tmp_path / "set")
    assert "\n" not in str(caught.value)
    assert str(caught.value).encode("utf-8")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_patients_by_a_pattern_of_ids(tmp_path: Path, write_image: Paint, layout: Callable[..., Path]) -> None:
    layout(tmp_path / "set", write_image)
    assert {sample.patient for sample in _samples(tmp_path / "set")} == {None}
    found = {sample.patient for sample in _samples(tmp_path / "set", patient_pattern=r"(p\d+)_")}
    assert "p1" in found
    assert None not in found
    with pytest.raises(InputError, match=r"patient_pattern 'q\(x\)' finds no patient in the id '.*p1_1"):
        open_dataset(tmp_path / "set", DataOptions(patient_pattern="q(x)"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"patient_pattern": "("}, r"patient_pattern '\(' is no regular expression"),
        ({"patient_pattern": "p"}, r"patient_pattern must be a regular expression with one \(group\), got 'p'"),
        ({"patient_pattern": "(p)(q)"}, r"with one \(group\)"),
        ({"patient_pattern": "(p)", "patient_column": "p"}, r"both name the patient; set one of them"),
        ({"allow_outside": "no"}, r"allow_outside must be true or false, got 'no'"),
        ({"cases": 3}, r"cases must be a name, got 3"),
        ({"classes": 1}, r"classes must be a number, 2 or more"),
        ({"classes": 0, "task": "detection"}, r"classes must be a number, 1 or more"),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        DataOptions(**options)


def _samples(path: Path, **options: Any) -> list[Any]:
    dataset = open_dataset(path, DataOptions(**options))
    return [dataset[index] for index in range(len(dataset))]
