"""PNG with 16 bits in several channels (PNG specification, ISO/IEC 15948), which Pillow cuts to 8 bits.

Written out here because the other decoder at hand, torchvision's, ends the process on some damaged files.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

_CHANNELS = {0: 1, 2: 3, 4: 2, 6: 4}  # by colour type: grey, RGB, each with alpha


def is_deep(content: bytes) -> bool:
    """Has this PNG 16 bits in more than one channel?"""
    return content[24] == 16 and content[25] != 0  # bit depth and colour type in IHDR


def decode(content: bytes) -> npt.NDArray[np.uint16]:
    """Pixels of a 16-bit PNG, `(H, W, C)`, any alpha channel last.

    Raises:
        ValueError: the file is damaged, or interlaced.
    """
    chunks = list(_chunks(content))
    width, height, _, colour, _, _, interlaced = struct.unpack(">IIBBBBB", chunks[0][1])
    if interlaced:
        raise ValueError("interlaced 16-bit PNG; save it without")
    pixel_bytes = 2 * _CHANNELS[colour]
    length = height * (1 + width * pixel_bytes)
    stream = b"".join(data for kind, data in chunks if kind == b"IDAT")
    stored = zlib.decompressobj().decompress(stream, length)
    if len(stored) < length:
        raise ValueError("truncated")
    lines = np.frombuffer(stored, np.uint8).reshape(height, -1)
    pixels = _unfilter(lines[:, 0], lines[:, 1:].reshape(height, width, pixel_bytes))
    return pixels.view(">u2").astype(np.uint16)


def _chunks(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(kind, data) of each chunk up to the last, checked."""
    place, kind = 8, b""
    while kind != b"IEND":
        length, kind = struct.unpack_from(">I4s", content, place)
        data = content[place + 8 : place + 8 + length]
        (checksum,) = struct.unpack_from(">I", content, place + 8 + length)
        if zlib.crc32(kind + data) != checksum:
            raise ValueError("damaged, a checksum does not fit")
        yield kind, data
        place += 12 + length


def _unfilter(kinds: npt.NDArray[np.uint8], residuals: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Add to each byte what its line's filter predicts of it: `(H,)` and `(H, W, bytes)` → `(H, W, bytes)`.

    A pixel needs those to its left, above, and above left, so all pixels with one x + y go at once.
    """
    height, width, _ = residuals.shape
    if kinds.max() > 4:
        raise ValueError("damaged, unknown line filter")
    done = np.zeros((height + 1, width + 1, residuals.shape[2]), np.int16)  # with an edge of zeros
    for diagonal in range(height + width - 1):
        y = np.arange(max(0, diagonal - width + 1), min(height, diagonal + 1))
        x = diagonal - y
        left, above, corner = done[y + 1, x], done[y, x + 1], done[y, x]
        to_left, to_above, to_corner = abs(above - corner), abs(left - corner), abs(left + above - 2 * corner)
        paeth = np.where(to_above <= to_corner, above, corner)
        paeth = np.where((to_left <= to_above) & (to_left <= to_corner), left, paeth)
        predicted = np.choose(kinds[y, None], [np.int16(0), left, above, (left + above) // 2, paeth])
        done[y + 1, x + 1] = (residuals[y, x] + predicted) & 255
    return np.ascontiguousarray(done[1:, 1:].astype(np.uint8))
