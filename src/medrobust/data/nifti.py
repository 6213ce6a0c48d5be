"""NIfTI images (.nii, .nii.gz), read by nibabel and written back voxel by voxel.

One order of axes: our (D, H, W) is (k, j, i) of the file, its array transposed; of a 2-D image (H, W) is (j, i).
Nothing is flipped or resampled: where an axis points in the body is what the affine says. Values are in data units,
stored × scl_slope + scl_inter. NIfTI-1: Cox et al. 2004, https://nifti.nimh.nih.gov/nifti-1.
"""

from __future__ import annotations

import gzip
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from medrobust.data.images import printable
from medrobust.data.stored_image import USUAL_PLANES, Outline, StoredImage
from medrobust.errors import BadSampleError, InputError

Array = npt.NDArray[Any]

SUFFIXES = (".nii.gz", ".nii")
MAX_VOXELS = 2**30  # 1024³: as float32 4 GB
SAME_AFFINE = 1e-3  # millimetres: how far the affines of an image and its mask may differ in an entry
DESCRIPTION = b"medrobust adversarial"

_CHUNK = 2**20
_FREE_TEXT = ("data_type", "db_name", "descrip", "aux_file", "intent_name")
_WORLD_PLANES = ("sagittal", "coronal", "axial")  # of a slice across x, y and z
_MILLIMETRES = {1: 1000.0, 3: 0.001}  # in a metre and a micron, by the spatial part of xyzt_units


@dataclass(frozen=True)
class _Volume:
    """A file with its values as stored, `(D, H, W)` or `(H, W)` of the file's dtype, and the bytes before them."""

    path: Path
    image: Any
    head: bytes
    stored: Array

    @property
    def slope(self) -> float:
        return float(self.image.dataobj.slope)

    @property
    def intercept(self) -> float:
        return float(self.image.dataobj.inter)

    @property
    def whole(self) -> bool:
        """Whether it holds integers."""
        return self.stored.dtype.kind in "iu"

    def values(self) -> npt.NDArray[np.float32]:
        """In data units; plane by plane, as the double precision in between takes twice the memory."""
        values = np.empty(self.stored.shape, np.float32)
        with np.errstate(over="ignore"):
            for place, plane in enumerate(self.stored):
                values[place] = plane * np.float64(self.slope) + self.intercept
        return values


def matches(path: Path) -> bool:
    """Does the name look like that of a NIfTI file?"""
    return path.name.lower().endswith(SUFFIXES) and not path.name.startswith(".")


def suffix(path: Path) -> str:
    """What the name of a file like this one ends with."""
    return next(ending for ending in SUFFIXES if path.name.lower().endswith(ending))


def read(path: Path, max_voxels: int | None = None) -> StoredImage:
    """Read an image.

    Returns:
        pixels `(1, D, H, W)`, or `(1, H, W)` of a 2-D image, float32 in data units; axes of length 1 behind the third
        are dropped. The unit is "stored", as NIfTI names none. The quantum is |scl_slope| where integers are stored.

    Raises:
        BadSampleError: the file is missing, damaged or larger than `max_voxels` (`MAX_VOXELS` when None), holds a
            series of volumes, colours or complex numbers, or values that are not finite.
    """
    volume = _load(path, max_voxels)
    quantum = abs(volume.slope) if volume.whole else None
    spacing = _spacing(volume.image, volume.stored.ndim)
    return StoredImage(torch.from_numpy(_finite(path, volume.values()))[None], "stored", spacing, quantum)


def read_mask(path: Path, max_voxels: int | None = None) -> Tensor:
    """Read a mask: whole numbers, be they stored as integers or floats.

    Returns:
        `(D, H, W)` or `(H, W)` int64.

    Raises:
        BadSampleError: as for `read`, or a value is no whole number.
    """
    volume = _load(path, max_voxels)
    if volume.whole and (volume.slope, volume.intercept) == (1, 0):
        return torch.from_numpy(volume.stored.astype(np.int64))
    values = _finite(path, volume.values())
    labels = values.astype(np.int64)
    if (labels != values).any():
        odd = float(values[labels != values][0])
        raise _bad(path, f"has the value {odd:g}, which is no class index", "save the mask with whole numbers")
    return torch.from_numpy(labels)


