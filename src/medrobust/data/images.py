"""One image or mask file to a tensor: PNG, JPEG or TIFF, 8 or 16 bit, or float TIFF within [0, 1].

What cannot be read faithfully is refused: no value is clipped, rounded or reduced to fewer bits.
"""

from __future__ import annotations

import io
import os
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from medrobust.data import png16
from medrobust.errors import BadSampleError

Array = npt.NDArray[Any]

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff"})
MAX_PIXELS = 2**26  # 8192 × 8192: as three float32 channels 0.8 GB, and below the size Pillow warns of

_FORMATS = ("PNG", "JPEG", "TIFF")
_PILLOW = threading.Lock()
# Pillow's modes, and what each is converted to first; a mode that is not listed is refused.
_IMAGE_MODES = {
    **{mode: mode for mode in ("L", "LA", "RGB", "RGBA", "I", "I;16", "I;16B", "F")},
    **{"1": "L", "P": "RGB", "PA": "RGB", "RGBX": "RGB"},
}
_MASK_MODES = {**_IMAGE_MODES, "1": "1", "P": "P"}  # a mask's palette only colours its class indices
_SIXTEEN_BIT = ("I;16", "I;16B")
_LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601

_BITS_PER_SAMPLE, _PHOTOMETRIC, _WHITE_IS_ZERO = 258, 262, 0  # TIFF 6.0, section 8
_SAMPLE_FORMAT, _SIGNED = 339, 2  # ibid. section 19
_ALPHA = (1, 2)  # kinds of ExtraSamples, ibid. section 18


def is_image(path: Path) -> bool:
    """Does the name look like an image's? Files that begin with a dot are the file system's own."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def printable(path: str | Path) -> str:
    """The path as text that can be printed and stored, also where its bytes are not UTF-8."""
    text = os.fspath(path)
    try:
        return os.fsencode(text).decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # no file has such a name, but an option may
        return text.encode("utf-8", "backslashreplace").decode()


def read_image(path: Path, max_pixels: int | None = None) -> Tensor:
    """Read an image file.

    8-bit values are divided by 255, 16-bit values by 65535; an alpha channel is dropped; palette images
    become RGB.

    Returns:
        `(C, H, W)` float32 in [0, 1], C = 1 or 3.

    Raises:
        BadSampleError: the file is missing, damaged, larger than `max_pixels` (`MAX_PIXELS` when None), of another
            kind, or has float values outside [0, 1].
    """
    pixels = _without_alpha(_decode(path, _IMAGE_MODES, max_pixels))
    if np.issubdtype(pixels.dtype, np.floating):
        _check_range(pixels, path)
        scaled = pixels.astype(np.float32)
    elif pixels.dtype in (np.uint8, np.uint16):
        scaled = pixels.astype(np.float32) / np.float32(np.iinfo(pixels.dtype).max)
    else:
        raise _bad(path, f"has {pixels.dtype} values", "save it with 8 or 16 unsigned bits, or as float in [0, 1]")
    return torch.from_numpy(np.ascontiguousarray(scaled.transpose(2, 0, 1)))


def read_mask(path: Path, max_pixels: int | None = None) -> Tensor:
    """Read a mask file as the integers stored in it; a palette image gives its indices.

    Returns:
        `(H, W)` int64.

    Raises:
        BadSampleError: as for `read_image`, or the mask is coloured or not of integers.
    """
    pixels = _without_alpha(_decode(path, _MASK_MODES, max_pixels))
    if pixels.dtype.kind not in "bui":
        raise _bad(path, f"has {pixels.dtype} values", "save the mask with integer class indices")
    if (pixels != pixels[..., :1]).any():
        raise _bad(path, "is a coloured mask", "save class indices in one channel")
    return torch.from_numpy(pixels[..., 0].astype(np.int64))


def with_channels(image: Tensor, channels: int) -> Tensor:
    """Give a `(1 or 3, *spatial)` image the wanted channels: grey is repeated, RGB weighted (BT.601)."""
    if len(image) == channels:
        return image
    if channels == 3:
        return image.expand(3, *image.shape[1:]).contiguous()
    if (image == image[:1]).all():
        return image[:1].clone()
    grey = np.tensordot(_LUMA, image.numpy().astype(np.float64), axes=1)
    return torch.from_numpy(grey.astype(np.float32))[None]


def resize(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize a `(C, H, W)` image, or every slice of a `(C, D, H, W)` one, to `size` = (height, width).

    Bilinear with antialiasing.
    """
    if tuple(image.shape[-2:]) == size:
        return image
    slices = image.reshape(1, -1, *image.shape[-2:])
    resized = F.interpolate(slices, size, mode="bilinear", antialias=True, align_corners=False)
    resized = resized.reshape(*image.shape[:-2], *size)
    # a weighted mean lies between the extremes; rounding in its weights may step over them
    return resized.clamp(image.min(), image.max())


