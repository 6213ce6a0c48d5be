"""The stored numbers of a DICOM file, decoded from whatever transfer syntax it is in, and checked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medrobust.data.dicom_files import bad, is_segmentation, reading, reason, tag_name
from medrobust.data.dicom_values import Values, colour_values, grey_values

Array = npt.NDArray[Any]

MAX_PIXELS, MAX_VOXELS = 2**26, 2**30  # of a frame (slice), and of all frames: as float32 0.3 and 4 GB

_PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
_REQUIRED = ("Rows", "Columns", "BitsAllocated", "BitsStored", "SamplesPerPixel", "PhotometricInterpretation")
_GREY = ("MONOCHROME1", "MONOCHROME2")


@dataclass(frozen=True)
class Decoded:
    """The pixels of one file.

    Attributes:
        stored: `(N, H, W)`, or `(N, H, W, 3)` of RGB: the numbers of each frame, in the file's order.
        values: what they mean.
        bits: stored in each number; 0 for floating point.
    """

    stored: Array
    values: Values
    bits: int

    @property
    def is_colour(self) -> bool:
        """Is it RGB?"""
        return self.stored.ndim == 4


def check_image(dataset: Any, path: Path, max_pixels: int | None) -> None:
    """Refuse what is no image, or too large a one, before it is decoded.

    Raises:
        BadSampleError: so.
    """
    kind = dataset.get("SOPClassUID")
    named = f"{getattr(kind, 'name', kind)}" if kind else "a DICOM file"
    if is_segmentation(dataset):
        raise bad(path, f"is {named}, no image", "give it as the mask of one")
    if not any(keyword in dataset for keyword in _PIXELS):
        fault = f"has no {tag_name('PixelData')} ({named})"
        raise bad(path, fault, "give an image, or copy the file again if it is cut off")
    for keyword in _REQUIRED if "PixelData" in dataset else ("Rows", "Columns"):
        if dataset.get(keyword) is None:
            raise bad(path, f"has no {tag_name(keyword)}", "mend it, or leave the file out")
    if "PixelData" in dataset and dataset.get("PixelRepresentation") not in (0, 1):
        raise bad(path, f"has no valid {tag_name('PixelRepresentation')}", "mend it, or leave the file out")
    check_size(dataset.Rows, dataset.Columns, frame_count(dataset, path), path, max_pixels)


def check_size(rows: int, columns: int, frames: int, path: Path, max_pixels: int | None) -> None:
    """Raise `BadSampleError` for an image without pixels, or of more than `max_pixels`, or than is usual."""
    largest_frame, largest = max_pixels or MAX_PIXELS, max_pixels or MAX_VOXELS
    if rows < 1 or columns < 1:
        raise bad(path, f"has {rows} rows and {columns} columns", "mend it, or leave the file out")
    if rows * columns > largest_frame:
        size = f"is too large ({columns} × {rows}, more than {largest_frame} pixels)"
        raise bad(path, size, "save it smaller or cut it up")
    if rows * columns * frames > largest:
        size = f"is too large ({frames} × {rows} × {columns}, more than {largest} voxels)"
        raise bad(path, size, "save it smaller or cut it up")


def frame_count(dataset: Any, path: Path) -> int:
    """How many frames the file says to hold."""
    value = None
    try:
        value = dataset.get("NumberOfFrames")
        count = 1 if value in (None, "") else int(value)
    except (TypeError, ValueError):
        count = 0
    if count < 1:
        raise bad(path, f"has {tag_name('NumberOfFrames')} {str(value)!r}", "mend it, or leave the file out")
    return count


def decode(dataset: Any, path: Path) -> Decoded:
    """Decode the pixels of a dataset that passed `check_image`.

    Raises:
        BadSampleError: the codec is missing, or the pixels are damaged, cut off or not finite.
    """
    syntax = _check_codec(dataset, path)
    with reading(path):
        from pydicom.pixels import apply_color_lut, pixel_array

        frames = frame_count(dataset, path)
        interpretation = str(dataset.get("PhotometricInterpretation", "MONOCHROME2"))
        shift = _bits_above(dataset, syntax)
        try:
            stored = pixel_array(dataset, correct_unused_bits=not shift)
        except Exception as error:
            raise _undecodable(path, syntax, error) from error
        if shift:
            stored = _cut_bits(stored, shift, dataset.BitsStored)
        if interpretation == "PALETTE COLOR":
            stored = apply_color_lut(stored, dataset)
        stored = np.ascontiguousarray(stored).astype(stored.dtype.newbyteorder("="), copy=False)
        colour = stored.ndim > 2 and stored.shape[-1] == 3 and interpretation not in _GREY
        if not colour and interpretation not in _GREY:
            raise bad(path, f"has {tag_name('PhotometricInterpretation')} {interpretation}", "save it as grey or RGB")
        stored = stored.reshape(frames, *stored.shape[-3 if colour else -2 :])
        return _colour(stored, dataset) if colour else _grey(stored, dataset, path)


def _colour(stored: Array, dataset: Any) -> Decoded:
    bits = 8 * stored.dtype.itemsize
    if dataset.PhotometricInterpretation != "PALETTE COLOR":
        bits = dataset.BitsStored if stored.max() < 2**dataset.BitsStored else bits
    elif bits == 16 and not (stored & 0xFF).any():  # palettes often hold 8 bits as the high byte of 16
        stored, bits = (stored >> 8).astype(np.uint8), 8
    return Decoded(stored, colour_values(bits), bits)


def _grey(stored: Array, dataset: Any, path: Path) -> Decoded:
    if stored.dtype.kind == "f":
        if not np.isfinite(stored).all():
            raise bad(path, "has pixels that are not finite", "replace them")
        return Decoded(stored, grey_values(dataset, 0, path), 0)
    values = grey_values(dataset, dataset.BitsStored, path)
    bits = dataset.BitsStored
    if values.ends is not None and not (values.ends[0] <= stored.min() and stored.max() <= values.ends[1]):
        bits = 8 * stored.dtype.itemsize  # a codec's numbers that BitsStored does not tell
        values = grey_values(dataset, bits, path)
    return Decoded(stored, values, bits)


def _check_codec(dataset: Any, path: Path) -> Any:
    from pydicom.pixels import get_decoder

    syntax = dataset.file_meta.get("TransferSyntaxUID")
    if syntax is None:
        raise bad(path, f"has no {tag_name('TransferSyntaxUID')}", "save it again as DICOM with its file header")
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError:
        raise bad(path, f"is stored as {syntax.name}, which cannot be decoded", "save it uncompressed") from None
    if not decoder.is_available:
        raise bad(path, f"is compressed as {syntax.name}, whose codec is missing", "pip install 'medrobust[dicom]'")
    return syntax


def _undecodable(path: Path, syntax: Any, error: Exception) -> Exception:
    said = str(error)
    if "less than expected" in said or "fewer bytes" in said:
        return bad(path, f"has its {tag_name('PixelData')} cut off", "copy the file again")
    if "12-bit precision" in said:
        return bad(
            path, f"is compressed as {syntax.name} with 12 bits, which no codec here reads", "save it uncompressed"
        )
    return bad(path, f"has pixels that cannot be decoded as {syntax.name} ({reason(error)})", "replace it")


def _bits_above(dataset: Any, syntax: Any) -> int:
    """How many unused bits lie below the lowest one stored: those of an uncompressed file whose high bit is higher."""
    if "PixelData" not in dataset or syntax.is_encapsulated or dataset.get("HighBit") is None:
        return 0
    return int(max(0, min(dataset.HighBit, dataset.BitsAllocated - 1) + 1 - dataset.BitsStored))


def _cut_bits(stored: Array, below: int, bits: int) -> Array:
    """The bits stored out of each number, with the sign of the highest; PS3.5, section 8.1.1."""
    above = 8 * stored.dtype.itemsize - bits - below
    return (stored << above) >> (above + below)
