"""What the stored numbers of a DICOM image mean in data units, and the way back: rescale, lookup table, MONOCHROME1.

Source: DICOM PS3.3, C.11.1 (modality LUT), C.7.6.3.1.2 (photometric interpretation), C.7.6.16.2.9 (per frame).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medrobust.data.dicom_files import bad, tag_name

Array = npt.NDArray[Any]

_TABLE_BITS = 16  # of the input of a lookup table
# Modalities whose values are measured quantities, to which MONOCHROME1 is a matter of display alone.
_MEASURED = frozenset({"CT", "PT", "NM", "RTDOSE"})
# Classic, enhanced, and legacy converted enhanced
_CT_STORAGE = frozenset({f"1.2.840.10008.5.1.4.1.1.2{kind}" for kind in ("", ".1", ".2")})


@dataclass(frozen=True)
class Values:
    """Between stored numbers and data units, for the frames of one image.

    Attributes:
        slope: of each frame, or one for all.
        intercept: likewise.
        ends: lowest and highest number that the bits stored can hold; None for floating-point pixels.
        turned: value' = lo + hi − value over the bounds, so that bright is dense (MONOCHROME1).
        table: value of each number from `ends[0]` on (a modality LUT), in place of slope and intercept.
    """

    slope: tuple[float, ...]
    intercept: tuple[float, ...]
    ends: tuple[int, int] | None
    turned: bool = False
    table: Array | None = None

    @property
    def bounds(self) -> tuple[float, float] | None:
        """Lowest and highest value that can be stored, in data units."""
        if self.table is not None:
            return float(self.table.min()), float(self.table.max())
        if self.ends is None:
            return None
        values = [s * end + i for s, i in zip(self.slope, self.intercept, strict=True) for end in self.ends]
        return min(values), max(values)

    @property
    def quantum(self) -> float | None:
        """Step between values in data units, where there is one for all."""
        if self.table is not None or self.ends is None or len(set(self.slope)) > 1:
            return None
        return abs(self.slope[0])

    def to_data(self, stored: Array, frame: int = 0) -> Array:
        """Stored numbers of one frame in data units, float32."""
        if self.table is not None and self.ends is not None:
            values = self.table[stored.astype(np.int64) - self.ends[0]]
        else:
            slope, intercept = self._of(frame)
            values = stored.astype(np.float64) * slope + intercept
        return self._turn(values).astype(np.float32)

    def to_stored(self, values: Array, frame: int = 0) -> Array:
        """The nearest stored numbers to values in data units; int64, or float64 for floating-point pixels.

        They may lie outside `ends`: check before casting.
        """
        values = self._turn(values.astype(np.float64))
        if self.table is not None and self.ends is not None:
            return self.ends[0] + _nearest(self.table, values)
        slope, intercept = self._of(frame)
        stored = (values - intercept) / slope
        return stored if self.ends is None else stored.round().astype(np.int64)

    def _of(self, frame: int) -> tuple[float, float]:
        return self.slope[frame % len(self.slope)], self.intercept[frame % len(self.intercept)]

    def _turn(self, values: Array) -> Array:
        if not self.turned or self.bounds is None:
            return values
        return sum(self.bounds) - values


def colour_values(bits: int) -> Values:
    """Of colour with so many bits a channel: [0, 1]."""
    highest = 2**bits - 1
    return Values((1 / highest,), (0.0,), (0, highest))


def grey_values(dataset: Any, bits: int, path: Path) -> Values:
    """What the dataset says of the meaning of its grey values; `bits` are stored in each, 0 for floating point.

    Raises:
        BadSampleError: the rescale slope is 0, or slope or intercept no finite number.
    """
    ends = _ends(dataset, bits)
    turned = dataset.get("PhotometricInterpretation") == "MONOCHROME1" and not _is_measured(dataset)
    if "ModalityLUTSequence" in dataset and ends is not None:
        return Values((1.0,), (0.0,), ends, turned, _lookup_table(dataset, ends, bits, path))
    pairs = [_rescale(group, path) for group in transformations(dataset)] or [_rescale(dataset, path)]
    if len(set(pairs)) == 1:
        pairs = pairs[:1]
    slopes, intercepts = zip(*pairs, strict=True)
    return Values(slopes, intercepts, ends, turned)


def unit_of(dataset: Any) -> str:
    """Hounsfield units ("HU") where the file says so, or is of a CT with its rescale; else "stored"."""
    given: Sequence[Any] = transformations(dataset) or [dataset]
    kinds = {str(group.get("RescaleType") or "") for group in given}
    rescaled = all(group.get("RescaleSlope") is not None for group in given)
    if kinds == {"HU"}:
        return "HU"
    return "HU" if kinds == {""} and rescaled and _is_ct(dataset) else "stored"


def transformations(dataset: Any) -> list[Any]:
    """The pixel value transformation of each frame, for files with functional groups; else an empty list."""
    groups = functional_groups(dataset, "PixelValueTransformationSequence")
    return [group for group in groups if group is not None] if all(groups) else []


def functional_groups(dataset: Any, keyword: str) -> list[Any]:
    """The first item of a functional group macro for each frame: its own, or the shared one; None where there is none.

    An empty list for a file without functional groups. PS3.3, C.7.6.16.
    """
    shared = dataset.get("SharedFunctionalGroupsSequence") or [{}]
    return [
        (frame.get(keyword) or shared[0].get(keyword) or [None])[0]
        for frame in dataset.get("PerFrameFunctionalGroupsSequence") or ()
    ]


def _is_ct(dataset: Any) -> bool:
    return dataset.get("Modality") == "CT" or dataset.get("SOPClassUID") in _CT_STORAGE


def _is_measured(dataset: Any) -> bool:
    return unit_of(dataset) == "HU" or _is_ct(dataset) or dataset.get("Modality") in _MEASURED


def _ends(dataset: Any, bits: int) -> tuple[int, int] | None:
    if not bits:
        return None
    return (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if dataset.PixelRepresentation else (0, 2**bits - 1)


def _rescale(group: Any, path: Path) -> tuple[float, float]:
    pair = []
    for keyword, default in (("RescaleSlope", 1.0), ("RescaleIntercept", 0.0)):
        value = group.get(keyword)
        number = default if value is None or value == "" else float(value)
        if not math.isfinite(number) or (keyword == "RescaleSlope" and number == 0):
            raise bad(path, f"has {tag_name(keyword)} {number:g}", "mend it, or leave the file out")
        pair.append(number)
    return pair[0], pair[1]


def _lookup_table(dataset: Any, ends: tuple[int, int], bits: int, path: Path) -> Array:
    from pydicom.pixels import apply_modality_lut

    if bits > _TABLE_BITS:
        raise bad(path, f"has a {tag_name('ModalityLUTSequence')} for {bits}-bit pixels", "leave the file out")
    table: Array = apply_modality_lut(np.arange(ends[0], ends[1] + 1), dataset)
    return table.astype(np.float64)


def _nearest(table: Array, values: Array) -> Array:
    """The place in the table of the entry nearest to each value."""
    order = np.argsort(table, kind="stable")
    rising = table[order]
    above = np.searchsorted(rising, values).clip(1, len(rising) - 1)
    nearer = above - (values - rising[above - 1] <= rising[above] - values)
    places: Array = order[nearer]
    return places
