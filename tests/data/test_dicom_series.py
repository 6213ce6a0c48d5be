"""Folders of one DICOM series, and DICOM-SEG masks of them."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from pydicom import dcmread
from pydicom.sr.codedict import codes
from synthetic_dicom import AXIAL, HIDDEN_ORDER, ct, sample, save, series, slices

from medrobust.data import DataOptions, open_dataset
from medrobust.data.dicom_files import is_series
from medrobust.data.dicom_segmentation import read_segmentation, read_segmentation_for
from medrobust.data.dicom_series import read_series
from medrobust.data.dicom_source import outline
from medrobust.data.file_types import FILE_TYPES, file_type_of, is_readable, read_stored, read_stored_mask
from medrobust.data.files import images_under
from medrobust.errors import BadSampleError, MissingExtraError

VOLUME = torch.stack([100.0 * place + torch.arange(24.0).reshape(4, 6) for place in range(5)])[None] - 1024
OBLIQUE = [0.8, 0.6, 0, 0, 0, -1]  # normal (−0.6, 0.8, 0)


@pytest.mark.parametrize("orientation", [AXIAL, [1, 0, 0, 0, -1, 0], [0, 1, 0, 0, 0, -1], OBLIQUE])
def test_slices_are_ordered_by_their_place_on_the_normal(tmp_path, orientation):
    read = read_stored(series(tmp_path / "ct", slices(2.5, orientation)))
    assert torch.equal(read.pixels, VOLUME)
    assert read.spacing == pytest.approx((2.5, 0.5, 0.75), abs=1e-5)
    assert (read.unit, read.patient, read.quantum) == ("HU", "P-17", 1)
    assert read.bounds == (-32768 - 1024, 32767 - 1024)


def test_files_of_other_kinds_are_passed_over(tmp_path):
    folder = series(tmp_path / "ct", slices())
    (folder / "069.xml").write_text("<a/>")
    (folder / ".DS_Store").write_bytes(b"x")
    (folder / "DICOMDIR").write_bytes(b"x")
    assert file_type_of(folder) is FILE_TYPES["dicom_series"]
    assert torch.equal(read_series(folder).pixels, VOLUME)


def test_one_slice_is_a_volume_and_one_multi_frame_file_is_itself(tmp_path):
    assert read_series(series(tmp_path / "one", slices()[:1])).pixels.shape == (1, 1, 4, 6)
    folder = tmp_path / "cine"
    folder.mkdir()
    save(ct(np.zeros((3, 4, 6), np.uint16)), folder / "a.dcm")
    assert read_series(folder).pixels.shape == (1, 3, 4, 6)
    assert outline(folder).shape == (3, 4, 6)


def test_what_is_a_series(tmp_path):
    folder = series(tmp_path / "ct", slices())
    assert is_series(folder)
    assert is_readable(folder)
    assert not is_series(folder / "IM000.dcm")
    assert not is_series(tmp_path), "it has folders"
    assert images_under(tmp_path) == [folder]
    (folder / "inner").mkdir()
    assert not is_series(folder)
    (folder / "inner").rmdir()
    save(ct(np.zeros((4, 6), np.uint16)), folder / "A.dcm")  # the first by name, of another series
    assert not is_series(folder), "single images of several series"
    assert images_under(tmp_path) == sorted(folder.iterdir())


def test_a_big_folder_costs_three_headers(tmp_path, monkeypatch):
    import pydicom

    folder = series(tmp_path / "ct", slices())
    for number in range(300):
        (folder / f"z{number}.dcm").write_bytes(b"")
    opened = []
    monkeypatch.setattr(pydicom, "dcmread", lambda path, **_: opened.append(path) or dcmread(path))
    assert is_series(folder)
    assert len(opened) == 3


def broken(datasets, fault):
    """Datasets with one thing wrong."""
    match fault:
        case "gap":
            del datasets[2]
        case "twice":
            datasets[3].ImagePositionPatient = datasets[2].ImagePositionPatient
        case "size":
            datasets[3].Rows, datasets[3].Columns = 6, 4
        case "orientation":
            datasets[3].ImageOrientationPatient = [0, 1, 0, 0, 0, -1]
        case "series":
            datasets[3].SeriesInstanceUID = "1.2.3"
        case "rescale":
            datasets[3].RescaleSlope = 2
        case "spacing":
            datasets[3].PixelSpacing = [0.5, 0.8]
        case "format":
            datasets[3].PixelRepresentation = 0
        case "position":
            del datasets[3].ImagePositionPatient
        case "frames":
            datasets[3].NumberOfFrames, datasets[3].PixelData = 2, datasets[3].PixelData * 2
        case "pixels":
            datasets[3].PixelData = datasets[3].PixelData[:-4]
        case "rows":
            del datasets[3].Rows
    return datasets


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (
            "gap",
            r"ct has no slice at 35 mm along the normal, between IM00\d\.dcm \(32\.5 mm\) and IM00\d\.dcm \(37\.5 ",
        ),
        ("twice", r"ct has two slices at 35 mm along the normal \(IM00\d\.dcm, IM00\d\.dcm\): keep one"),
        ("size", r"ct has slices of different size \(rows, columns\): 6 4 in IM000\.dcm, 4 6 in IM001\.dcm"),
        ("orientation", r"ct has slices of different ImageOrientationPatient \(0020,0037\)"),
        ("series", r"ct holds 2 series, told by SeriesInstanceUID \(0020,000E\): move the files of each into a folder"),
        (
            "rescale",
            r"ct has slices of different rescale \(slope, intercept\): 2 -1024 in IM000\.dcm, 1 -1024 in IM",
        ),
        ("spacing", r"ct has slices of different pixel spacing: 0\.5 0\.8 in IM000\.dcm, 0\.5 0\.75 in IM001\.dcm"),
        ("format", r"ct has slices of different pixel format"),
        ("position", r"IM000\.dcm has no ImagePositionPatient \(0020,0032\) and ImageOrientationPatient"),
        ("frames", r"IM000\.dcm has several frames and other files beside it"),
        ("pixels", r"IM000\.dcm has its PixelData \(7FE0,0010\) cut off"),
        ("rows", r"IM000\.dcm has no Rows \(0028,0010\): take it out of the folder if it is no image"),
    ],
)
def test_one_line_for_a_broken_series(tmp_path, fault, message):
    folder = series(tmp_path / "ct", broken(slices(), fault))
    with pytest.raises(BadSampleError, match=message) as error:
        file_type_of(folder).read(folder, None)
    assert "\n" not in str(error.value)


def test_a_truncated_slice_and_an_empty_folder(tmp_path):
    folder = series(tmp_path / "ct", slices())
    with (folder / "IM002.dcm").open("r+b") as file:
        file.truncate(300)
    with pytest.raises(BadSampleError, match=r"IM002\.dcm|holds 2 series"):
        read_series(folder)
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadSampleError, match=r"empty is a folder without DICOM files: give an image file, or"):
        read_stored(tmp_path / "empty")


def test_limits_count_all_slices(tmp_path):
    folder = series(tmp_path / "ct", slices())
    with pytest.raises(BadSampleError, match=r"ct is too large \(5 × 4 × 6, more than 119 voxels\)"):
        read_series(folder, 119)
    assert read_series(folder, 120).pixels.numel() == 120


def test_mask_slices_are_ordered_as_the_image(tmp_path):
    masks = slices()
    for place, mask in enumerate(masks):
        mask.PixelData = np.full((4, 6), place % 3, np.int16).tobytes()
    read = read_stored_mask(series(tmp_path / "masks", masks))
    assert read.dtype == torch.int64
    assert read[:, 0, 0].tolist() == [0, 1, 2, 0, 1]


def segmentation(datasets, masks: np.ndarray, path: Path, numbers: int = 1, **options) -> Path:
    """A DICOM-SEG file made by highdicom of masks `(N, H, W)` of numbers, or `(N, H, W, S)` of 0 and 1."""
    import highdicom
    from pydicom.uid import generate_uid

    segments = [
        highdicom.seg.SegmentDescription(
            segment_number=number + 1,
            segment_label=f"s{number}",
            segmented_property_category=codes.SCT.Organ,
            segmented_property_type=codes.SCT.Lung,
            algorithm_type=highdicom.seg.SegmentAlgorithmTypeValues.MANUAL,
        )
        for number in range(numbers)
    ]
    parsed = highdicom.seg.Segmentation(
        source_images=datasets,
        pixel_array=masks,
        segmentation_type=options.pop("kind", "BINARY"),
        segment_descriptions=segments,
        series_instance_uid=generate_uid(),
        series_number=2,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="m",
        manufacturer_model_name="n",
        software_versions="1",
        device_serial_number="0",
        **options,
    )
    parsed.save_as(path)
    return path


@pytest.fixture
def numbers() -> np.ndarray:
    """Classes 0 to 2 on five slices, of which the first and third are empty."""
    masks = np.zeros((5, 4, 6), np.uint8)
    masks[1, 1:3, 2] = 1
    masks[3, :, 4:] = 2
    masks[4, 0, 0] = 1
    return masks


@pytest.mark.parametrize("kind", ["BINARY", "LABELMAP"])
def test_a_segmentation_lies_on_the_slices_of_its_series(tmp_path, numbers, kind):
    from highdicom.seg import segread

    datasets = slices()
    folder = series(tmp_path / "ct", datasets)
    in_file_order = [dcmread(folder / f"IM{number:03d}.dcm") for number in range(5)]
    path = segmentation(in_file_order, numbers[list(HIDDEN_ORDER)], tmp_path / "seg.dcm", 2, kind=kind)
    read = read_segmentation_for(path, folder)
    assert torch.equal(read, torch.from_numpy(numbers.astype(np.int64)))
    oracle = segread(path).get_pixels_by_source_instance(
        [dataset.SOPInstanceUID for dataset in datasets], combine_segments=True, assert_missing_frames_are_empty=True
    )
    assert np.array_equal(read.numpy(), oracle)
    assert torch.equal(read_stored_mask(path, None, folder), read)


def test_a_segmentation_alone_has_empty_planes_between(tmp_path, numbers):
    from highdicom.seg import segread

    path = segmentation(slices(), numbers, tmp_path / "seg.dcm", 2)
    read = read_stored_mask(path)
    assert torch.equal(read, torch.from_numpy(numbers[1:].astype(np.int64)))  # from the first plane to the last
    volume = segread(path).get_volume(combine_segments=True, allow_missing_positions=True)
    first, last = (volume.get_plane_position(plane)[0].ImagePositionPatient[2] for plane in (0, 3))
    assert np.array_equal(read.numpy(), volume.array if first < last else volume.array[::-1])


def test_a_single_image_has_a_flat_mask(tmp_path, numbers):
    datasets = slices()
    path = segmentation(datasets[1:2], numbers[1:2], tmp_path / "seg.dcm", 1)
    image = save(datasets[1], tmp_path / "a.dcm")
    expected = torch.from_numpy(numbers[1].astype(np.int64))
    assert torch.equal(read_segmentation_for(path, image), expected)
    assert torch.equal(read_segmentation(path), expected)


def test_segments_that_overlap_are_refused(tmp_path):
    masks = np.zeros((5, 4, 6, 2), np.uint8)
    masks[2, 1:3, 1:3] = 1
    path = segmentation(slices(), masks, tmp_path / "seg.dcm", 2)
    with pytest.raises(BadSampleError, match=r"seg\.dcm has segments that overlap \(segment 2 and another\)"):
        read_stored_mask(path)


def test_fractional_segmentations_are_refused(tmp_path):
    masks = np.full((5, 4, 6), 0.5, np.float32)
    path = segmentation(slices(), masks, tmp_path / "seg.dcm", kind="FRACTIONAL", fractional_type="PROBABILITY")
    with pytest.raises(BadSampleError, match=r"seg\.dcm is a fractional segmentation: save it as a binary one"):
        read_segmentation(path)


def moved(datasets, change):
    for dataset in datasets:
        match change:
            case "place":
                dataset.ImagePositionPatient = [value + 0.5 for value in dataset.ImagePositionPatient]
            case "direction":
                dataset.ImageOrientationPatient = [-1, 0, 0, 0, -1, 0]
            case "spacing":
                dataset.PixelSpacing = [0.5, 0.5]
            case "size":
                dataset.Rows, dataset.Columns = 6, 4
    return datasets


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("place", r"has frame 1 where .*ct has no slice of its geometry: give its own image"),
        ("direction", r"has frame 1 where .*ct has no slice of its geometry"),
        ("spacing", r"has another PixelSpacing \(0028,0030\) than .*ct: give its own image"),
        ("size", r"has frames of 4 × 6 pixels, but .*ct of 6 × 4"),
    ],
)
def test_a_segmentation_of_another_geometry_is_refused(tmp_path, numbers, change, message):
    datasets = slices()
    path = segmentation(datasets, numbers, tmp_path / "seg.dcm", 2)
    folder = series(tmp_path / "ct", moved(datasets, change))
    with pytest.raises(BadSampleError, match=message):
        read_segmentation_for(path, folder)


def test_images_without_places_are_matched_by_reference(tmp_path, numbers):
    dataset = ct(numbers[1].astype(np.uint16), PixelSpacing=[1, 1])
    positioned = slices()[1]
    positioned.PixelSpacing, positioned.SOPInstanceUID = [1, 1], dataset.SOPInstanceUID
    path = segmentation([positioned], numbers[1:2], tmp_path / "seg.dcm", 1)
    image = save(dataset, tmp_path / "a.dcm")
    assert torch.equal(read_segmentation_for(path, image), torch.from_numpy(numbers[1].astype(np.int64)))
    dataset.SOPInstanceUID = "1.2.3"
    with pytest.raises(BadSampleError, match="no slice of its geometry"):
        read_segmentation_for(path, save(dataset, tmp_path / "b.dcm"))


def test_without_highdicom_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "highdicom.seg", None)
    monkeypatch.setitem(sys.modules, "highdicom", None)
    with pytest.raises(MissingExtraError, match=r"highdicom is not installed; run: pip install 'medrobust\[dicom\]'"):
        read_stored_mask(sample("liver_1frame.dcm"))


def test_no_segmentation_is_told(tmp_path):
    with pytest.raises(BadSampleError, match=r"CT_small\.dcm is no DICOM-SEG file"):
        read_segmentation(sample("CT_small.dcm"))


def test_a_data_set_of_series_and_segmentations(tmp_path, numbers):
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    for name in ("p1", "p2"):
        datasets = slices()
        series(tmp_path / "images" / name, datasets)
        segmentation(datasets, numbers, tmp_path / "masks" / f"{name}.dcm", 2)
    dataset = open_dataset(tmp_path, DataOptions(classes=3))
    assert (dataset.info.unit, dataset.info.spatial_dims) == ("HU", 3)
    sample = dataset[1]
    assert sample.id == "images/p2"
    assert torch.equal(sample.image, VOLUME)
    assert torch.equal(sample.truth, torch.from_numpy(numbers.astype(np.int64)))
    before = dataset.fingerprint()
    file = tmp_path / "images" / "p1" / "IM000.dcm"
    file.write_bytes(file.read_bytes()[:-2] + b"\1\1")
    assert dataset.fingerprint() != before


def test_real_segmentations(shared_data):
    from highdicom.seg import segread

    folder = shared_data / "dicom"
    liver = read_segmentation(folder / "liver.dcm")
    frames = dcmread(folder / "liver.dcm").pixel_array
    assert liver.shape == (3, 512, 512)
    assert sorted(liver.sum((1, 2)).tolist()) == sorted(frames.sum((1, 2)).tolist())
    volume = segread(folder / "liver.dcm").get_volume(combine_segments=True).array
    assert np.array_equal(liver.numpy(), volume) or np.array_equal(liver.numpy(), volume[::-1])
    with pytest.raises(BadSampleError, match=r"has frames of 16 × 16 pixels, but .* of 128 × 128"):
        read_segmentation_for(folder / "highdicom_seg_image_ct_binary.dcm", folder / "highdicom_ct_image.dcm")
