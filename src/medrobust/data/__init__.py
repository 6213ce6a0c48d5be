"""Data: labelled medical images, read one by one. `open_dataset` is the way in; a format is one module.

`FORMATS` lists the formats in the order in which they are tried.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import cast

from medrobust.data import (
    coco,
    covid_ct,
    csv_table,
    ead,
    image_folder,
    image_masks,
    kvasir,
    manifest,
    medmnist,
    voc,
    yolo,
)
from medrobust.data.dataset import Dataset, DatasetInfo, InMemoryDataset, Sample, TaskName, pad_boxes, stack
from medrobust.data.file_types import is_readable
from medrobust.data.groups import GroupColumn, check_groups
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
    "GroupColumn",
    "InMemoryDataset",
    "Sample",
    "TaskName",
    "open_dataset",
    "pad_boxes",
    "stack",
]

EMBEDDED = "embedded:"
# options of every format whose images are files of their own
_OF_FILES = frozenset(
    {
        *("patient_pattern", "allow_outside", "unit", "bounds", "max_pixels", "slices", "slices_with_truth", "window"),
        "groups",
    }
)


@dataclass(frozen=True)
class Format:
    """One way that data lie on disk.

    Attributes:
        description: what it looks like, in one line.
        detect: does the path look like it? Cheap: no image is read.
        open: opens it.
        options: names of the `DataOptions` that only some formats know, and this one does.
        splits: the names of the splits that the data have; none where everything is one.
    """

    description: str
    detect: Callable[[Path, DataOptions], bool]
    open: Callable[[Path, DataOptions], Dataset]
    options: frozenset[str] = frozenset()
    splits: Callable[[Path, DataOptions], tuple[str, ...]] = lambda path, options: ()  # noqa: ARG005


FORMATS: dict[str, Format] = {
    "medmnist": Format(
        "a MedMNIST .npz file",
        medmnist.detect,
        medmnist.open_medmnist,
        splits=medmnist.splits,
    ),
    "manifest": Format(
        "a CSV manifest (or a folder with one): image, and mask, label or boxes; id, patient, split and others if any",
        manifest.detect,
        manifest.open_manifest,
        _OF_FILES | {"table", "image_folder", "ignore_index"},
        manifest.splits,
    ),
    "covid_ct": Format(
        "COVID-19 CT Lung and Infection Segmentation: COVID-19-CT-Seg_20cases/ and folders of masks",
        covid_ct.detect,
        covid_ct.open_covid_ct,
        _OF_FILES | {"cases", "mask_folder"},
    ),
    "kvasir_seg": Format(
        "Kvasir-SEG: images/, masks/ and kavsir_bboxes.json, for segmentation or detection",
        kvasir.detect,
        kvasir.open_kvasir,
        _OF_FILES,
    ),
    "image_masks": Format(
        "a folder with the folders images/ and masks/",
        image_masks.detect,
        image_masks.open_image_masks,
        _OF_FILES | {"image_folder", "mask_folder", "mask_suffix", "ignore_index"},
        image_masks.splits,
    ),
    "coco": Format(
        "COCO detection JSON: the file, or a folder with annotations/*.json and images",
        coco.detect,
        coco.open_coco,
        _OF_FILES | {"image_folder"},
        coco.splits,
    ),
    "voc": Format(
        "Pascal VOC: Annotations/*.xml, JPEGImages/ and lists in ImageSets/Main/",
        voc.detect,
        voc.open_voc,
        _OF_FILES,
        voc.splits,
    ),
    "ead": Format(
        "Endoscopy Artefact Detection 2019 or 2020: images with a text file of boxes each, and class_list.txt",
        ead.detect,
        ead.open_ead,
        _OF_FILES,
    ),
    "yolo": Format(
        "YOLO text: images/ and labels/ (or .txt beside the images), and data.yaml or a list of classes",
        yolo.detect,
        yolo.open_yolo,
        _OF_FILES,
        yolo.splits,
    ),
    "csv_table": Format(
        "a CSV file of labels (or a folder with one) beside a folder of images, e.g. APTOS 2019",
        csv_table.detect,
        csv_table.open_csv_table,
        _OF_FILES
        | {
            "table",
            "image_column",
            "label_column",
            "patient_column",
            "split_column",
            "image_folder",
            "ignore_index",
        },
        csv_table.splits,
    ),
    "image_folder": Format(
        "a folder with a folder of images for each class",
        image_folder.detect,
        image_folder.open_image_folder,
        _OF_FILES,
        image_folder.splits,
    ),
}

_EVERY_FORMAT = frozenset({"format", "split", "task", "classes", "resize", "limit", "channels", "skip_bad"})
_EMBEDDED_OPTIONS = frozenset({"split", "limit", "skip_bad", "groups"})


def open_dataset(path: str | Path, options: DataOptions | None = None) -> Dataset:
    """Open labelled images, reading the first of them alone, or each once where that must tell `bounds`.

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
        name = recognise(place, options) if options.format == "auto" else options.format
        _check_options(name, options, _EVERY_FORMAT | FORMATS[name].options)
        dataset = FORMATS[name].open(place, options)
    except OSError as error:
        raise InputError(f"{printable(error.filename or path)}: cannot be read ({error.strerror})") from error
    if not len(dataset):
        raise InputError(f"{printable(path)}: the split {options.split!r} is empty; choose another")
    return dataset


def recognise(path: Path, options: DataOptions) -> str:
    """The name of the first format that the path looks like; `InputError` if there is none."""
    for name, known in FORMATS.items():
        if known.detect(path, options):
            return name
    if is_readable(path):
        raise InputError(
            f"{printable(path)} is an image without truth: name it in a CSV manifest, in the column image beside mask, "
            "label or boxes"
        )
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
    if options.groups:
        check_groups(options.groups, [dataset[0].columns], (), EMBEDDED + name)
        dataset = replace(dataset, info=replace(dataset.info, groups=options.groups))
    if options.limit is None:
        return dataset
    chosen = evenly(range(len(dataset)), options.limit)
    return InMemoryDataset(dataset.info, [dataset[index] for index in chosen])