def outline(path: Path, max_voxels: int | None = None) -> Outline:
    """Shape and planes, from the header alone; raises `BadSampleError` as `read` does of the header."""
    image, shape = _open(path)
    _check_size(path, shape, max_voxels)
    if len(shape) != 3:
        return Outline(shape)
    from nibabel.orientations import io_orientation

    nearest = io_orientation(image.affine)[::-1, 0]
    if not np.isfinite(nearest).all():
        return Outline(shape, USUAL_PLANES)
    return Outline(shape, tuple(_WORLD_PLANES[int(axis)] for axis in nearest))


def check_mask(image: Path, mask: Path) -> None:
    """Raise `BadSampleError` when the affines of an image and its mask differ by more than `SAME_AFFINE`."""
    ours, theirs = (np.asarray(_open(path)[0].affine, np.float64) for path in (image, mask))
    differences = np.nan_to_num(np.abs(ours - theirs), nan=np.inf)
    if differences.max() > SAME_AFFINE:
        row, column = np.unravel_index(differences.argmax(), differences.shape)
        raise BadSampleError(
            f"{printable(image)} and its mask {printable(mask)} have different affines: row {row + 1}, column "
            f"{column + 1} is {ours[row, column]:g} and {theirs[row, column]:g}; resample the mask to the image's grid"
        )


def write(source: Path, pixels: Tensor, target: Path, *, deidentify: bool) -> None:
    """Write `(1, *spatial)` in data units as `source` is stored: its header, dtype, byte order and scale.

    Integers are moved by whole steps of scl_slope, the nearest number of them. What does not change keeps its bits. A
    changed image is named adversarial in `descrip`. `deidentify` empties the header's free texts and leaves out its
    extensions, which may hold a whole DICOM header. The same call gives the same bytes.

    Raises:
        BadSampleError: the source cannot be read.
        InputError: the pixels are not of its shape, not finite, or do not fit into its dtype.
    """
    shape = _open(source)[1]
    if tuple(pixels.shape) != (1, *shape):
        raise InputError(f"{printable(source)} holds {(1, *shape)}, not {tuple(pixels.shape)}: cannot be replaced")
    volume = _load(source, pixels.numel())
    stored = _replaced(volume, pixels[0].detach().cpu().numpy())
    changed = bool((stored != volume.stored).any())
    content = _head(volume, changed, deidentify) + stored.tobytes()
    part = target.with_name(f".{target.name}.part")
    try:
        part.write_bytes(gzip.compress(content, 6, mtime=0) if suffix(target) == ".nii.gz" else content)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def _load(path: Path, max_voxels: int | None) -> _Volume:
    image, shape = _open(path)
    _check_size(path, shape, max_voxels)
    dtype, offset = image.get_data_dtype(), int(image.dataobj.offset)
    length = math.prod(shape) * dtype.itemsize
    # not by nibabel, which fills the memory that the header asks for before it sees that a file is short
    with _faults_told(path), (gzip.open if suffix(path) == ".nii.gz" else open)(path, "rb") as file:
        head, content = file.read(offset), file.read(length)
        while file.read(_CHUNK):  # to the end of a gzip, which holds its checksum: damaged, it may be too long
            pass
    if len(content) < length:
        raise _bad(path, f"is cut short ({len(content)} of {length} bytes)", "replace it")
    return _Volume(path, image, head, np.frombuffer(content, dtype).reshape(shape))


def _open(path: Path) -> tuple[Any, tuple[int, ...]]:
    """The file by its header, and its shape in our order."""
    import nibabel
    from nibabel.imageglobals import LoggingOutputSuppressor

    with _faults_told(path), LoggingOutputSuppressor():
        image = nibabel.load(path, mmap=False)
    if not isinstance(image, nibabel.Nifti1Image):
        raise _bad(path, f"is a {type(image).__name__}", "save it as a NIfTI volume")
    shape = tuple(int(length) for length in image.shape)
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    size = _size(shape)
    if len(shape) > 3:
        raise _bad(path, f"holds a series of volumes ({size})", "save each as a file of its own")
    if len(shape) < 2 or min(shape) < 1:
        raise _bad(path, f"holds no image ({size or 'no axes'})", "replace it")
    if image.get_data_dtype().kind not in "iuf":
        raise _bad(path, f"has values of type {image.header.get_value_label('datatype')}", "save one number a voxel")
    return image, shape[::-1]


