"""DICOM files: pixels against pydicom's own and against numbers worked by hand, and every way to be broken."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import Dataset, Sequence, dcmread
from pydicom.pixels import apply_modality_lut, apply_rescale, apply_windowing, pixel_array
from pydicom.pixels.decoders import base
from synthetic_dicom import ct, enhanced, image, sample, save

from medrobust.data import DataOptions
from medrobust.data.dicom import read_dicom, read_dicom_mask
from medrobust.data.dicom_files import is_dicom
from medrobust.data.dicom_source import outline
from medrobust.data.file_types import FILE_TYPES, file_type_of, read_stored
from medrobust.data.window import apply_window
from medrobust.errors import BadSampleError, InputError

RAMP = np.arange(12, dtype=np.uint16).reshape(3, 4)


@pytest.mark.parametrize(
    "name",
    [
        "MR_small_RLE.dcm",
        "MR_small_bigendian.dcm",
        "MR_small_expb.dcm",
        "MR_small_implicit.dcm",
        "MR_small_jp2klossless.dcm",
        "MR_small_jpeg_ls_lossless.dcm",
        "MR_small_padded.dcm",
    ],
)
def test_lossless_transfer_syntaxes_hold_the_same_image(name):
    assert torch.equal(read_dicom(sample(name)).pixels, read_dicom(sample("MR_small.dcm")).pixels)


@pytest.mark.parametrize(
    "name",
    [
        "JPEG2000.dcm",
        "JPEGLSNearLossless_08.dcm",
        "JPEGLSNearLossless_16.dcm",
        "693_J2KI.dcm",
        "J2K_pixelrep_mismatch.dcm",
        "image_dfl.dcm",
        "examples_overlay.dcm",
        "rtdose_rle.dcm",
        "rtdose_expb.dcm",
    ],
)
def test_grey_values_are_pydicoms_after_rescale(name):
    dataset = dcmread(sample(name))
    expected = apply_rescale(pixel_array(dataset), dataset).astype(np.float32)
    assert np.array_equal(read_dicom(sample(name)).pixels[0].numpy(), expected)


@pytest.mark.parametrize(
    "name",
    [
        "SC_rgb_jpeg_dcmtk.dcm",
        "SC_rgb_jpeg_gdcm.dcm",
        "SC_rgb_jpeg_app14_dcmd.dcm",
        "SC_rgb_gdcm_KY.dcm",
        "SC_rgb_jls_lossy_line.dcm",
        "SC_rgb_rle.dcm",
        "SC_rgb_rle_16bit.dcm",
        "SC_rgb_rle_16bit_2frame.dcm",
        "SC_ybr_full_422_uncompressed.dcm",
        "SC_rgb_small_odd_big_endian.dcm",
        "examples_jpeg2k.dcm",
        "examples_ybr_color.dcm",
    ],
)
def test_colour_is_rgb_in_0_to_1(name):
    stored = pixel_array(dcmread(sample(name)))
    image = read_dicom(sample(name))
    expected = np.moveaxis(stored, -1, 0) / np.float64(np.iinfo(stored.dtype).max)
    assert np.array_equal(image.pixels.numpy(), expected.astype(np.float32))
    assert (image.unit, image.bounds) == ("[0, 1]", (0, 1))
    assert image.quantum == pytest.approx(1 / np.iinfo(stored.dtype).max)


def test_a_palette_gives_its_colours():
    dataset = dcmread(sample("examples_palette.dcm"))
    pixels = read_dicom(sample("examples_palette.dcm")).pixels
    index = pixel_array(dataset)
    for channel, colour in enumerate(("Red", "Green", "Blue")):
        table = np.frombuffer(dataset[f"{colour}PaletteColorLookupTableData"].value, "<u2")
        assert np.array_equal(pixels[channel].numpy(), (table[index] >> 8).astype(np.float32) / np.float32(255))


def test_ct_is_in_hounsfield_units_with_all_that_its_header_tells():
    image = read_stored(sample("CT_small.dcm"))
    stored = dcmread(sample("CT_small.dcm")).pixel_array
    assert np.array_equal(image.pixels.numpy(), stored[None].astype(np.float32) - 1024)
    assert (image.unit, image.quantum, image.bounds) == ("HU", 1, (-32768 - 1024, 32767 - 1024))
    assert (image.spacing, image.patient) == ((0.661468, 0.661468), "1CT1")


@pytest.mark.parametrize(
    ("elements", "unit"),
    [
        ({}, "HU"),
        ({"RescaleType": "HU", "Modality": "MR"}, "HU"),
        ({"RescaleType": "US"}, "stored"),
        ({"Modality": ""}, "HU"),  # its class is that of CT
        ({"RescaleSlope": None, "RescaleIntercept": None}, "stored"),
    ],
)
def test_the_unit_of_ct(tmp_path, elements, unit):
    assert read_dicom(save(ct(RAMP, **elements), tmp_path / "a.dcm")).unit == unit


def test_bounds_are_what_the_bits_hold(tmp_path):
    unsigned = read_dicom(save(ct(RAMP, bits=12), tmp_path / "u.dcm"))
    signed = read_dicom(save(ct(RAMP.astype(np.int16), bits=12, RescaleSlope=-0.5), tmp_path / "s.dcm"))
    assert (unsigned.bounds, unsigned.quantum) == ((-1024, 3071), 1)
    assert (signed.bounds, signed.quantum) == ((2047 * -0.5 - 1024, 2048 * 0.5 - 1024), 0.5)


def test_bits_that_are_not_stored_are_masked(tmp_path):
    unsigned = np.array([[0xF005, 0x0FFF]], np.uint16)
    assert read_dicom(save(image(unsigned, bits=12), tmp_path / "u.dcm")).pixels.tolist() == [[[5, 4095]]]
    signed = np.array([[0x0FFF, 0x07FF]], np.uint16)
    dataset = image(signed, bits=12, PixelRepresentation=1)
    assert read_dicom(save(dataset, tmp_path / "s.dcm")).pixels.tolist() == [[[-1, 2047]]]
    high = np.array([[0x0050, 0xFFF7]], np.uint16)
    dataset = image(high, bits=12, HighBit=15)
    assert read_dicom(save(dataset, tmp_path / "h.dcm")).pixels.tolist() == [[[5, 4095]]]


def test_monochrome1_is_turned_over_the_range_of_its_bits(tmp_path):
    elements = {"PhotometricInterpretation": "MONOCHROME1", "Modality": "CR"}
    plain = read_dicom(save(image(RAMP, bits=12, **elements), tmp_path / "a.dcm"))
    assert torch.equal(plain.pixels[0], 4095 - torch.from_numpy(RAMP.astype(np.float32)))
    scaled = image(RAMP, bits=12, RescaleSlope=0.5, RescaleIntercept=10, **elements)
    pixels = read_dicom(save(scaled, tmp_path / "b.dcm")).pixels
    assert pixels[0, 0, 0] == 10 + 4095 * 0.5  # black is dense
    assert pixels[0, 0, 1] == 10 + 4094 * 0.5
    measured = ct(RAMP, bits=12, PhotometricInterpretation="MONOCHROME1")
    assert read_dicom(save(measured, tmp_path / "c.dcm")).pixels[0, 0, 1] == 1 - 1024


def test_a_lookup_table_gives_the_values(tmp_path):
    dataset = image(RAMP, bits=12)
    table = Dataset()
    table.LUTDescriptor, table.ModalityLUTType = [8, 2, 16], "US"
    table.add_new("LUTData", "US", [50, 40, 45, 30, 20, 10, 5, 0])
    dataset.ModalityLUTSequence = Sequence([table])
    read = read_dicom(save(dataset, tmp_path / "a.dcm"))
    assert np.array_equal(read.pixels[0].numpy(), apply_modality_lut(RAMP, dataset))
    assert (read.bounds, read.quantum) == ((0, 50), None)


@pytest.mark.parametrize(
    ("elements", "spacing"),
    [
        ({"PixelSpacing": [0.5, 0.75]}, (0.5, 0.75)),
        ({"ImagerPixelSpacing": [0.1, 0.2]}, (0.1, 0.2)),
        ({"PixelSpacing": [0, 0]}, None),
        ({"PixelSpacing": []}, None),
        ({}, None),
    ],
)
def test_spacing_is_of_rows_then_columns(tmp_path, elements, spacing):
    assert read_dicom(save(image(RAMP, **elements), tmp_path / "a.dcm")).spacing == spacing


@pytest.mark.parametrize(
    ("elements", "patient"),
    [
        ({}, "P-17"),
        ({"PatientID": ""}, "Doe^Jane"),
        ({"PatientID": " ", "PatientName": "^^^"}, None),
        ({"PatientID": None, "PatientName": None}, None),
    ],
)
def test_the_patient(tmp_path, elements, patient):
    assert read_dicom(save(image(RAMP, **elements), tmp_path / "a.dcm")).patient == patient


def test_a_file_is_known_by_suffix_or_by_its_magic_word(tmp_path):
    for name in ("a.dcm", "b.DICOM", "c.ima", "IM0001", "1.2.840.113619.2"):
        path = save(image(RAMP), tmp_path / name)
        assert is_dicom(path), name
        assert file_type_of(path) is FILE_TYPES["dicom"]
    for name in ("plain", "d.txt", ".e.dcm"):
        (tmp_path / name).write_bytes(b"\0" * 128 + b"DIC?")
        assert not is_dicom(tmp_path / name), name
    save(image(RAMP), tmp_path / "f.txt")
    assert not is_dicom(tmp_path / "f.txt")
    assert is_dicom(tmp_path / "missing.dcm"), "so that its reader says that it is missing"
    (tmp_path / "folder.dcm").mkdir()
    assert not is_dicom(tmp_path / "folder.dcm")


def test_frames_are_ordered_by_place_each_with_its_rescale(tmp_path):
    read = read_dicom(save(enhanced([6, 2, 4]), tmp_path / "a.dcm"))
    assert read.pixels.shape == (1, 3, 2, 3)
    assert read.pixels[0, :, 0, 0].tolist() == [11, 22, 0]  # frames 1, 2, 0: number + 10 × number
    assert (read.spacing, read.unit, read.quantum) == ((2, 0.5, 0.75), "HU", 1)
    assert outline(tmp_path / "a.dcm").shape == (3, 2, 3)


def test_frames_at_one_place_are_moments_in_time(tmp_path):
    read = read_dicom(save(enhanced([2, 2, 2]), tmp_path / "a.dcm"))
    assert read.pixels[0, :, 0, 0].tolist() == [0, 11, 22]
    assert read.spacing is None


def test_frames_without_places_have_no_spacing(tmp_path):
    path = save(image(np.arange(24, dtype=np.uint8).reshape(2, 3, 4), PixelSpacing=[1, 1]), tmp_path / "cine.dcm")
    read = read_dicom(path)
    assert torch.equal(read.pixels, torch.arange(24.0).reshape(1, 2, 3, 4))
    assert read.spacing is None
    assert torch.equal(read_dicom_mask(path), torch.arange(24).reshape(2, 3, 4))


def test_planes_of_an_outline_are_told_by_directions(tmp_path):
    sagittal = enhanced([0, 2])
    group = sagittal.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0]
    group.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]  # rows along y, columns down z: the normal is −x
    for number, frame in enumerate(sagittal.PerFrameFunctionalGroupsSequence):
        frame.PlanePositionSequence[0].ImagePositionPatient = [-number, 0, 0]
    assert outline(save(sagittal, tmp_path / "a.dcm")).planes == ("sagittal", "axial", "coronal")


def test_a_window_shows_what_a_viewer_shows():
    path = sample("MR_small.dcm")
    dataset, read = dcmread(path), read_dicom(path)
    shown = apply_windowing(pixel_array(dataset), dataset)
    assert read.window is not None
    ends = np.iinfo(np.int16)
    expected = (shown - ends.min) / (ends.max - ends.min)
    assert np.allclose(apply_window(read.pixels, read.window)[0].numpy(), expected, atol=1e-6)


def test_a_window_is_clipped_and_scaled():
    assert apply_window(torch.tensor([-161.0, -160, 40, 240, 999]), (40, 400)).tolist() == [0, 0, 0.5, 1, 1]


def test_a_turned_image_has_its_window_turned(tmp_path):
    elements = {"WindowCenter": 1000, "WindowWidth": 200, "VOILUTFunction": "LINEAR_EXACT"}
    dataset = image(RAMP, bits=12, PhotometricInterpretation="MONOCHROME1", Modality="DX", **elements)
    assert read_dicom(save(dataset, tmp_path / "a.dcm")).window == (3095, 200)


@pytest.mark.parametrize("window", [(40,), (40, 0), "lung", (True, 1), (float("nan"), 1)])
def test_a_wrong_window_option_is_refused(window):
    with pytest.raises(InputError, match="window must be a level and a width above 0"):
        DataOptions(window=window)


def test_window_options():
    assert DataOptions(window=[40, 400]).window == (40, 400)
    assert DataOptions(window="file").window == "file"


@pytest.mark.parametrize(
    ("elements", "message"),
    [
        ({"PixelData": None}, r"a\.dcm has no PixelData \(7FE0,0010\) \(MR Image Storage\): "),
        ({"Rows": None}, r"a\.dcm has no Rows \(0028,0010\)"),
        ({"Columns": None}, r"a\.dcm has no Columns \(0028,0011\)"),
        ({"Rows": 0}, r"a\.dcm has 0 rows and 4 columns"),
        ({"BitsStored": None}, r"a\.dcm has no BitsStored \(0028,0101\)"),
        ({"PixelData": RAMP.tobytes()[:-2]}, r"a\.dcm has its PixelData \(7FE0,0010\) cut off: copy"),
        ({"Rows": 40000, "Columns": 40000}, r"a\.dcm is too large \(40000 × 40000, more than 67108864 pixels\)"),
        ({"Rows": 8000, "Columns": 8000, "NumberOfFrames": 17}, r"too large \(17 × 8000 × 8000, more than 1073741824"),
        ({"NumberOfFrames": 0}, r"a\.dcm has NumberOfFrames \(0028,0008\) '0'"),
        ({"RescaleSlope": 0, "RescaleIntercept": 0}, r"a\.dcm has RescaleSlope \(0028,1053\) 0: mend it"),
        ({"RescaleSlope": "nan", "RescaleIntercept": 0}, r"a\.dcm has RescaleSlope \(0028,1053\) nan: mend it"),
        ({"RescaleSlope": 1, "RescaleIntercept": "inf"}, r"a\.dcm has RescaleIntercept \(0028,1052\) inf: mend it"),
        (
            {"PixelSpacing": [1, 2, 3]},
            r"a\.dcm has PixelSpacing \(0028,0030\) \[1\.0, 2\.0, 3\.0\], not 2 finite numbers",
        ),
        ({"PhotometricInterpretation": "CMYK"}, r"a\.dcm .*CMYK"),
        ({"PixelRepresentation": None}, r"a\.dcm has no valid PixelRepresentation \(0028,0103\)"),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_one_line_for_a_broken_file(tmp_path, elements, message):
    from pydicom import config

    with config.disable_value_validation():
        path = save(image(RAMP, **elements), tmp_path / "a.dcm")
    with pytest.raises(BadSampleError, match=message) as error:
        read_dicom(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("MR_truncated.dcm", r"cut off"),
        ("dicomdirtests/DICOMDIR", r"is a DICOMDIR, an index of other files: give the image files it lists"),
        ("reportsi.dcm", r"has no PixelData \(7FE0,0010\) \(Basic Text SR Storage\)"),
        ("rtplan.dcm", r"\(RT Plan Storage\)"),
        ("no_meta.dcm", r"is not a DICOM file"),
        ("badVR.dcm", r"has NumberOfFrames \(0028,0008\) '1A'"),
        ("liver_1frame.dcm", r"is Segmentation Storage, no image: give it as the mask of one"),
        ("JPGExtended.dcm", r"is compressed as JPEG Extended \(Process 2 and 4\) with 12 bits"),
        ("JPEG2000-embedded-sequence-delimiter.dcm", r"has pixels that cannot be decoded as JPEG 2000"),
    ],
)
def test_one_line_for_files_that_are_no_images(name, message):
    path = Path(sample("CT_small.dcm").parent, name)
    with pytest.raises(BadSampleError, match=message) as error:
        read_dicom(path)
    assert "\n" not in str(error.value)


def test_missing_and_other_files(tmp_path):
    with pytest.raises(BadSampleError, match=r"none\.dcm does not exist: put the file there"):
        read_dicom(tmp_path / "none.dcm")
    (tmp_path / "text.dcm").write_text("hello")
    with pytest.raises(BadSampleError, match=r"text\.dcm is not a DICOM file"):
        read_dicom(tmp_path / "text.dcm")


def test_float_pixels(tmp_path):
    dataset = image(RAMP, Modality="PT")
    for keyword in ("PixelData", "BitsStored", "HighBit", "PixelRepresentation"):
        del dataset[keyword]
    dataset.BitsAllocated = 32
    values = np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4)
    dataset.FloatPixelData = values.tobytes()
    read = read_dicom(save(dataset, tmp_path / "a.dcm"))
    assert np.array_equal(read.pixels[0].numpy(), values)
    assert (read.bounds, read.quantum) == (None, None)
    values[1, 1] = np.nan
    dataset.FloatPixelData = values.tobytes()
    with pytest.raises(BadSampleError, match=r"b\.dcm has pixels that are not finite: replace them"):
        read_dicom(save(dataset, tmp_path / "b.dcm"))


def test_the_limit_is_adjustable(tmp_path):
    path = save(image(RAMP), tmp_path / "a.dcm")
    assert read_dicom(path, max_pixels=12).pixels.numel() == 12
    with pytest.raises(BadSampleError, match=r"too large \(4 × 3, more than 11 pixels\): save it smaller"):
        read_dicom(path, max_pixels=11)


def test_a_missing_codec_names_the_syntax_and_the_extra(monkeypatch):
    from pydicom.uid import JPEG2000Lossless

    decoder = base.get_decoder(JPEG2000Lossless)
    monkeypatch.setattr(decoder, "_available", {})
    with pytest.raises(BadSampleError) as error:
        read_dicom(sample("MR_small_jp2klossless.dcm"))
    assert "is compressed as JPEG 2000 Image Compression (Lossless Only), whose codec is missing: " in str(error.value)
    assert str(error.value).endswith("pip install 'medrobust[dicom]'")


@settings(max_examples=60, deadline=None)
@given(cut=st.floats(0, 1), name=st.sampled_from(["CT_small.dcm", "MR_small_RLE.dcm", "MR_small_jpeg_ls_lossless.dcm"]))
def test_a_file_cut_off_anywhere_is_one_line_or_whole(tmp_path_factory, cut, name):
    content = sample(name).read_bytes()
    path = tmp_path_factory.mktemp("cut") / "a.dcm"
    path.write_bytes(content[: int(cut * len(content))])
    try:
        pixels, message = read_dicom(path).pixels, ""
    except BadSampleError as error:
        pixels, message = read_dicom(sample(name)).pixels, str(error)
    assert torch.equal(pixels, read_dicom(sample(name)).pixels)
    assert not message or ("a.dcm" in message and "\n" not in message)


def test_real_files(shared_data):
    folder = shared_data / "dicom"
    raw, packed = (read_dicom(folder / name) for name in ("emri_small.dcm", "emri_small_RLE.dcm"))
    assert raw.pixels.shape == (1, 10, 64, 64)
    assert torch.equal(raw.pixels, packed.pixels)
    chest = read_dicom(folder / "RG1_J2KI.dcm")
    stored = pixel_array(dcmread(folder / "RG1_J2KI.dcm"))
    assert np.array_equal(chest.pixels[0].numpy(), (32767 - stored.astype(np.int64)).astype(np.float32))
    assert (chest.bounds, chest.patient, chest.spacing) == ((0, 32767), "9RG1", None)
    assert read_dicom(folder / "JPEG-LL.dcm").pixels.shape == (1, 1024, 256)
    assert read_dicom(folder / "OBXXXX1A.dcm").pixels.shape == (3, 600, 800)
    lung = read_dicom(folder / "lungmask_0.dcm")
    assert (lung.unit, lung.patient, lung.pixels.min()) == ("HU", None, -2048)
