"""Data: labelled medical images, read one by one. `open_dataset` is the way in; a format is one module.

`FORMATS` lists the formats in the order in which they are tried.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import cast

from medrobust.data import csv_table, image_folder, image_masks, medmnist
from medrobust.data.dataset import Dataset, DatasetInfo, InMemoryDataset, Sample, TaskName, stack
from medrobust.data.images import printable
from medrobust.data.options import DataOptions, evenly
from medrobust.errors import BadSampleError, InputError, unknown

__all__ = [
    "FORMATS",
    "BadSampleError",
    "DataOptions",
    "Dataset",
    "DatasetInfo",
    "Format",
    "InMemoryDataset",
    "Sample",
    "TaskName",
    "open_dataset",
    "stack",
]

EMBEDDED = "embedded:"


@dataclass(frozen=True)
class Format:
    """One way that data lie on disk.

    Attributes:
        description: what it looks like, in one line.
        detect: does the path look like it? Cheap: no image is read.
        open: opens it.
        options: names of the `DataOptions` that only some formats know, and this one does.
    """

    description: str
    detect: Callable[[Path, DataOptions], bool]
    open: Callable[[Path, DataOptions], Dataset]
    options: frozenset[str] = frozenset()


FORMATS: dict[str, Format] = {
    "medmnist": Format(
        "a MedMNIST .npz file",
        medmnist.detect,
        medmnist.open_medmnist,
    ),
    "image_masks": Format(
        "a folder with the folders images/ and masks/",
        image_masks.detect,
        image_masks.open_image_masks,
        frozenset({"image_folder", "mask_folder", "mask_suffix", "ignore_index"}),
    ),
    "csv_table": Format(
        "a CSV file of labels (or a folder with one) beside a folder of images, e.g. APTOS 2019",
        csv_table.detect,
        csv_table.open_csv_table,
        frozenset(
            {
                "table",
                "image_column",
                "label_column",
                "patient_column",
                "split_column",
                "image_folder",
                "ignore_index",
            }
        ),
    ),
    "image_folder": Format(
        "a folder with a folder of images for each class",
        image_folder.detect,
        image_folder.open_image_folder,
    ),
}

_EVERY_FORMAT = frozenset({"format", "split", "task", "classes", "resize", "limit", "channels", "skip_bad"})
_EMBEDDED_OPTIONS = frozenset({"split", "limit", "skip_bad"})


def open_dataset(path: str | Path, options: DataOptions | None = None) -> Dataset:
    """Open labelled images without reading more than the first of them.

    Args:
        path: a file or folder in one of the `FORMATS`, or "embedded:tissue", "embedded:level" or
            "embedded:structures".
        options: how to read it; the defaults recognise the format.

    Raises:
        InputError: the path is missing, empty, of no known format, or not as its format says; the message
            says where and what to do. `BadSampleError` if it is about one sample.
    """
    options = options or DataOptions()
    if isinstance(path, str) and path.startswith(EMBEDDED):
        return _open_embedded(path.removeprefix(EMBEDDED), options)
    try:
        place = Path(path).expanduser()
    except RuntimeError as error:  # of ~someone
        raise InputError(f"{printable(path)}: there is no such home folder; check the path") from error
    if options.format != "auto" and options.format not in FORMATS:
        raise unknown("data format", options.format, ["auto", *FORMATS])
    try:
        if not place.exists():
            raise InputError(f"{printable(path)}: there is no such file or folder; check the path")
        name = _recognise(place, options) if options.format == "auto" else options.format
        _check_options(name, options, _EVERY_FORMAT | FORMATS[name].options)
        dataset = FORMATS[name].open(place, options)
    except OSError as error:
        raise InputError(f"{printable(error.filename or path)}: cannot be read ({error.strerror})") from error
    if not len(dataset):
        raise InputError(f"{printable(path)}: the split {options.split!r} is empty; choose another")
    return dataset


def _recognise(path: Path, options: DataOptions) -> str:
    for name, known in FORMATS.items():
        if known.detect(path, options):
            return name
    looked_for = "; ".join(f"{known.description} ({name})" for name, known in FORMATS.items())
    raise InputError(f"{printable(path)}: no known data format; looked for {looked_for}")


def _check_options(source: str, options: DataOptions, known: frozenset[str]) -> None:
    """An option that would have no effect is a mistake to tell, not to pass over."""
    for option in fields(options):
        if option.name not in known and getattr(options, option.name) != option.default:
            raise InputError(f"option {option.name} has no meaning for {source} data; leave it out")


def _open_embedded(name: str, options: DataOptions) -> Dataset:
    from medrobust.data.embedded import EmbeddedName, Split, open_embedded  # here: importing it is slow

    _check_options(EMBEDDED + name, options, _EMBEDDED_OPTIONS)
    dataset = open_embedded(cast("EmbeddedName", name), cast("Split", options.split))
    if options.limit is None:
        return dataset
    chosen = evenly(range(len(dataset)), options.limit)
    return InMemoryDataset(dataset.info, [dataset[index] for index in chosen])
