"""An attacked image as DICOM: its source's header, its own pixels, and words that keep it from passing for a patient's.

Written as Explicit VR Little Endian, uncompressed, whatever the source was. Where the attack left a value as it is, the
stored number is the source's, bit for bit.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from medrobust._version import __version__
from medrobust.data.dicom import DicomImage, load, patient_of
from medrobust.data.dicom_files import bad, reading
from medrobust.data.dicom_identity import deidentify as remove_identity
from medrobust.data.dicom_pixels import Array
from medrobust.data.dicom_save import new_folder, save, writing
from medrobust.data.dicom_series import multi_frame_file
from medrobust.data.dicom_slices import series_slices
from medrobust.errors import MedrobustWarning

ADVERSARIAL, CLEAN = "ADVERSARIAL", "CLEAN COPY"
PERTURBED = f"Adversarially perturbed by medrobust {__version__}: not a patient's image, not for diagnostic use"
COPIED = f"Copied by medrobust {__version__} beside adversarial images: pixels unchanged, not for diagnostic use"
_DESCRIPTION_LENGTH, _TEXT_LENGTH = 64, 1024  # of LO and ST; PS3.5, section 6.2
# What no longer holds of the pixels, or told how they were stored
_STALE = [
    *("SmallestImagePixelValue", "LargestImagePixelValue", "IconImageSequence", "DataSetTrailingPadding"),
    *("DigitalSignaturesSequence", "MACParametersSequence"),
    *("ExtendedOffsetTable", "ExtendedOffsetTableLengths", "EncapsulatedPixelDataValueTotalLength"),
]
_PALETTE = [
    f"{prefix}{colour}PaletteColorLookupTable{part}"
    for prefix, parts in (("", ("Descriptor", "Data")), ("Segmented", ("Data",)))
    for colour in ("Red", "Green", "Blue")
    for part in parts
] + ["PaletteColorLookupTableUID"]


def write_dicom(source: Path, pixels: Tensor, target: Path, *, deidentify: bool) -> None:
    """Write attacked pixels with the header of the file they come from.

    The result has a new SOP instance UID and series UID, made from the source's and the pixels, so that the same image
    has the same UIDs; ImageType DERIVED; a derivation description and a series description that say what it is: an
    adversarial image, or the copy of a clean one where no pixel was changed. It appears under its name only when all is
    written. Multi-frame files stay one file; colour becomes RGB.

    Args:
        source: the DICOM file that was read.
        pixels: as `read_dicom` gives them, in data units.
        target: the file to write.
        deidentify: leave out who the patient is; see `medrobust.data.dicom_identity.deidentify`.

    Raises:
        BadSampleError: the source cannot be read, the pixels are of another shape or not finite, or a value is one
            that the bits stored cannot hold.
        InputError: the target cannot be written.
    """
    image = load(source)
    stored = restored(image, pixels, source)
    series = _new_uid(image.dataset.get("SeriesInstanceUID", ""), [stored])
    dataset = _prepared(image, stored, series, deidentify, source, changed=_differ(image, stored))
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        save(dataset, target)


def write_series(source: Path, pixels: Tensor, target: Path, *, deidentify: bool) -> None:
    """Write an attacked volume as a new folder with one file for each slice of the series in `source`.

    Files keep their names; with `deidentify` they are slice_0001.dcm and so on, from the lowest place along the slice
    normal. The slices share one new series UID. Else as `write_dicom`.

    Raises:
        BadSampleError: as for `write_dicom`.
        InputError: the target exists and is not empty, or cannot be written.
    """
    alone = multi_frame_file(source)
    files: Sequence[Path] = (alone,) if alone else series_slices(source).files
    if not alone and (pixels.ndim != 4 or pixels.shape[1] != len(files)):
        raise bad(source, f"has {len(files)} slices, the pixels are {tuple(pixels.shape)}", "give pixels of its shape")
    images = [load(file) for file in files]
    parts = [pixels] if alone else list(pixels.unbind(1))
    stored = [restored(image, part, file) for image, part, file in zip(images, parts, files, strict=True)]
    changed = any(_differ(image, numbers) for image, numbers in zip(images, stored, strict=True))
    series = _new_uid(images[0].dataset.get("SeriesInstanceUID", ""), stored)
    with writing(target), new_folder(target) as unfinished:
        for place, (image, numbers, file) in enumerate(zip(images, stored, files, strict=True), start=1):
            name = f"slice_{place:04d}.dcm" if deidentify else file.name
            save(_prepared(image, numbers, series, deidentify, file, changed), unfinished / name)


def restored(image: DicomImage, pixels: Tensor, path: Path) -> Array:
    """The numbers to store: `(N, H, W)` or `(N, H, W, 3)` in the file's order, of the source's type.

    Raises:
        BadSampleError: the pixels are of another shape, not finite, or outside of what can be stored.
    """
    before = image.pixels()
    if pixels.shape != before.shape:
        shapes = f"{tuple(before.shape)}, not {tuple(pixels.shape)}"
        raise bad(path, f"has pixels of shape {shapes}", "give pixels of its shape")
    if not pixels.isfinite().all():
        raise bad(path, "would get pixels that are not finite", "give finite ones")
    stored = image.decoded.stored.copy()
    after = pixels.detach().cpu().float()
    for place, frame in enumerate(image.order):
        changed, values = (
            np.moveaxis(part[:, place].numpy() if image.is_volume else part.numpy(), 0, -1)
            for part in (after != before, after)
        )
        if not image.decoded.is_colour:
            changed, values = changed[..., 0], values[..., 0]
        numbers = image.decoded.values.to_stored(values[changed], frame)
        stored[frame][changed] = _within_range(numbers, values[changed], image, path)
    return stored


def _within_range(numbers: Array, values: Array, image: DicomImage, path: Path) -> Array:
    """The numbers for values in data units, if the bits stored can hold them."""
    ends, bounds = image.decoded.values.ends, image.decoded.values.bounds
    if ends is None or bounds is None:
        return numbers
    lowest, highest = map(np.float32, bounds)  # of 32 bits, no float32 is the highest number itself
    outside = (numbers < ends[0]) | (numbers > ends[1])
    if (outside & ((values < lowest) | (values > highest))).any():
        fault = f"would get values outside {bounds[0]:g} to {bounds[1]:g}, all that its {image.decoded.bits} bits hold"
        raise bad(path, fault, "keep the attack within these bounds")
    return numbers.clip(*ends)


def _differ(image: DicomImage, stored: Array) -> bool:
    return not np.array_equal(image.decoded.stored, stored)


def _prepared(image: DicomImage, stored: Array, series: str, deidentify: bool, path: Path, changed: bool) -> Any:
    """The source's dataset, changed in place, with new pixels and what must be said of them."""
    dataset = image.dataset
    with reading(path):
        list(dataset.iterall())  # parses every element, while its encoding is that of the source
        instance = _new_uid(dataset.get("SOPInstanceUID", ""), [stored])
        _swap_words(dataset)
        _put_pixels(dataset, stored, image)
        if deidentify:
            remove_identity(dataset, patient_of(dataset))
        _mark(dataset, *((ADVERSARIAL, PERTURBED) if changed else (CLEAN, COPIED)))
        dataset.SOPInstanceUID, dataset.SeriesInstanceUID = instance, series
    if deidentify:
        _warn_of_writing(dataset)
    return dataset


