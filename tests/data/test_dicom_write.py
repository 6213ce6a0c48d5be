"""Attacked DICOM images on disk: exact pixels, marked as adversarial, and no patient left in the header."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from pydicom import Dataset, Sequence, dcmread
from pydicom.pixels import pixel_array
from pydicom.uid import ExplicitVRLittleEndian
from synthetic_dicom import HIDDEN_ORDER, ct, enhanced, image, sample, save, series, slices

from medrobust._version import __version__
from medrobust.data.dicom import read_dicom
from medrobust.data.dicom_series import read_series
from medrobust.data.dicom_write import write_dicom, write_series
from medrobust.data.file_types import FILE_TYPES
from medrobust.errors import BadSampleError, InputError, MedrobustWarning

KINDS = [
    "CT_small.dcm",
    "693_J2KI.dcm",
    "J2K_pixelrep_mismatch.dcm",
    "JPEGLSNearLossless_16.dcm",
    "MR_small_RLE.dcm",
    "MR_small_bigendian.dcm",
    "MR_small_implicit.dcm",
    "MR_small_jpeg_ls_lossless.dcm",
    "SC_rgb_rle_16bit_2frame.dcm",
    "SC_rgb_small_odd_big_endian.dcm",
    "SC_rgb_jpeg.dcm",
    "SC_rgb_jpeg_dcmtk.dcm",
    "examples_jpeg2k.dcm",
    "examples_overlay.dcm",
    "examples_palette.dcm",
    "dicomdirtests/77654033/CR1/6154",
    "image_dfl.dcm",
    "rtdose.dcm",
    "rtdose_expb.dcm",
]


def stored(path: Path) -> np.ndarray:
    """Numbers as they lie in a written file: uncompressed little-endian bytes."""
    dataset = dcmread(path)
    assert dataset.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    kind = f"<{'i' if dataset.PixelRepresentation else 'u'}{dataset.BitsAllocated // 8}"
    shape = (int(dataset.get("NumberOfFrames") or 1), dataset.Rows, dataset.Columns, dataset.SamplesPerPixel)
    return np.frombuffer(dataset.PixelData, kind)[: np.prod(shape)].reshape(shape)


@pytest.mark.parametrize("deidentify", [True, False])
@pytest.mark.parametrize("name", KINDS)
def test_a_round_trip_changes_no_pixel_and_one_changed_pixel_just_that_one(tmp_path, name, deidentify):
    source = Path(sample("CT_small.dcm").parent, name)
    before = read_dicom(source)
    write_dicom(source, before.pixels, tmp_path / "same.dcm", deidentify=deidentify)
    same = read_dicom(tmp_path / "same.dcm")
    assert torch.equal(same.pixels, before.pixels)
    told = ("unit", "spacing", "quantum", "bounds", "window")
    assert [getattr(same, field) for field in told] == [getattr(before, field) for field in told]
    if before.pixels.shape[0] == 1:
        assert np.array_equal(stored(tmp_path / "same.dcm").ravel(), pixel_array(dcmread(source)).ravel())
    changed = before.pixels.clone()
    place = tuple(size // 2 for size in changed.shape)
    changed[place] = before.bounds[0] if changed[place] > sum(before.bounds) / 2 else before.bounds[1]
    write_dicom(source, changed, tmp_path / "one.dcm", deidentify=deidentify)
    assert torch.equal(read_dicom(tmp_path / "one.dcm").pixels, changed)
    assert (stored(tmp_path / "one.dcm") != stored(tmp_path / "same.dcm")).sum() == 1
    assert not list(tmp_path.glob(".medrobust-*"))


def test_a_value_between_two_numbers_becomes_the_nearest(tmp_path):
    source = save(ct(np.full((2, 2), 100, np.uint16), bits=12, RescaleSlope=0.5), tmp_path / "a.dcm")
    pixels = read_dicom(source).pixels
    pixels[0, 0, 0] += 0.3  # 0.6 of a number
    pixels[0, 1, 1] -= 0.2  # 0.4 of one
    write_dicom(source, pixels, tmp_path / "b.dcm", deidentify=True)
    assert stored(tmp_path / "b.dcm")[0, :, :, 0].tolist() == [[101, 100], [100, 100]]


@pytest.mark.parametrize(("value", "fits"), [(3071, True), (3071.6, False), (-1024, True), (-1025, False)])
def test_a_value_outside_of_the_bits_is_an_error_not_a_wrap(tmp_path, value, fits):
    source = save(ct(np.zeros((2, 2), np.uint16), bits=12), tmp_path / "a.dcm")
    pixels = torch.full((1, 2, 2), float(value))
    if fits:
        write_dicom(source, pixels, tmp_path / "b.dcm", deidentify=True)
        assert torch.equal(read_dicom(tmp_path / "b.dcm").pixels, pixels)
        return
    with pytest.raises(
        BadSampleError, match=r"a\.dcm would get values outside -1024 to 3071, all that its 12 bits hold"
    ):
        write_dicom(source, pixels, tmp_path / "b.dcm", deidentify=True)
    assert not (tmp_path / "b.dcm").exists()


def test_signed_values_and_garbage_in_unused_bits(tmp_path):
    source = save(image(np.array([[0xF005, 0x0FFF]], np.uint16), bits=12, PixelRepresentation=1), tmp_path / "a.dcm")
    write_dicom(source, torch.tensor([[[5.0, -2048]]]), tmp_path / "b.dcm", deidentify=True)
    assert stored(tmp_path / "b.dcm").ravel().tolist() == [5, -2048]


def test_monochrome1_is_written_as_it_was(tmp_path):
    pixels = np.arange(12, dtype=np.uint16).reshape(3, 4)
    dataset = image(pixels, bits=12, PhotometricInterpretation="MONOCHROME1", Modality="DX", RescaleSlope=0.5)
    dataset.RescaleIntercept = 0
    source = save(dataset, tmp_path / "a.dcm")
    read = read_dicom(source).pixels
    read[0, 0, 0] -= 1  # darker by two numbers, which count down from white
    write_dicom(source, read, tmp_path / "b.dcm", deidentify=True)
    pixels[0, 0] = 2
    assert np.array_equal(stored(tmp_path / "b.dcm")[0, :, :, 0], pixels)
    assert dcmread(tmp_path / "b.dcm").PhotometricInterpretation == "MONOCHROME1"


def test_a_lookup_table_is_looked_up_backwards(tmp_path):
    dataset = image(np.arange(8, dtype=np.uint16).reshape(2, 4), bits=3)
    table = Dataset()
    table.LUTDescriptor, table.ModalityLUTType = [8, 0, 16], "US"
    table.add_new("LUTData", "US", [70, 60, 50, 40, 30, 20, 10, 0])
    dataset.ModalityLUTSequence = Sequence([table])
    source = save(dataset, tmp_path / "a.dcm")
    pixels = read_dicom(source).pixels
    pixels[0, 1, 3] = 33
    write_dicom(source, pixels, tmp_path / "b.dcm", deidentify=True)
    assert stored(tmp_path / "b.dcm").ravel().tolist() == [0, 1, 2, 3, 4, 5, 6, 4]


def test_frames_go_back_to_their_own_places(tmp_path):
    source = save(enhanced([6, 2, 4]), tmp_path / "a.dcm")
    pixels = read_dicom(source).pixels
    pixels[0, 0, 0, 0] += 3  # the lowest frame, the second in the file
    write_dicom(source, pixels, tmp_path / "b.dcm", deidentify=True)
    expected = pixel_array(dcmread(source))
    expected[1, 0, 0] += 3
    assert np.array_equal(stored(tmp_path / "b.dcm")[..., 0], expected)


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (torch.zeros(1, 2, 3), r"a\.dcm has pixels of shape \(1, 2, 2\), not \(1, 2, 3\)"),
        (torch.full((1, 2, 2), float("nan")), r"a\.dcm would get pixels that are not finite"),
    ],
)
def test_pixels_that_do_not_fit(tmp_path, pixels, message):
    source = save(ct(np.zeros((2, 2), np.uint16)), tmp_path / "a.dcm")
    with pytest.raises(BadSampleError, match=message):
        write_dicom(source, pixels, tmp_path / "b.dcm", deidentify=True)


def test_a_place_that_cannot_be_written(tmp_path):
    source = sample("CT_small.dcm")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"b\.dcm cannot be written: "):
        write_dicom(source, read_dicom(source).pixels, tmp_path / "file" / "b.dcm", deidentify=True)


def test_the_header_says_what_the_image_is(tmp_path):
    source = sample("examples_jpeg2k.dcm")
    pixels = read_dicom(source).pixels
    pixels[0, 0, 0] = 1
    write_dicom(source, pixels, tmp_path / "b.dcm", deidentify=False)
    before, after = dcmread(source), dcmread(tmp_path / "b.dcm")
    assert list(after.ImageType) == ["DERIVED", *before.ImageType[1:]]
    said = f"Adversarially perturbed by medrobust {__version__}: not a patient's image, not for diagnostic use"
    assert after.DerivationDescription == f"{said}. Before: {before.DerivationDescription}"
    assert after.SeriesDescription.startswith("ADVERSARIAL")
    assert after.LossyImageCompression == before.LossyImageCompression
    assert (after.PatientID, after.StudyInstanceUID) == (before.PatientID, before.StudyInstanceUID)
    assert after.SOPInstanceUID != before.SOPInstanceUID
    assert after.SeriesInstanceUID != before.SeriesInstanceUID
    assert after.file_meta.MediaStorageSOPInstanceUID == after.SOPInstanceUID
    assert "SourceApplicationEntityTitle" not in after.file_meta


def test_an_unchanged_image_is_told_from_an_adversarial_one(tmp_path):
    source = sample("CT_small.dcm")
    write_dicom(source, read_dicom(source).pixels, tmp_path / "b.dcm", deidentify=True)
    after = dcmread(tmp_path / "b.dcm")
    assert after.SeriesDescription == "CLEAN COPY"
    assert after.DerivationDescription.startswith("Copied by medrobust")
    assert after.DerivationDescription.endswith("pixels unchanged, not for diagnostic use")
    assert after.ImageType[0] == "DERIVED"


def test_uids_are_those_of_the_pixels(tmp_path):
    source, target = sample("CT_small.dcm"), tmp_path / "b.dcm"
    pixels = read_dicom(source).pixels
    seen = []
    for change in (0, 0, 1):
        write_dicom(source, pixels + change, target, deidentify=True)
        seen.append(
            (dcmread(target).SOPInstanceUID, dcmread(target).SeriesInstanceUID, dcmread(target).StudyInstanceUID)
        )
    assert seen[0] == seen[1]
    assert seen[0][0] != seen[2][0]
    assert seen[0][1] != seen[2][1]
    assert seen[0][2] == seen[2][2] != dcmread(source).StudyInstanceUID


def telling() -> Dataset:
    """A CT whose header holds SECRET wherever it may, in every kind of element."""
    dataset = ct(np.arange(12, dtype=np.uint16).reshape(3, 4), bits=12)
    dataset.PatientID, dataset.PatientName = "SECRET-1", "SECRET^Jane"
    dataset.PatientBirthDate, dataset.StudyDate, dataset.ContentTime = "19681231", "20190607", "131415"
    dataset.AcquisitionDateTime, dataset.PatientAge, dataset.PatientSex = "20190607131415", "050Y", "F"
    dataset.InstitutionName, dataset.StationName = "SECRET hospital", "SECRET1"
    dataset.InstitutionAddress, dataset.ImageComments = "SECRET street", "SECRET words"
    dataset.SeriesDescription, dataset.ProtocolName = "SECRET series", "SECRET protocol"
    dataset.DerivationDescription, dataset.OperatorsName = "SECRET history", "SECRET^Operator"
    dataset.RequestedProcedureDescription, dataset.DeviceSerialNumber = "SECRET", "SECRET-9"
    dataset.FrameOfReferenceUID, dataset.Manufacturer = "1.2.826.99.1", "ACME"
    inner = Dataset()
    inner.PatientID, inner.ReferencedSOPInstanceUID = "SECRET-2", "1.2.826.99.2"
    dataset.OtherPatientIDsSequence = dataset.ReferencedImageSequence = Sequence([inner])
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "1", "99LOCAL", "SECRET ward"
    dataset.ViewCodeSequence = Sequence([code])
    region = Dataset()
    region.CodeValue, region.CodingSchemeDesignator, region.CodeMeaning = "39607008", "SCT", "Lung"
    dataset.AnatomicRegionSequence = Sequence([region])
    parameters = Dataset()
    parameters.ScheduledPerformingPhysicianName, parameters.FilterMaterial = "SECRET^Doctor", "COPPER"
    dataset.CTExposureSequence = Sequence([parameters])
    dataset.private_block(0x0011, "ACME", create=True).add_new(0x01, "LO", "SECRET private")
    dataset.add_new((0x6000, 0x3000), "OW", b"SECRET bits")
    return dataset


def test_nothing_of_the_patient_is_left(tmp_path):
    source = save(telling(), tmp_path / "a.dcm")
    attacked = read_dicom(source).pixels + 1
    write_dicom(source, attacked, tmp_path / "b.dcm", deidentify=True)
    content = (tmp_path / "b.dcm").read_bytes()
    for secret in (b"SECRET", b"19681231", b"20190607", b"131415", b"050Y", b"1.2.826.99"):
        assert secret in source.read_bytes()
        assert secret not in content, secret
    after = dcmread(tmp_path / "b.dcm")
    assert after.PatientID == hashlib.sha256(b"SECRET-1").hexdigest()[:16]
    assert (str(after.PatientName), after.PatientSex or "", after.PatientBirthDate) == ("", "", "")
    assert (after.PatientIdentityRemoved, after.SeriesDescription) == ("YES", "ADVERSARIAL")
    assert after.DeidentificationMethod.startswith("medrobust")
    assert after.Manufacturer == "ACME"
    assert after.AnatomicRegionSequence[0].CodeMeaning == "Lung"
    assert after.CTExposureSequence[0].FilterMaterial == "COPPER"
    assert after.DerivationDescription.endswith("not for diagnostic use")
    assert not [element for element in after.iterall() if element.tag.is_private]
    assert torch.equal(read_dicom(tmp_path / "b.dcm").pixels, attacked)


def test_a_patients_images_stay_together(tmp_path):
    names = {}
    for name, patient in (("a", "P1"), ("b", "P1"), ("c", "P2")):
        source = save(ct(np.zeros((2, 2), np.uint16), PatientID=patient), tmp_path / f"{name}.dcm")
        write_dicom(source, read_dicom(source).pixels, tmp_path / f"{name}_out.dcm", deidentify=True)
        names[name] = read_dicom(tmp_path / f"{name}_out.dcm").patient
    assert names["a"] == names["b"] == hashlib.sha256(b"P1").hexdigest()[:16]
    assert names["c"] == hashlib.sha256(b"P2").hexdigest()[:16]


def test_writing_in_the_pixels_is_warned_of(tmp_path):
    source = save(ct(np.zeros((2, 2), np.uint16), BurnedInAnnotation="YES"), tmp_path / "a.dcm")
    with pytest.warns(MedrobustWarning, match="writing is burned into their pixels: it stays"):
        write_dicom(source, read_dicom(source).pixels, tmp_path / "b.dcm", deidentify=True)
    assert dcmread(tmp_path / "b.dcm").BurnedInAnnotation == "YES"


@pytest.mark.parametrize("deidentify", [True, False])
def test_a_series_is_written_slice_by_slice(tmp_path, deidentify):
    source = series(tmp_path / "ct", slices())
    before = read_series(source)
    pixels = before.pixels.clone()
    pixels[0, 3, 1, 2] -= 7
    write = FILE_TYPES["dicom_series"].write
    assert write is not None
    write(source, pixels, tmp_path / "out" / "ct", deidentify=deidentify)
    after = read_series(tmp_path / "out" / "ct")
    assert torch.equal(after.pixels, pixels)
    assert (after.spacing, after.unit) == (before.spacing, before.unit)
    written = {path.name: dcmread(path) for path in sorted((tmp_path / "out" / "ct").iterdir())}
    names = [f"slice_{n:04d}.dcm" for n in range(1, 6)] if deidentify else [f"IM{n:03d}.dcm" for n in range(5)]
    assert list(written) == names
    assert len({dataset.SeriesInstanceUID for dataset in written.values()}) == 1
    assert {dataset.SeriesDescription for dataset in written.values()} == {"ADVERSARIAL"}
    assert len({dataset.SOPInstanceUID for dataset in written.values()}) == 5
    sources = {path.name: dcmread(path) for path in source.iterdir()}
    assert not {d.SeriesInstanceUID for d in written.values()} & {d.SeriesInstanceUID for d in sources.values()}
    kept = {d.FrameOfReferenceUID for d in written.values()} == {d.FrameOfReferenceUID for d in sources.values()}
    assert kept is not deidentify
    place = names.index("slice_0004.dcm") if deidentify else HIDDEN_ORDER.index(3)
    changed = [dataset.pixel_array.ravel()[8] % 100 for dataset in written.values()]
    assert changed == [1 if number == place else 8 for number in range(5)]


def test_a_series_is_written_whole_or_not_at_all(tmp_path):
    source = series(tmp_path / "ct", slices())
    pixels = read_series(source).pixels
    pixels[0, 4, 0, 0] = 1e6
    with pytest.raises(BadSampleError, match=r"IM002\.dcm would get values outside -33792 to 31743"):
        write_series(source, pixels, tmp_path / "out", deidentify=True)
    with pytest.raises(BadSampleError, match=r"ct has 5 slices, the pixels are \(1, 4, 4, 6\)"):
        write_series(source, pixels[:, :4], tmp_path / "out", deidentify=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ct"]
    with pytest.raises(InputError, match=r"ct exists and is not an empty folder: choose another"):
        write_series(source, read_series(source).pixels, source, deidentify=True)
    assert torch.equal(read_series(source).pixels, read_series(source).pixels)


def test_real_files(shared_data, tmp_path):
    for name in ("RG1_J2KI.dcm", "emri_small_RLE.dcm", "JPEG-LL.dcm", "OBXXXX1A.dcm", "lungmask_0.dcm"):
        source = shared_data / "dicom" / name
        before = read_dicom(source)
        pixels = before.pixels.clone()
        pixels[..., 3, 5] += before.quantum
        write_dicom(source, pixels, tmp_path / name, deidentify=True)
        assert torch.allclose(read_dicom(tmp_path / name).pixels, pixels, atol=1e-6)
        write_dicom(source, before.pixels, tmp_path / name, deidentify=True)
        assert torch.equal(read_dicom(tmp_path / name).pixels, before.pixels)