def resize_mask(mask: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize a `(H, W)` int64 mask, or every slice of a `(D, H, W)` one, to `size` by the nearest pixel."""
    sides = zip(mask.shape[-2:], size, strict=True)
    height, width = (((torch.arange(new) + 0.5) * old / new).long() for old, new in sides)
    return mask[..., height, :][..., width]


def _decode(path: Path, modes: Mapping[str, str], max_pixels: int | None) -> Array:
    """`(H, W, 1 to 4)` bool, unsigned or float as stored."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise _bad(path, "does not exist", "put the file there") from None
    except OSError as error:
        raise _bad(path, f"cannot be opened ({error.strerror})", "mend its permissions or replace it") from None
    limit = MAX_PIXELS if max_pixels is None else max_pixels
    try:
        with _pillow_allows(limit):
            pixels = _decode_bytes(path, content, modes, limit)
    except BadSampleError:
        raise
    except UnidentifiedImageError:
        raise _bad(path, "cannot be read as an image (not PNG, JPEG or TIFF, or damaged)", "replace it") from None
    except Exception as error:  # a damaged file makes decoders raise nearly anything
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise _bad(path, f"cannot be read as an image ({reason})", "replace it") from error
    return pixels[..., None] if pixels.ndim == 2 else pixels


def _decode_bytes(path: Path, content: bytes, modes: Mapping[str, str], limit: int) -> Array:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        warnings.simplefilter("ignore", UserWarning)  # of damaged metadata, which is not used
        try:
            image = Image.open(io.BytesIO(content), formats=_FORMATS)
        except Image.DecompressionBombError:
            raise _too_large(path, "far", limit) from None
        except UnidentifiedImageError:
            if not content.startswith((b"II", b"MM")):
                raise
            return _decode_by_tifffile(path, content, limit)  # e.g. 64-bit floats
        with image:
            if image.width * image.height > limit:
                raise _too_large(path, f"{image.width} × {image.height}", limit)
            if image.format in ("PNG", "TIFF") and getattr(image, "n_frames", 1) > 1:
                raise _several_pages(path)
            if image.format == "PNG" and png16.is_deep(content):
                return png16.decode(content)
            if image.format == "TIFF" and (_is_deep_tiff(image) or _is_signed_tiff(image)):
                return _decode_by_tifffile(path, content, limit)
            if image.mode not in modes:
                raise _bad(path, f"has colour mode {image.mode}", "save it as greyscale or RGB")
            pixels = np.asarray(image if modes[image.mode] == image.mode else image.convert(modes[image.mode]))
            if image.format == "PNG" and image.mode == "I":  # how older Pillows give 16-bit greyscale
                return pixels.astype(np.uint16)
            if image.mode in _SIXTEEN_BIT:
                return _as_stored(path, image, pixels.astype(np.uint16))
            return pixels


@contextmanager
def _pillow_allows(limit: int) -> Iterator[None]:
    """Pillow has one limit for all images: it is lifted while one is read that may be larger."""
    if limit <= MAX_PIXELS:
        yield
        return
    with _PILLOW:
        usual, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, limit
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = usual


def _is_deep_tiff(image: Image.Image) -> bool:
    """More than 8 bits in more than one channel, which Pillow would cut to 8."""
    bits = _tiff_tag(image, _BITS_PER_SAMPLE, (1,))
    return len(bits) > 1 and max(bits) > 8


def _is_signed_tiff(image: Image.Image) -> bool:
    """8 bits with a sign, which Pillow would drop."""
    return image.mode == "L" and _SIGNED in _tiff_tag(image, _SAMPLE_FORMAT, ())


def _as_stored(path: Path, image: Image.Image, pixels: Array) -> Array:
    """16-bit greyscale, of which Pillow neither turns white-is-zero nor scales 12 bits."""
    if image.format != "TIFF":
        return pixels
    bits = _tiff_tag(image, _BITS_PER_SAMPLE, (1,))[0]
    if bits != 16:
        raise _bad(path, f"has {bits} bits a value", "save it with 8 or 16")
    return 65535 - pixels if _tiff_tag(image, _PHOTOMETRIC, 1) == _WHITE_IS_ZERO else pixels


def _tiff_tag(image: Image.Image, tag: int, default: Any) -> Any:
    return getattr(image, "tag_v2", {}).get(tag, default)


def _decode_by_tifffile(path: Path, content: bytes, limit: int) -> Array:
    import tifffile  # here: few files need it

    with tifffile.TiffFile(io.BytesIO(content)) as file:
        page = file.pages[0]
        if len(file.pages) > 1:
            raise _several_pages(path)
        if page.imagewidth * page.imagelength > limit:
            raise _too_large(path, f"{page.imagewidth} × {page.imagelength}", limit)
        try:
            pixels: Array = page.asarray()
        except ValueError as error:
            if "imagecodecs" not in str(error):
                raise
            compression = getattr(page.compression, "name", page.compression)
            raise _bad(path, f"is compressed with {compression}", "save it uncompressed") from None
        pixels = pixels.transpose(1, 2, 0) if page.axes == "SYX" else pixels
        channels = 1 if pixels.ndim == 2 else pixels.shape[2]
        if channels - len([sample for sample in page.extrasamples if sample in _ALPHA]) not in (1, 3):
            raise _bad(path, f"has {channels} channels", "save it as greyscale or RGB")
        return pixels


def _without_alpha(pixels: Array) -> Array:
    """`(H, W, 1 to 4)` → `(H, W, 1 or 3)`."""
    return pixels[..., : {1: 1, 2: 1, 3: 3, 4: 3}[pixels.shape[2]]]


def _check_range(pixels: Array, path: Path) -> None:
    if not np.isfinite(pixels).all():
        raise _bad(path, "has values that are not finite", "replace them")
    low, high = float(pixels.min()), float(pixels.max())
    if low < 0 or high > 1:
        raise _bad(path, f"has float values from {low:g} to {high:g}, outside [0, 1]", "rescale them to [0, 1]")


def _several_pages(path: Path) -> BadSampleError:
    return _bad(path, "holds several pages", "save each as a file of its own")


def _too_large(path: Path, size: str, limit: int) -> BadSampleError:
    return _bad(path, f"is too large ({size}, more than {limit} pixels)", "save it smaller, or set max_pixels")


def _bad(path: Path, fault: str, remedy: str) -> BadSampleError:
    return BadSampleError(f"{printable(path)} {fault}: {remedy}")
