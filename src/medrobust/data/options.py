"""How a data set is to be read: the options that every format shares, and those of some."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, get_args

from medrobust.checks import boolean
from medrobust.data.dataset import TaskName
from medrobust.data.groups import GroupColumn, read_groups
from medrobust.data.window import is_window
from medrobust.errors import InputError, unknown

Item = TypeVar("Item")
Unit = Literal["HU", "stored"]
Plane = Literal["axial", "coronal", "sagittal"]


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """Options for `open_dataset`; None leaves the choice to the data.

    Attributes:
        format: a name in `FORMATS`, or "auto" to recognise it.
        split: the part to read, where the source has parts.
        task: what the truth means, where the format leaves it open (classification or ordinal).
        classes: how many classes there are, or their names in index order.
        resize: side in pixels, or (height, width), to bring every image (and mask) to.
        limit: read at most so many samples, spread evenly over the set.
        channels: 1 or 3; the first image's when None.
        ignore_index: csv_table with several label columns, image_masks: the value of a label (e.g. -1) or pixel
            (e.g. 255) that is unknown and does not count.
        skip_bad: leave what is wrong with one sample (no image file, no mask, an impossible label) to the
            moment when it is read, as a `BadSampleError`, instead of raising it at opening.
        patient_pattern: every format of files: a regular expression whose one group finds the patient in a sample's
            id, e.g. "^([^_]+)_".
        allow_outside: every format of files: read also what links and paths out of the data folder lead to.
        cases: covid_ct: "coronacases" or "radiopaedia".
        unit: what the values of files are that do not say it themselves, as NIfTI: "HU" or "stored"; a guess from the
            first image when None.
        bounds: lowest and highest value of an image, for files that are not in [0, 1]: when None those of 12-bit CT for
            "HU", wider where an image is, and the least and greatest values found for "stored".
        max_pixels: refuse files with more pixels (voxels); 2^26 for 2-D pictures, 2^30 for volumes when None.
        slices: read every slice of volumes in this plane as an image of its own.
        slices_with_truth: leave out slices whose mask holds the background alone.
        window: grey levels as a viewer shows them, in [0, 1]: (level, width) in data units, or "file" for the window
            that each DICOM file names.
        table: csv_table, manifest: the CSV file in the folder.
        image_column: csv_table: the column with the image's file name, with or without its suffix.
        label_column: csv_table: the column with the class, or several columns of 0/1 for multi-label.
        patient_column: csv_table: the column that names the patient.
        split_column: csv_table: the column that names the split.
        image_folder: csv_table, image_masks, manifest, coco: the folder of the images.
        mask_folder: image_masks, covid_ct: the folder of the masks.
        mask_suffix: image_masks: what a mask's name adds to its image's, e.g. "_mask".
        groups: columns by which figures are told apart, of a table or (some) of a DICOM header: "sex,age:40,65",
            ["sex", {"age": [40, 65]}]; numbers become bands, from each cut on or, without cuts, in thirds.

    Raises:
        InputError: a value is of the wrong kind or out of range.
    """

    format: str = "auto"
    split: str = "test"
    task: TaskName | None = None
    classes: int | tuple[str, ...] | None = None
    resize: int | tuple[int, int] | None = None
    limit: int | None = None
    channels: int | None = None
    ignore_index: int | None = None
    skip_bad: bool = False
    patient_pattern: str | None = None
    allow_outside: bool = False
    cases: str | None = None
    unit: Unit | None = None
    bounds: tuple[float, float] | None = None
    max_pixels: int | None = None
    slices: Plane | None = None
    slices_with_truth: bool = False
    window: tuple[float, float] | Literal["file"] | None = None
    table: str | None = None
    image_column: str | None = None
    label_column: str | tuple[str, ...] | None = None
    patient_column: str | None = None
    split_column: str | None = None
    image_folder: str | None = None
    mask_folder: str | None = None
    mask_suffix: str | None = None
    groups: tuple[GroupColumn, ...] = ()

    def __post_init__(self) -> None:
        """Check every value, and make tuples of lists (as YAML gives them)."""
        for name in ("classes", "resize", "label_column", "bounds", "window"):
            value = getattr(self, name)
            if isinstance(value, list):
                object.__setattr__(self, name, tuple(value))
        object.__setattr__(self, "groups", read_groups(self.groups))
        self._check_texts()
        if self.task is not None and self.task not in get_args(TaskName):
            raise unknown("task", str(self.task), get_args(TaskName))
        self._check_classes()
        self._check_resize()
        if self.limit is not None and not _is_count(self.limit):
            raise _wrong("limit", self.limit, "a whole number, 1 or more")
        if self.channels not in (None, 1, 3):
            raise _wrong("channels", self.channels, "1 or 3")
        self._check_ignore_index()
        self._check_patient_pattern()
        self._check_reading_of_volumes()
        if self.window not in (None, "file") and not is_window(self.window):
            raise _wrong("window", self.window, 'a level and a width above 0, or "file"')

    @property
    def size(self) -> tuple[int, int] | None:
        """(height, width) to resize to, if any."""
        return (self.resize, self.resize) if isinstance(self.resize, int) else self.resize

    def _check_texts(self) -> None:
        names = ("table", "image_column", "patient_column", "split_column", "image_folder", "mask_folder")
        for name in ("format", "split"):
            if not _is_text(getattr(self, name)):
                raise _wrong(name, getattr(self, name), "a name")
        for name in (*names, "mask_suffix", "patient_pattern", "cases"):
            value = getattr(self, name)
            if value is not None and not _is_text(value):
                raise _wrong(name, value, "a name")
        if self.label_column is not None and not _is_text(self.label_column):
            _check_names("label_column", self.label_column, least=1)

    @property
    def _least_classes(self) -> int:
        return 1 if self.task in ("multilabel", "detection") else 2

    def _check_classes(self) -> None:
        if isinstance(self.classes, tuple):
            _check_names("classes", self.classes, least=self._least_classes)
        elif self.classes is not None and (not _is_count(self.classes) or self.classes < self._least_classes):
            raise _wrong("classes", self.classes, f"a number, {self._least_classes} or more, or a list of names")

    def _check_resize(self) -> None:
        sides = self.resize if isinstance(self.resize, tuple) else (self.resize, self.resize)
        if self.resize is not None and (len(sides) != 2 or not all(map(_is_count, sides))):
            raise _wrong("resize", self.resize, "a side in pixels, or (height, width)")

    def _check_patient_pattern(self) -> None:
        boolean("allow_outside", self.allow_outside)
        if self.patient_pattern is None:
            return
        try:
            groups = re.compile(self.patient_pattern).groups
        except re.error as error:
            raise InputError(f"patient_pattern {self.patient_pattern!r} is no regular expression: {error}") from error
        if groups != 1:
            raise _wrong("patient_pattern", self.patient_pattern, "a regular expression with one (group)")
        if self.patient_column is not None:
            raise InputError("patient_column and patient_pattern both name the patient; set one of them")

    def _check_reading_of_volumes(self) -> None:
        for name, words in (("unit", get_args(Unit)), ("slices", get_args(Plane))):
            value = getattr(self, name)
            if value is not None and value not in words:
                raise _wrong(name, value, f"one of {', '.join(words)}")
        if self.bounds is not None and not _are_bounds(self.bounds):
            raise _wrong("bounds", self.bounds, "two finite numbers, the lower one first")
        if self.max_pixels is not None and not _is_count(self.max_pixels):
            raise _wrong("max_pixels", self.max_pixels, "a whole number, 1 or more")
        boolean("slices_with_truth", self.slices_with_truth)
        if self.slices_with_truth and self.slices is None:
            raise InputError("slices_with_truth leaves out slices of volumes: set slices too")

    def _check_ignore_index(self) -> None:
        value = self.ignore_index
        if value is None:
            return
        if not isinstance(value, int) or isinstance(value, bool) or not -1 <= value <= 255:
            raise _wrong("ignore_index", value, "a whole number from -1 to 255")
        count = len(self.classes) if isinstance(self.classes, tuple) else self.classes or 0
        if self.task == "multilabel" or isinstance(self.label_column, tuple):
            count = 2  # 0 and 1, however many labels there are
        if 0 <= value < count:
            raise _wrong("ignore_index", value, f"none of the values 0 to {count - 1}, which have a meaning")


def evenly(items: Sequence[Item], limit: int | None) -> tuple[Item, ...]:
    """At most `limit` items, in order and spread evenly from the first on."""
    if limit is None or limit >= len(items):
        return tuple(items)
    return tuple(items[place * len(items) // limit] for place in range(limit))


def choose_task(task: TaskName | None, default: TaskName, fitting: Iterable[TaskName], source: str) -> TaskName:
    """The user's task if the data can be read so, else `InputError`."""
    if task is None:
        return default
    if task not in fitting:
        raise InputError(f"{source}: task {task!r} does not fit these data, which are for {' or '.join(fitting)}")
    return task


def _check_names(option: str, names: Any, least: int) -> None:
    if not isinstance(names, tuple) or len(names) < least or not all(map(_is_text, names)):
        raise _wrong(option, names, f"{least} or more names")
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"{option}: {twice!r} is there twice; names must differ")


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _are_bounds(value: object) -> bool:
    if not isinstance(value, tuple) or len(value) != 2:
        return False
    numbers = all(isinstance(end, int | float) and not isinstance(end, bool) and math.isfinite(end) for end in value)
    return numbers and value[0] < value[1]


def _wrong(option: str, value: object, wanted: str) -> InputError:
    return InputError(f"{option} must be {wanted}, got {value!r}")