def _put_pixels(dataset: Any, stored: Array, image: DicomImage) -> None:
    _remove(dataset, _STALE)
    _remove_embedded_overlays(dataset)
    little = stored.astype(stored.dtype.newbyteorder("<"))
    content = little.tobytes()
    content += b"\0" * (len(content) % 2)
    if not image.decoded.bits:
        keyword = "FloatPixelData" if stored.dtype.itemsize == 4 else "DoubleFloatPixelData"
        dataset[keyword].value = content
        return
    dataset.BitsAllocated, dataset.BitsStored = 8 * stored.dtype.itemsize, image.decoded.bits
    dataset.HighBit = dataset.BitsStored - 1
    if image.decoded.is_colour:
        dataset.SamplesPerPixel, dataset.PlanarConfiguration, dataset.PixelRepresentation = 3, 0, 0
        dataset.PhotometricInterpretation = "RGB"
        _remove(dataset, _PALETTE)
    dataset.add_new("PixelData", "OB" if stored.dtype.itemsize == 1 else "OW", content)
    dataset["PixelData"].is_undefined_length = False


def _remove(dataset: Any, keywords: Sequence[str]) -> None:
    for keyword in keywords:
        if keyword in dataset:
            del dataset[keyword]


def _mark(dataset: Any, title: str, derivation: str) -> None:
    """Say, wherever a viewer or an archive may look, that this is no image of a patient."""
    for owner in _with_image_type(dataset):
        for keyword in ("ImageType", "FrameType"):
            if keyword in owner:
                owner[keyword].value = ["DERIVED", *list(owner[keyword].value or ["", "SECONDARY"])[1:]]
    if not dataset.get("ImageType"):
        dataset.ImageType = ["DERIVED", "SECONDARY"]
    earlier = str(dataset.get("DerivationDescription") or "")
    dataset.DerivationDescription = f"{derivation}. Before: {earlier}"[:_TEXT_LENGTH] if earlier else derivation
    dataset.SeriesDescription = f"{title} {dataset.get('SeriesDescription') or ''}".strip()[:_DESCRIPTION_LENGTH]


def _with_image_type(dataset: Any) -> Iterator[Any]:
    """The dataset, and the items in the functional groups of its frames."""
    yield dataset
    for keyword in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        for group in dataset.get(keyword) or ():
            for element in group:
                if element.VR == "SQ":
                    yield from element.value


def _warn_of_writing(dataset: Any) -> None:
    if str(dataset.get("BurnedInAnnotation") or "") == "YES":
        warnings.warn(
            "images say (0028,0301) that writing is burned into their pixels: it stays, and may name the patient",
            MedrobustWarning,
            stacklevel=2,
        )


def _swap_words(dataset: Any) -> None:
    """Bytes of 16-bit words in a big-endian file, which pydicom hands on as they are."""
    if dataset.original_encoding[1] is not False:
        return
    for element in dataset.iterall():
        if element.VR == "OW" and element.value and element.keyword != "PixelData":
            element.value = np.frombuffer(element.value, ">u2").astype("<u2").tobytes()


def _remove_embedded_overlays(dataset: Any) -> None:
    """Overlays in the bits of a pixel that are not stored: they were masked."""
    for group in range(0x6000, 0x6020, 2):
        if (group, 0x0010) in dataset and (group, 0x3000) not in dataset:
            for element in list(dataset.group_dataset(group)):
                del dataset[element.tag]


def _new_uid(source: str, stored: Sequence[Array]) -> str:
    from pydicom.uid import generate_uid

    digest = hashlib.sha256()
    for numbers in stored:
        digest.update(numbers.tobytes())
    return str(generate_uid(entropy_srcs=[str(source), digest.hexdigest()]))