def _check_size(path: Path, shape: tuple[int, ...], max_voxels: int | None) -> None:
    limit = MAX_VOXELS if max_voxels is None else max_voxels
    if math.prod(shape) > limit:
        size = _size(shape[::-1])
        raise _bad(path, f"is too large ({size}, more than {limit} voxels)", "cut it up, or set max_pixels")


@contextmanager
def _faults_told(path: Path) -> Iterator[None]:
    """What nibabel raises of a file, in one line."""
    try:
        yield
    except FileNotFoundError:
        raise _bad(path, "does not exist", "put the file there") from None
    except Exception as error:  # a damaged file makes decoders raise nearly anything
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise _bad(path, f"cannot be read as NIfTI ({reason})", "replace it") from error


def _finite(path: Path, values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    wrong = values.size - int(np.isfinite(values).sum())
    if wrong:
        raise _bad(path, f"has {wrong} voxel{'s' if wrong > 1 else ''} of NaN or infinite value", "replace them")
    return values


def _spacing(image: Any, axes: int) -> tuple[float, ...] | None:
    """Millimetres along each of our axes, by the affine; where no unit of length is named it is the millimetre."""
    from nibabel.affines import voxel_sizes

    factor = _MILLIMETRES.get(int(image.header["xyzt_units"]) & 7, 1.0)
    spacing = tuple(float(size) * factor for size in voxel_sizes(image.affine)[:axes])[::-1]
    return spacing if all(math.isfinite(size) and size > 0 for size in spacing) else None


def _replaced(volume: _Volume, wanted: npt.NDArray[np.float32]) -> Array:
    """The stored values with those replaced where a value of `wanted` is another than the file's."""
    clean = volume.values()
    changed = wanted != clean
    stored, values = volume.stored.copy(), wanted[changed].astype(np.float64)
    if not np.isfinite(values).all():
        raise InputError(f"values for {printable(volume.path)} are NaN or infinite: cannot be stored")
    dtype = stored.dtype
    if volume.whole:
        steps = np.rint((values - clean[changed]) / volume.slope)
        new, limits = stored[changed].astype(np.int64) + steps.astype(np.int64), np.iinfo(dtype)
        fits = (new >= limits.min) & (new <= limits.max)
    else:
        with np.errstate(over="ignore"):
            new = ((values - volume.intercept) / volume.slope).astype(dtype)
        fits = np.isfinite(new)
    if not fits.all():
        raise InputError(
            f"the value {values[~fits][0]:g} does not fit into the {dtype.name} of {printable(volume.path)}: set bounds"
        )
    stored[changed] = new
    return stored


def _head(volume: _Volume, changed: bool, deidentify: bool) -> bytes:
    """All that lies before the voxels, with its texts as they may be told."""
    header, head = volume.image.header, bytearray(volume.head)
    fields = header.structarr.dtype.fields
    description = header["descrip"].item()
    if deidentify:
        for name in _FREE_TEXT:
            if name in fields:
                _put(head, fields[name], b"")
        description = b""
        beyond = header.structarr.dtype.itemsize
        head[beyond:] = bytes(len(head) - beyond)  # an empty flag of extensions: there are none
    if changed:
        room = fields["descrip"][0].itemsize - len(DESCRIPTION) - len(b"; ")
        description = b"; ".join(text for text in (description[:room], DESCRIPTION) if text)
    _put(head, fields["descrip"], description)
    return bytes(head)


def _put(head: bytearray, field: Any, text: bytes) -> None:
    dtype, place = field[:2]
    head[place : place + dtype.itemsize] = text.ljust(dtype.itemsize, b"\0")


def _size(lengths: tuple[int, ...]) -> str:
    return " × ".join(map(str, lengths))


def _bad(path: Path, fault: str, remedy: str) -> BadSampleError:
    return BadSampleError(f"{printable(path)} {fault}: {remedy}")
