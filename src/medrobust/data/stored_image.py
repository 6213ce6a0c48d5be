"""What an image file holds, and what a kind of image file must be able to do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, Protocol

from torch import Tensor

from medrobust.data.window import Window, apply_window
from medrobust.errors import BadSampleError

UNIT_INTERVAL = "[0, 1]"

# the plane of a slice across each axis of (D, H, W), where the file does not say otherwise
USUAL_PLANES = ("axial", "coronal", "sagittal")


@dataclass(frozen=True)
class StoredImage:
    """What an image file holds.

    Attributes:
        pixels: `(C, *spatial)` float32 in data units; spatial is (H, W) or (D, H, W).
        unit: "[0, 1]", "HU", or "stored" where the file names none.
        spacing: millimetres from one pixel (voxel) to the next along each spatial axis, if known.
        quantum: step between the values the file can hold, in data units; None when it holds floats, or is of a kind
            that is not written back.
        patient: identity, if the file names one.
        bounds: lowest and highest value that the file can hold, in data units, if it is of a kind that tells.
        window: level and width of the grey levels that the file asks to be shown, in data units, if it does.
        columns: what its header tells that images may be grouped by.
    """

    pixels: Tensor
    unit: str = "[0, 1]"
    spacing: tuple[float, ...] | None = None
    quantum: float | None = None
    patient: str | None = None
    bounds: tuple[float, float] | None = None
    window: Window | None = None
    columns: Mapping[str, str] = field(default_factory=dict)

    def shown(self, window: Window | Literal["file"] | None, name: str) -> StoredImage:
        """The image through a window, in [0, 1]; as it is without one, or where its values are in [0, 1] already.

        Raises:
            BadSampleError: the file `name` is to be shown through its own window, and names none.
        """
        if window is None or self.unit == UNIT_INTERVAL:
            return self
        chosen = self.window if window == "file" else window
        if chosen is None:
            raise BadSampleError(f"{name} names no window: set window to a level and a width")
        pixels = apply_window(self.pixels, chosen)
        return replace(self, pixels=pixels, unit=UNIT_INTERVAL, quantum=None, bounds=None, window=None)


@dataclass(frozen=True)
class Outline:
    """What is known of an image without its pixels.

    Attributes:
        shape: (H, W) or (D, H, W).
        planes: "axial", "coronal" or "sagittal" for each axis of (D, H, W): the plane of a slice across it.
    """

    shape: tuple[int, ...]
    planes: tuple[str, ...] = USUAL_PLANES


class Writer(Protocol):
    """Writes an image back as its source is stored."""

    def __call__(self, source: Path, pixels: Tensor, target: Path, *, deidentify: bool) -> None:
        """Write `(C, *spatial)` in data units to the new path `target`, as `source` is stored, with its header.

        A value that `pixels` leaves as it is in the source is stored as it is there, bit by bit. `deidentify` leaves
        out of the header what may name a patient.

        Raises:
            InputError: a value cannot be stored so.
        """
        ...


@dataclass(frozen=True)
class FileType:
    """One kind of image file.

    Attributes:
        matches: is this path (a file, or a folder that is one image) of this kind? By its name, or its first bytes.
        read: `read(path, max_pixels)` reads it; refuses more pixels (voxels) than that, or than is usual for this kind
            when None; raises `BadSampleError` naming the file.
        read_mask: as `read`, as class indices, `(*spatial)` int64.
        suffixes: what the names of such files end with, in small letters, a longer one before its own end.
        write: see `Writer`; None when this kind is not written back.
        suffix: of a file written back, for a source: ".nii.gz", ".dcm", or "" when it is a folder.
        outline: as `read`, without its pixels; None where only reading them tells.
        read_mask_on: `read_mask_on(mask, image, max_pixels)` is `read_mask` on the pixels of the mask's image, for
            kinds of mask that may leave some out.
        check_mask: `check_mask(image, mask)` raises `BadSampleError` when two files of this kind and of one shape do
            not lie in the same place.
    """

    matches: Callable[[Path], bool]
    read: Callable[[Path, int | None], StoredImage]
    read_mask: Callable[[Path, int | None], Tensor]
    suffixes: tuple[str, ...] = ()
    write: Writer | None = None
    suffix: Callable[[Path], str] = lambda source: source.suffix
    outline: Callable[[Path, int | None], Outline] | None = None
    read_mask_on: Callable[[Path, Path, int | None], Tensor] | None = None
    check_mask: Callable[[Path, Path], None] | None = None
