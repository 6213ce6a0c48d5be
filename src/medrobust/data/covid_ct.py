"""COVID-19 CT Lung and Infection Segmentation (Ma et al., doi 10.5281/zenodo.3757476): 20 CT volumes as NIfTI.

The ten cases coronacases_* are in Hounsfield units. The ten radiopaedia_* are stored as 0 to 255, the lung window from
-1250 to 250 HU, as the authors say: a budget means another thing there, so the two are read apart.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from medrobust.data.assembly import assemble
from medrobust.data.class_names import COVID_CT, name_classes
from medrobust.data.dataset import Dataset
from medrobust.data.files import FileEntry, last_name, no_split_of
from medrobust.data.images import printable
from medrobust.data.options import DataOptions, choose_task, evenly
from medrobust.errors import InputError, unknown

IMAGES = "COVID-19-CT-Seg_20cases"
CASES = {
    "coronacases": "The cases coronacases_* alone, which are in Hounsfield units.",
    "radiopaedia": "The cases radiopaedia_* alone, stored as 0 to 255 for the lung window of -1250 to 250 HU.",
}
STORED_BOUNDS = (0.0, 255.0)
SUFFIXES = (".nii.gz", ".nii")


def detect(path: Path, options: DataOptions) -> bool:  # noqa: ARG001
    """Is it a folder with the set's folders of images and of masks?"""
    return (path / IMAGES).is_dir() and any((path / name).is_dir() for name in COVID_CT)


def open_covid_ct(path: Path, options: DataOptions) -> Dataset:
    """Open the volumes of one source with their masks, for segmentation.

    The masks are those of the folder `mask_folder`: Lung_and_Infection_Mask (left lung 1, right lung 2, infection 3),
    Lung_Mask or Infection_Mask; the first that is there. `cases` names the source; left out it is coronacases, if there
    are any. The case is the patient (two studies of one Radiopaedia case are of one), and ids are the files' names
    without their suffix.

    Raises:
        InputError: a folder, or every case of the source is missing.
        BadSampleError: a case has no mask (unless `options.skip_bad`).
    """
    source = printable(path)
    masks = _mask_folder(path, options)
    found = _volumes(path / IMAGES)
    cases = _cases(found, options.cases, source)
    chosen = [name for name in found if name.startswith(cases)]
    classes = name_classes(options.classes, COVID_CT[masks])
    if len(classes) != len(COVID_CT[masks]):
        raise InputError(f"{source}: {len(classes)} classes are wanted but {masks} has {', '.join(COVID_CT[masks])}")
    notes = no_split_of(source, options.split)
    others = len(found) - len(chosen)
    left_out = (f"Cases of another unit are left out: {others}.",) if others else ()
    return assemble(
        [_entry(name, found, path / masks) for name in evenly(chosen, options.limit)],
        path,
        _in_unit_of(cases, options),
        name=last_name(path),
        task=choose_task(options.task, "segmentation", ["segmentation"], source),
        classes=classes,
        notes=(*notes, CASES[cases], *left_out),
    )


def _in_unit_of(cases: str, options: DataOptions) -> DataOptions:
    """What the authors say of the values, where options do not."""
    if options.window is not None:
        if cases != "coronacases":
            raise InputError(f"cases {cases} are stored through a window already; leave window out")
        return options
    if cases == "coronacases":
        return replace(options, unit=options.unit or "HU")
    return replace(options, unit=options.unit or "stored", bounds=options.bounds or STORED_BOUNDS)


def _mask_folder(path: Path, options: DataOptions) -> str:
    if not (path / IMAGES).is_dir():
        raise InputError(f"{printable(path)}: there is no folder {IMAGES!r}; unpack the set's archives there")
    if options.mask_folder is not None and options.mask_folder not in COVID_CT:
        raise unknown("mask_folder", options.mask_folder, COVID_CT)
    names = [options.mask_folder] if options.mask_folder else list(COVID_CT)
    there = [name for name in names if (path / name).is_dir()]
    if not there:
        raise InputError(f"{printable(path)}: there is no folder {' or '.join(names)}; unpack the set's masks there")
    return there[0]


def _volumes(folder: Path) -> dict[str, Path]:
    """Name without suffix → file."""
    files = sorted(path for path in folder.iterdir() if path.name.endswith(SUFFIXES) and not path.name.startswith("."))
    return {_stem(path): path for path in files}


def _cases(found: Mapping[str, Path], wanted: str | None, source: str) -> str:
    if wanted is not None and wanted not in CASES:
        raise unknown("cases", wanted, CASES)
    there = [cases for cases in CASES if any(name.startswith(cases) for name in found)]
    fitting: Sequence[str] = [cases for cases in there if wanted in (None, cases)]
    if not fitting:
        raise InputError(f"{source}: there is no {wanted or ' or '.join(CASES)}_*.nii.gz in {IMAGES}; put it there")
    return fitting[0]


def _entry(name: str, volumes: Mapping[str, Path], masks: Path) -> FileEntry:
    found = [masks / f"{name}{suffix}" for suffix in SUFFIXES if (masks / f"{name}{suffix}").is_file()]
    fault = "" if found else f"{printable(volumes[name])} has no mask in {printable(masks)}: put one of its name there"
    return FileEntry(printable(name), volumes[name], found[0] if found else masks, _patient(name), fault=fault)


def _patient(name: str) -> str:
    """radiopaedia_10_85902_1 and _3 are two volumes of case 10."""
    case = re.match(r"[a-z]+_\d+", name)
    return case[0] if case else name


def _stem(path: Path) -> str:
    return next(path.name.removesuffix(suffix) for suffix in SUFFIXES if path.name.endswith(suffix))
