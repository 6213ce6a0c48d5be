"""NIfTI in and out: real volumes, nibabel's own samples, and headers made to be odd. Oracle: nibabel's get_fdata."""

from __future__ import annotations

import gzip
import shutil
import struct
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from medrobust.data import DataOptions, nifti, open_dataset
from medrobust.data.file_types import FILE_TYPES, outline_of, read_stored, read_stored_mask, without_suffix
from medrobust.data.slices import SlicedDataset
from medrobust.errors import BadSampleError, InputError

SAMPLES = Path(nib.__file__).parent / "tests" / "data"
AFFINE = np.array([[2.0, 0, 0, -10], [0, 3, 0, 20], [0, 0, 5, -30], [0, 0, 0, 1]])


def save(path, values, *, slope=None, inter=0.0, affine=AFFINE, kind=nib.Nifti1Image, **fields) -> Path:
    """A NIfTI file of the values as stored (i, j, k), and header fields."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.asarray(values)
    header = kind.header_class(endianness=">" if values.dtype.byteorder == ">" else "<")
    image = kind(values, affine, header, dtype=values.dtype)
    for name, value in fields.items():
        image.header[name] = value
    if slope is not None:
        image.header.set_slope_inter(slope, inter)
    nib.save(image, path)
    return path


def raw(path: Path) -> np.ndarray:
    return np.asarray(nib.load(path).dataobj.get_unscaled())


def ct(shape=(4, 5, 6), seed=0, least=-1000, most=400) -> np.ndarray:
    values = np.random.default_rng(seed).integers(least, most, shape).astype(np.int16)
    values.flat[0] = least
    return values


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "A.NII.GZ"])
def test_axes_are_those_of_the_transposed_array(tmp_path, name):
    """Stored [i, j, k] is ours [k, j, i]; spacing 2, 3, 5 mm along i, j, k is (5, 3, 2)."""
    values = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    stored = read_stored(save(tmp_path / name.lower(), values).rename(tmp_path / name))
    assert stored.pixels.shape == (1, 4, 3, 2)
    assert stored.pixels.dtype == torch.float32
    assert float(stored.pixels[0, 3, 1, 0]) == values[0, 1, 3]
    assert stored.spacing == pytest.approx((5, 3, 2))
    assert (stored.unit, stored.quantum, stored.patient) == ("stored", 1.0, None)


@pytest.mark.parametrize(
    ("dtype", "slope", "inter", "quantum"),
    [
        (np.int16, 0.5, -1000.25, 0.5),
        (np.uint8, -2.0, 10.0, 2.0),
        (">i2", None, 0, 1.0),
        (np.int32, 1, -1024, 1.0),
        (np.float32, None, 0, None),
        (np.float64, 0.1, 3.0, None),
    ],
)
def test_values_are_in_data_units(tmp_path, dtype, slope, inter, quantum):
    values = np.arange(60).reshape(3, 4, 5).astype(dtype)
    path = save(tmp_path / "a.nii.gz", values, slope=slope, inter=inter)
    stored = read_stored(path)
    assert np.array_equal(raw(path), values)
    assert np.allclose(stored.pixels[0].numpy(), nib.load(path).get_fdata().T, rtol=1e-6, atol=0)
    assert stored.quantum == quantum


@pytest.mark.parametrize(("code", "factor"), [(0, 1), (1, 1000), (2, 1), (3, 0.001), (2 + 8, 1)])
def test_spacing_is_in_millimetres_whatever_the_header_measures_in(tmp_path, code, factor):
    path = save(tmp_path / "a.nii", np.zeros((2, 2, 2), np.int16), xyzt_units=code)
    assert read_stored(path).spacing == pytest.approx((5 * factor, 3 * factor, 2 * factor))


def test_two_axes_and_axes_of_one(tmp_path):
    flat = save(tmp_path / "a.nii", np.arange(6, dtype=np.uint8).reshape(2, 3))
    assert read_stored(flat).pixels.tolist() == [[[0, 3], [1, 4], [2, 5]]]
    assert read_stored(flat).spacing == pytest.approx((3, 2))
    for shape in ((2, 3, 4, 1), (2, 3, 4, 1, 1)):
        assert read_stored(save(tmp_path / "b.nii", np.zeros(shape, np.uint8))).pixels.shape == (1, 4, 3, 2)
    assert read_stored(save(tmp_path / "c.nii", np.zeros((2, 3, 1), np.uint8))).pixels.shape == (1, 1, 3, 2)


def test_nibabels_own_samples():
    for name in ("anatomical.nii", "reoriented_anat_moved.nii", "standard.nii.gz"):
        expected = nib.load(SAMPLES / name).get_fdata()
        assert np.array_equal(read_stored(SAMPLES / name).pixels[0].numpy(), expected.T.astype(np.float32))
    for name in ("functional.nii", "example4d.nii.gz", "example_nifti2.nii.gz"):
        with pytest.raises(BadSampleError, match=rf"{name} holds a series of volumes \(.*\): save each as"):
            read_stored(SAMPLES / name)
    with pytest.raises(BadSampleError, match=r"dconn\.nii is a Cifti2Image: save it as a NIfTI volume"):
        read_stored(SAMPLES / "row_major.dconn.nii")


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float32, np.float64])
def test_masks_are_whole_numbers(tmp_path, dtype):
    values = (np.arange(24).reshape(2, 3, 4) % 4).astype(dtype)
    mask = read_stored_mask(save(tmp_path / "m.nii.gz", values))
    assert mask.dtype == torch.int64
    assert np.array_equal(mask.numpy(), values.T)


def test_a_mask_of_fractions_is_refused(tmp_path):
    with pytest.raises(BadSampleError, match=r"m\.nii has the value 0\.5, which is no class index"):
        read_stored_mask(save(tmp_path / "m.nii", np.full((2, 2, 2), 0.5, np.float32)))


class TestBadFiles:
    def test_values_that_are_not_finite(self, tmp_path):
        values = np.zeros((3, 3, 3), np.float32)
        values[0, 0, 0], values[1, 2, 0] = np.nan, np.inf
        with pytest.raises(BadSampleError, match=r"a\.nii has 2 voxels of NaN or infinite value: replace them"):
            read_stored(save(tmp_path / "a.nii", values))

    @pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
    @pytest.mark.parametrize("kept", [0, 100, 400, 2000])
    def test_truncated(self, tmp_path, name, kept):
        path = save(tmp_path / name, ct((20, 20, 20)))
        path.write_bytes(path.read_bytes()[:kept])
        fault = r"(cannot be read as NIfTI|is cut short) \(.+\): replace it"
        with pytest.raises(BadSampleError, match=rf"{name} {fault}") as told:
            read_stored(path)
        assert "\n" not in str(told.value)

    def test_no_nifti_at_all(self, tmp_path, caplog):
        (tmp_path / "a.nii.gz").write_bytes(b"hello" * 200)
        (tmp_path / "b.nii").write_bytes(b"hello" * 200)
        for name in ("a.nii.gz", "b.nii", "none.nii"):
            with pytest.raises(BadSampleError, match=rf"{name} (cannot be read as NIfTI|does not exist)"):
                read_stored(tmp_path / name)

    def test_a_wrong_checksum(self, tmp_path):
        path = save(tmp_path / "a.nii.gz", ct((20, 20, 20)))
        content = bytearray(path.read_bytes())
        content[-8] ^= 1
        path.write_bytes(content)
        with pytest.raises(BadSampleError, match=r"cannot be read as NIfTI \(CRC check failed"):
            read_stored(path)

    def test_a_checksum_behind_more_than_the_voxels(self, tmp_path):
        """Of a damaged gzip more may come out than went in: its checksum is then further on."""
        path = save(tmp_path / "a.nii.gz", ct((20, 20, 20)))
        content = gzip.decompress(path.read_bytes())
        path.write_bytes(gzip.compress(content + bytes(99)))
        assert read_stored(path).pixels.shape == (1, 20, 20, 20)
        damaged = bytearray(path.read_bytes())
        damaged[-8] ^= 1
        path.write_bytes(damaged)
        with pytest.raises(BadSampleError, match=r"a\.nii\.gz cannot be read as NIfTI \(CRC check failed.*replace it"):
            read_stored(path)

    def test_damaged_gzip_and_header(self, tmp_path):
        path = save(tmp_path / "a.nii.gz", ct((20, 20, 20)))
        content = bytearray(path.read_bytes())
        content[len(content) // 2 : len(content) // 2 + 40] = bytes(40)
        path.write_bytes(content)
        with pytest.raises(BadSampleError, match=r"a\.nii\.gz cannot be read as NIfTI"):
            read_stored(path)
        path = save(tmp_path / "b.nii", ct())
        content = bytearray(path.read_bytes())
        content[40:42] = struct.pack("<h", 99)  # number of axes
        path.write_bytes(content)
        with pytest.raises(BadSampleError, match=r"b\.nii cannot be read as NIfTI"):
            read_stored(path)

    def test_a_header_that_claims_too_much(self, tmp_path):
        path = save(tmp_path / "bomb.nii.gz", np.zeros((2, 2, 2), np.uint8))
        content = bytearray(gzip.decompress(path.read_bytes()))
        content[42:48] = struct.pack("<3h", 30000, 30000, 30000)
        path.write_bytes(gzip.compress(content))
        with pytest.raises(BadSampleError, match=r"too large \(30000 × 30000 × 30000, more than 1073741824 voxels\)"):
            read_stored(path)
        with pytest.raises(BadSampleError, match=r"too large .* more than 7 voxels\): cut it up, or set max_pixels"):
            read_stored(save(tmp_path / "a.nii", np.zeros((2, 2, 2), np.uint8)), 7)
        assert read_stored(tmp_path / "a.nii", 8).pixels.numel() == 8

    @pytest.mark.parametrize("dtype", [np.complex64, np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])])
    def test_several_numbers_a_voxel(self, tmp_path, dtype):
        with pytest.raises(BadSampleError, match=r"a\.nii has values of type .*: save one number a voxel"):
            read_stored(save(tmp_path / "a.nii", np.zeros((2, 2, 2), dtype)))


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize(
    ("dtype", "slope", "inter"),
    [(np.int16, 0.5, -1000.25), (">i2", None, 0), (np.int32, 0.1, 7), (np.uint16, -2, 9), (np.float32, None, 0)],
)
@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
def test_what_does_not_change_keeps_its_bits(tmp_path, name, dtype, slope, inter, kind):
    values = np.random.default_rng(0).integers(20, 2000, (3, 4, 5)).astype(dtype)
    fields = {"descrip": b"Jane Doe", "intent_name": b"Doe", "aux_file": b"jane", "qform_code": 1, "xyzt_units": 10}
    source = save(tmp_path / name, values, slope=slope, inter=inter, kind=kind, **fields)
    pixels = read_stored(source).pixels
    step = abs(slope or 1)
    moved = pixels.clone()
    moved[0, 0] += 3.2 * step  # to the nearest of the grid
    nifti.write(source, moved, tmp_path / f"out-{name}", deidentify=False)

    written, original = nib.load(tmp_path / f"out-{name}"), nib.load(source)
    stored = raw(tmp_path / f"out-{name}")
    assert stored.dtype == values.dtype
    assert np.array_equal(stored[:, :, 1:], values[:, :, 1:])
    change = stored[:, :, 0].astype(float) - values[:, :, 0].astype(float)
    expected = 3.2 if np.dtype(dtype).kind == "f" else 3 * np.sign(slope or 1)
    assert np.allclose(change, expected, rtol=1e-4)
    assert np.array_equal(written.affine, original.affine)
    for field in original.header:
        if field not in ("descrip", "sizeof_hdr"):
            assert np.array_equal(written.header[field], original.header[field], equal_nan=False) or (
                np.isnan(original.header[field]).all()
            ), field
    assert written.header["descrip"].item() == b"Jane Doe; medrobust adversarial"
    assert not list(tmp_path.glob("*.part"))


def test_extensions_and_names_go_only_when_asked(tmp_path):
    image = nib.Nifti1Image(ct(), AFFINE)
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"Jane Doe, born 1970"))
    image.header["descrip"], image.header["db_name"] = b"Jane Doe", b"Doe"
    nib.save(image, tmp_path / "a.nii.gz")
    moved = read_stored(tmp_path / "a.nii.gz").pixels + 1
    nifti.write(tmp_path / "a.nii.gz", moved, tmp_path / "kept.nii.gz", deidentify=False)
    assert nib.load(tmp_path / "kept.nii.gz").header.extensions[0].get_content() == b"Jane Doe, born 1970"
    nifti.write(tmp_path / "a.nii.gz", moved, tmp_path / "gone.nii.gz", deidentify=True)
    assert b"Doe" not in gzip.decompress((tmp_path / "gone.nii.gz").read_bytes())
    written = nib.load(tmp_path / "gone.nii.gz")
    assert not written.header.extensions
    assert written.header["descrip"].item() == b"medrobust adversarial"
    assert np.array_equal(raw(tmp_path / "gone.nii.gz"), image.dataobj + 1)


def test_a_copy_is_not_called_adversarial_and_a_long_description_leaves_room(tmp_path):
    source = save(tmp_path / "a.nii", ct(), descrip=b"x" * 80)
    pixels = read_stored(source).pixels
    nifti.write(source, pixels, tmp_path / "same.nii", deidentify=False)
    assert (tmp_path / "same.nii").read_bytes() == source.read_bytes()
    nifti.write(source, pixels + 1, tmp_path / "other.nii", deidentify=False)
    told = nib.load(tmp_path / "other.nii").header["descrip"].item()
    assert told == b"x" * 57 + b"; medrobust adversarial"


def test_the_same_bytes_every_time(tmp_path):
    source = save(tmp_path / "a.nii.gz", ct())
    moved = read_stored(source).pixels + 2
    for name in ("1.nii.gz", "2.nii.gz"):
        nifti.write(source, moved, tmp_path / name, deidentify=True)
    content = (tmp_path / "1.nii.gz").read_bytes()
    assert content == (tmp_path / "2.nii.gz").read_bytes()
    assert content[4:8] == bytes(4)  # gzip's time of writing


def test_what_does_not_fit_is_an_error_not_a_wrap(tmp_path):
    source = save(tmp_path / "a.nii", np.full((2, 2, 2), 250, np.uint8))
    pixels = read_stored(source).pixels
    with pytest.raises(InputError, match=r"the value 256 does not fit into the uint8 of .*a\.nii: set bounds"):
        nifti.write(source, pixels + 6, tmp_path / "b.nii", deidentify=True)
    with pytest.raises(InputError, match="NaN or infinite"):
        nifti.write(source, pixels * torch.nan, tmp_path / "b.nii", deidentify=True)
    with pytest.raises(InputError, match=r"holds \(1, 2, 2, 2\), not \(1, 1, 2, 2\)"):
        nifti.write(source, pixels[:, :1], tmp_path / "b.nii", deidentify=True)
    assert [path.name for path in tmp_path.iterdir()] == ["a.nii"]


def test_planes_are_those_of_the_body(tmp_path):
    """A scan whose first index goes to the head: its axial slices lie across i, our last axis."""
    affine = np.array([[0, 2.0, 0, 0], [0, 0, 2, 0], [3, 0, 0, 0], [0, 0, 0, 1]])
    values = np.zeros((4, 5, 6), np.int16)
    assert outline_of(save(tmp_path / "a.nii", values)).planes == ("axial", "coronal", "sagittal")
    turned = outline_of(save(tmp_path / "b.nii", values, affine=affine))
    assert (turned.shape, turned.planes) == ((6, 5, 4), ("coronal", "sagittal", "axial"))
    tilted = AFFINE.copy()
    tilted[:3, :3] = [[2, 0, 0], [0, 2.8, 1.2], [0, -1.2, 2.8]]
    assert outline_of(save(tmp_path / "c.nii", values, affine=tilted)).planes == ("axial", "coronal", "sagittal")


def test_names_without_their_suffix():
    names = {"case.nii.gz": "case", "case.v2.NII": "case.v2", "a.b.png": "a.b", "1.2.840": "1.2.840", "x.gz": "x.gz"}
    assert {name: without_suffix(name) for name in names} == names
    assert FILE_TYPES["nifti"].suffix(Path("A.NII.GZ")) == ".nii.gz"


@pytest.fixture
def folder(tmp_path) -> Path:
    """Two small CTs with masks of two organs, one axial slice of five with any."""
    for number in range(2):
        mask = np.zeros((4, 6, 5), np.uint8)
        mask[1:3, 2:5, 1 + number] = 1
        mask[0, 0, 1 + number] = 2
        save(tmp_path / "set" / "images" / f"case{number}.nii.gz", ct((4, 6, 5), seed=number))
        save(tmp_path / "set" / "masks" / f"case{number}_mask.nii.gz", mask)
    return tmp_path / "set"


def test_a_folder_of_volumes_and_masks(folder):
    dataset = open_dataset(folder)
    info = dataset.info
    assert (info.unit, info.bounds, info.channels, info.spatial_dims) == ("HU", (-1024, 3071), 1, 3)
    assert info.classes == ("background", "1", "2")
    assert any("taken for Hounsfield units, as the first is of whole numbers from -1000" in note for note in info.notes)
    sample = dataset[1]
    assert sample.id == "images/case1.nii.gz"
    assert (sample.image.shape, sample.truth.shape) == ((1, 5, 6, 4), (5, 6, 4))
    assert sample.truth[2, 0, 0] == 2
    assert sample.spacing == pytest.approx((5, 3, 2))
    assert (sample.quantum, sample.file) == (1.0, folder / "images" / "case1.nii.gz")


def test_bounds_of_ct_hold_padding_and_metal(folder):
    """Padding of -2048 lies below air: refused, such scans could not be read without a setting."""
    values = ct((4, 6, 5), seed=1)
    values[0, 0, :2] = -2048, 5000
    save(folder / "images" / "case1.nii.gz", values)
    info = open_dataset(folder).info
    assert (info.unit, info.bounds) == ("HU", (-2048, 5000))
    assert any(
        "from -2048 to 5000 HU, beyond [-1024, 3071]: values may go from -2048 to 5000." in n for n in info.notes
    )
    values[0, 0, 1] = 0
    save(folder / "images" / "case1.nii.gz", values)
    assert open_dataset(folder).info.bounds == (-2048, 3071)
    assert open_dataset(folder, DataOptions(bounds=(-1000, 500))).info.bounds == (-1000, 500)


def test_units_and_bounds_that_are_given(folder):
    stored = open_dataset(folder, DataOptions(unit="stored")).info
    extremes = [read_stored(path).pixels for path in (folder / "images").iterdir()]
    assert stored.unit == "stored"
    assert stored.bounds == (-1000.0, max(float(pixels.max()) for pixels in extremes))
    assert any("No bounds are given" in note for note in stored.notes)
    given = open_dataset(folder, DataOptions(unit="HU", bounds=(-1000, 500)))  # type: ignore[arg-type]
    assert (given.info.bounds, given.info.unit, given[0].id) == ((-1000, 500), "HU", "images/case0.nii.gz")
    assert not any("name no unit" in note for note in given.info.notes)


def test_what_is_no_ct_is_as_stored(tmp_path):
    for number, most in enumerate((300, 800)):
        save(tmp_path / "images" / f"{number}.nii", ct((3, 3, 3), least=0, most=most))
        save(tmp_path / "masks" / f"{number}.nii", np.eye(3, dtype=np.uint8)[None].repeat(3, 0))
    info = open_dataset(tmp_path).info
    assert info.unit == "stored"
    assert info.bounds[0] == 0
    assert 700 < info.bounds[1] <= 800
    assert any("set unit: HU" in note for note in info.notes)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"unit": "mm"}, "unit must be one of HU, stored, got 'mm'"),
        ({"bounds": (1, 0)}, "bounds must be two finite numbers, the lower one first"),
        ({"bounds": (0, float("nan"))}, "bounds must be two finite numbers"),
        ({"bounds": 3}, "bounds must be two finite numbers"),
        ({"max_pixels": 0}, "max_pixels must be a whole number, 1 or more, got 0"),
        ({"slices": "oblique"}, "slices must be one of axial, coronal, sagittal"),
        ({"slices_with_truth": True}, "set slices too"),
        ({"slices_with_truth": "yes", "slices": "axial"}, "slices_with_truth must be true or false"),
    ],
)
def test_refuses_options(options, message):
    with pytest.raises(InputError, match=message):
        DataOptions(**options)


def test_options_that_have_no_meaning_for_pictures(tmp_path, write_image):
    for name in ("a", "b"):
        write_image(tmp_path / name / "1.png")
    for options in ({"unit": "HU"}, {"bounds": [0, 2]}, {"slices": "axial"}):
        with pytest.raises(InputError, match=rf"option {next(iter(options))} has no meaning for images"):
            open_dataset(tmp_path, DataOptions(**options))  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"more than 23 pixels\): save it smaller, or set max_pixels"):
        open_dataset(tmp_path, DataOptions(max_pixels=23))
    assert open_dataset(tmp_path, DataOptions(max_pixels=24))[0].image.numel() == 24


def test_a_picture_larger_than_the_usual_limit_can_be_allowed(tmp_path, monkeypatch, write_image):
    from PIL import Image

    path = write_image(tmp_path / "a.png", size=(30, 20))
    monkeypatch.setattr("medrobust.data.images.MAX_PIXELS", 10)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20)  # Pillow refuses twice as many
    with pytest.raises(BadSampleError, match=r"too large \(.*more than 10 pixels\)"):
        read_stored(path)
    assert read_stored(path, 600).pixels.shape == (1, 20, 30)
    assert Image.MAX_IMAGE_PIXELS == 20


def test_a_mask_that_lies_elsewhere(folder):
    mask = folder / "masks" / "case0_mask.nii.gz"
    other = AFFINE.copy()
    other[0, 3] += 5e-4
    save(mask, np.asarray(nib.load(mask).dataobj), affine=other)
    assert open_dataset(folder)[0].truth.max() == 2
    other[2, 3] = 12
    save(mask, np.asarray(nib.load(mask).dataobj), affine=other)
    with pytest.raises(
        BadSampleError,
        match=r"images/case0\.nii\.gz and its mask .*masks/case0_mask\.nii\.gz have different affines: "
        r"row 3, column 4 is -30 and 12; resample",
    ):
        open_dataset(folder)[0]
    save(mask, np.zeros((4, 6, 4), np.uint8))
    with pytest.raises(BadSampleError, match=r"case0\.nii\.gz is 4 × 6 × 5 but its mask .* is 4 × 6 × 4"):
        open_dataset(folder)[0]


def test_pictures_among_volumes_are_told(folder, write_image, write_mask):
    write_image(folder / "images" / "z.png")
    write_mask(folder / "masks" / "z.png", np.zeros((4, 6)))
    with pytest.raises(BadSampleError, match=r"z\.png has values in \[0, 1\], the set is in HU"):
        open_dataset(folder)[2]
    (folder / "images" / "z.png").unlink()
    (folder / "masks" / "z.png").unlink()
    save(folder / "images" / "z.nii", np.zeros((4, 6), np.int16))
    save(folder / "masks" / "z.nii", np.zeros((4, 6), np.uint8))
    with pytest.raises(BadSampleError, match=r"z\.nii has 2 axes, the set's images have 3"):
        open_dataset(folder)[2]


def test_volumes_are_resized_in_their_planes(folder):
    plain, small = open_dataset(folder)[0], open_dataset(folder, DataOptions(resize=(3, 8)))[0]
    assert (small.image.shape, small.truth.shape) == ((1, 5, 3, 8), (5, 3, 8))
    assert small.spacing == pytest.approx((5, 6, 1))
    assert small.quantum is None
    for index in range(5):
        expected = torch.nn.functional.interpolate(
            plain.image[:, index][None], (3, 8), mode="bilinear", antialias=True, align_corners=False
        )[0]
        assert torch.allclose(small.image[:, index], expected, atol=1e-3)
    assert torch.equal(small.truth[1, :, ::2], plain.truth[1, 1::2])


@pytest.mark.parametrize(
    ("plane", "axis", "count", "spacing"),
    [("axial", 0, 5, (3, 2)), ("coronal", 1, 6, (5, 2)), ("sagittal", 2, 4, (5, 3))],
)
def test_slices_are_samples_of_their_own(folder, plane, axis, count, spacing):
    volumes, dataset = open_dataset(folder), open_dataset(folder, DataOptions(slices=plane))
    assert isinstance(dataset, SlicedDataset)
    assert (len(dataset), dataset.info.spatial_dims, dataset.info.bounds) == (2 * count, 2, (-1024, 3071))
    for index in (0, count - 1, count, 2 * count - 1):
        sample, volume = dataset[index], volumes[index // count]
        assert sample.id == f"{volume.id}#{index % count:04d}"
        assert sample.patient == volume.id
        assert torch.equal(sample.image, volume.image.select(1 + axis, index % count))
        assert torch.equal(sample.truth, volume.truth.select(axis, index % count))
        assert sample.spacing == pytest.approx(spacing)
        assert sample.file is None


def test_slices_with_truth_and_limit_and_size(folder, monkeypatch):
    dataset = open_dataset(folder, DataOptions(slices="axial", slices_with_truth=True))
    assert [sample.id[-5:] for sample in map(dataset.__getitem__, range(len(dataset)))] == ["#0001", "#0002"]
    limited = open_dataset(folder, DataOptions(slices="axial", limit=4, resize=(9, 7)))
    assert [limited[index].id[7:] for index in range(4)] == [
        "case0.nii.gz#0000", "case0.nii.gz#0002", "case1.nii.gz#0000", "case1.nii.gz#0002",
    ]  # fmt: skip
    assert limited[0].image.shape == (1, 9, 7)
    assert limited.fingerprint() != dataset.fingerprint()


def test_a_volume_is_read_once_for_all_its_slices(folder, monkeypatch):
    from medrobust.data import files

    dataset = open_dataset(folder, DataOptions(slices="axial"))
    read: list[Path] = []
    original = files.read_stored
    monkeypatch.setattr(files, "read_stored", lambda path, most: read.append(path) or original(path, most))
    for index in range(len(dataset)):
        dataset[index].image.zero_()  # nobody else's slice may change by it
    assert len(read) == 2
    assert float(dataset[0].image.abs().max()) > 0


def test_a_bad_volume_is_told_when_its_slice_is_read(folder):
    (folder / "images" / "case1.nii.gz").write_bytes(b"no")
    dataset = open_dataset(folder, DataOptions(slices="axial", skip_bad=True))
    assert len(dataset) == 6
    with pytest.raises(BadSampleError, match=r"case1\.nii\.gz cannot be read"):
        dataset[5]


def test_a_table_of_volumes(tmp_path):
    for name in ("a.nii.gz", "b.nii"):
        save(tmp_path / "images" / name, ct())
    (tmp_path / "labels.csv").write_text("image,label\na,0\nb.nii,1\n")
    dataset = open_dataset(tmp_path)
    assert [(dataset[index].file.name, int(dataset[index].truth)) for index in range(2)] == [
        ("a.nii.gz", 0),
        ("b.nii", 1),
    ]
    (tmp_path / "labels.csv").write_text("image,label\na,0\na.nii.gz,1\n")
    with pytest.raises(InputError, match=r"row 3, column 'image': 'a\.nii\.gz' is already in row 2"):
        open_dataset(tmp_path)


def test_class_folders_of_volumes(tmp_path):
    for name in ("benign", "malignant"):
        save(tmp_path / name / "1.nii.gz", ct())
    dataset = open_dataset(tmp_path, DataOptions(channels=3))
    assert (dataset.info.spatial_dims, dataset.info.channels, dataset[1].image.shape) == (3, 3, (3, 6, 5, 4))


class TestRealCT:
    """TotalSegmentator's reference volumes: int32 and int16 HU with the masks of a model."""

    @pytest.fixture
    def scans(self, shared_data, tmp_path) -> Path:
        names = {"example_ct": "example_seg_fast_force_split", "example_ct_sm": "example_seg"}
        for folder in ("images", "masks"):
            (tmp_path / folder).mkdir()
        for image, mask in names.items():
            shutil.copy(shared_data / "totalseg" / f"{image}.nii.gz", tmp_path / "images")
            shutil.copy(shared_data / "totalseg" / f"{mask}.nii.gz", tmp_path / "masks" / f"{image}.nii.gz")
        return tmp_path

    def test_read(self, scans):
        dataset = open_dataset(scans, DataOptions(bounds=(-2000, 4000), classes=118))
        assert dataset.info.unit == "HU"
        for sample, shape in zip((dataset[0], dataset[1]), ((112, 101, 122), (30, 101, 122)), strict=True):
            assert sample.image.shape == (1, *shape)
            assert sample.spacing == pytest.approx((3, 3, 3))
            assert sample.quantum == 1
            assert np.array_equal(sample.image[0].numpy(), nib.load(sample.file).get_fdata().T)
        spleen = dataset[0].truth == 1
        # in a soft organ in the upper belly, blood and tissue have 0 to 150 HU
        assert 0 < float(dataset[0].image[0][spleen].median()) < 150

    def test_a_round_trip_changes_no_voxel_that_is_not_attacked(self, scans, tmp_path):
        for name in ("example_ct.nii.gz", "example_ct_sm.nii.gz"):
            source = scans / "images" / name
            pixels = read_stored(source).pixels
            moved = pixels.clone()
            moved[0, 10:12] += 7
            nifti.write(source, moved, tmp_path / name, deidentify=True)
            before, after = raw(source), raw(tmp_path / name)
            assert after.dtype == before.dtype
            change = after.astype(int) - before
            assert (change[:, :, 10:12] == 7).all()
            assert np.count_nonzero(change) == before[:, :, 10:12].size
            assert torch.equal(read_stored(tmp_path / name).pixels, moved)
            nifti.write(source, pixels, tmp_path / "same.nii.gz", deidentify=True)
            assert np.array_equal(raw(tmp_path / "same.nii.gz"), before)
