"""A plain CSV manifest, which can describe any data: a row for each image, with its mask, label or boxes.

Columns: `image`, and `mask`, `label` or `boxes`; if there, `id`, `patient` and `split`; all others are kept.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from medrobust.data import csv_table
from medrobust.data.admission import Enclosure
from medrobust.data.assembly import assemble
from medrobust.data.boxes import Box, BoxTruth
from medrobust.data.class_names import numbered
from medrobust.data.csv_table import find_table, rows_of_split, splits_of
from medrobust.data.dataset import Dataset, TaskName
from medrobust.data.file_types import is_readable
from medrobust.data.files import FileEntry, last_name
from medrobust.data.image_masks import mask_classes
from medrobust.data.images import printable
from medrobust.data.labels import class_of, infer_classes
from medrobust.data.options import DataOptions, choose_task, evenly
from medrobust.data.rows import Row, Rows, numbered_lines, read_columns, read_rows
from medrobust.errors import InputError

ID, IMAGE, PATIENT, SPLIT = "id", "image", "patient", "split"
TASKS: dict[str, Sequence[TaskName]] = {  # the column of the truth → what it may be for, the likeliest first
    "boxes": ("detection",),
    "mask": ("segmentation",),
    "label": ("classification", "ordinal"),
}
BOX_FILE = ".txt"
LOOKED_AT = 10  # rows, to tell a manifest from another table

Value = TypeVar("Value")


@dataclass(frozen=True)
class RawBox:
    """One box as it stands in the manifest or a file it names: corners in pixels, and a class's name or index."""

    corners: tuple[float, float, float, float]
    label: str
    place: str


@dataclass(frozen=True)
class Manifest:
    """A manifest, and how a row of it becomes a sample.

    Attributes:
        rows: its rows.
        truth: the column of the truth.
        folder: the folder below which the paths lie.
        enclosure: what may be read.
    """

    rows: Rows
    truth: str
    folder: Path
    enclosure: Enclosure

    def entry(self, row: Row, classes: tuple[str, ...]) -> FileEntry:
        """The sample of a row; one that cannot be used has its `fault` set."""
        used = {ID, IMAGE, PATIENT, SPLIT, self.truth}
        others = {name: cell for name, cell in row.cells.items() if name not in used}
        name = printable(self.id_of(row) or f"row {row.number}")
        try:
            image = self.rows.read(row, IMAGE, self._file)
            patient = row.cells.get(PATIENT) or None
            return FileEntry(name, image, self._truth(row, classes), patient, others)
        except InputError as error:
            return FileEntry(name, self.folder, 0, fault=str(error))

    def id_of(self, row: Row) -> str:
        """The cell `id`, or `image` where there is none."""
        return row.cells.get(ID) or row.cells[IMAGE]

    @cached_property
    def raw_boxes(self) -> dict[int, list[RawBox]]:
        """Row number → its boxes; rows of which they cannot be read are left out."""
        found = {}
        for row in self.rows.rows:
            try:
                found[row.number] = self.read_boxes(row)
            except InputError:
                continue  # told by the row's own entry
        return found

    def read_boxes(self, row: Row) -> list[RawBox]:
        """The boxes of a row: an empty cell has none.

        Raises:
            InputError: one cannot be read; the message names the place.
        """
        text, place = row.cells["boxes"], self.rows.place(row, "boxes")
        if not text.lower().endswith(BOX_FILE):
            return [
                raw_box(item, f"{place}, box {number}")
                for number, item in enumerate(filter(str.strip, text.split(";")), start=1)
            ]
        path = self.rows.read(row, "boxes", self._file)
        return [raw_box(line, f"{printable(path)}, row {number}") for number, line in numbered_lines(path)]

    def _truth(self, row: Row, classes: tuple[str, ...]) -> int | Path | BoxTruth:
        if self.truth == "mask":
            return self.rows.read(row, "mask", self._file)
        if self.truth == "label":
            return self.rows.read(row, "label", lambda text: class_of(text, classes))
        raws = self.raw_boxes.get(row.number)
        return BoxTruth(tuple(_box(raw, classes) for raw in (self.read_boxes(row) if raws is None else raws)))

    def _file(self, text: str) -> Path:
        path = self.enclosure.below(self.folder, text)
        if not path.exists():
            raise InputError(f"there is no file {printable(path)}; put it there, or set image_folder")
        return path


def detect(path: Path, options: DataOptions) -> bool:
    """Is it a CSV file with the columns `image` and `mask` or `boxes`, or a folder with one?

    Or one with `label`, whose images lie where a manifest says: below its folder, and named in full.
    """
    if not csv_table.detect(path, options):
        return False
    try:
        table = find_table(path, options)
        columns = read_columns(table)
        if IMAGE in columns and ("mask" in columns or "boxes" in columns):
            return True
        return {IMAGE, "label"} <= set(columns) and _names_images(table, options)
    except InputError:
        return False


def _names_images(table: Path, options: DataOptions) -> bool:
    """Does one of the first rows name an image by its path from the manifest? Not where options are a table's."""
    if any((options.image_column, options.label_column, options.patient_column, options.split_column)):
        return False
    folder = table.parent / (options.image_folder or "")
    cells = [row.cells[IMAGE] for row in read_rows(table).rows[:LOOKED_AT]]
    return any(cell and os.path.exists(folder / cell) and is_readable(folder / cell) for cell in cells)  # noqa: PTH110


def splits(path: Path, options: DataOptions) -> tuple[str, ...]:
    """What the column `split` holds, if there is one."""
    rows = read_rows(find_table(path, options))
    return splits_of(rows, SPLIT if SPLIT in rows.columns else None)


def open_manifest(path: Path, options: DataOptions) -> Dataset:
    """Open a CSV manifest.

    Paths are relative to the CSV file, or to `image_folder`, and must stay in it or in the CSV's folder. `boxes` is a
    text file (.txt) with a row `x1 y1 x2 y2 class` for each object, or those rows with semicolons between; corners in
    pixels, the class a name or an index; an empty cell is an image without objects. With several columns of truth the
    task tells which counts. Ids are the cells of `id`, or of `image`.

    Raises:
        InputError: a column or the split is missing, or an id is there twice.
        BadSampleError: a cell of a row is empty or cannot be used, or a file is missing (unless `options.skip_bad`);
            the message names file, row (the header is row 1) and column.
    """
    table = find_table(path, options)
    enclosure = Enclosure.around(path, options)
    enclosure.check(table)
    rows = read_rows(table)
    column, task = _truth_column(rows, options)
    chosen, notes = rows_of_split(rows, SPLIT if SPLIT in rows.columns else None, options.split)
    folder = table.parent / (options.image_folder or "")
    if not folder.is_dir():
        raise InputError(f"{printable(folder)}: there is no such folder; set image_folder")
    manifest = Manifest(rows, column, folder, enclosure)
    _check_ids(manifest)
    classes = _classes(manifest, options)
    entries = [manifest.entry(row, classes) for row in evenly(chosen, options.limit)]
    return assemble(
        entries,
        path,
        options,
        name=last_name(table.parent) if path.is_dir() else printable(table.stem),
        task=task,
        classes=mask_classes(entries, options, printable(path)) if column == "mask" else classes,
        notes=notes,
    )


def raw_box(text: str, place: str) -> RawBox:
    """Read `x1 y1 x2 y2 class`; `InputError` naming `place` if it is something else. A class may have blanks."""
    fields = text.split(maxsplit=4)
    try:
        x1, y1, x2, y2 = map(float, fields[:4])
        return RawBox((x1, y1, x2, y2), fields[4].strip(), place)
    except (ValueError, IndexError):
        raise InputError(f"{place}: {text.strip()!r:.80} is not 'x1 y1 x2 y2 class'; mend it") from None


def _truth_column(rows: Rows, options: DataOptions) -> tuple[str, TaskName]:
    source = printable(rows.path)
    rows.column(IMAGE, "format if this is no manifest, or rename it")
    there = [name for name in TASKS if name in rows.columns]
    if not there:
        raise InputError(f"{source}: there is no column {' or '.join(TASKS)}; a manifest needs one")
    fitting = [name for name in there if options.task in TASKS[name]] if options.task else there
    if options.task is None and len(there) > 1:
        raise InputError(f"{source}: the columns {', '.join(there)} all hold truth; set task to say which counts")
    column = (fitting or there)[0]
    task = choose_task(options.task, TASKS[column][0], TASKS[column], source)
    if options.ignore_index is not None and column != "mask":
        raise InputError(f"{source}: ignore_index is for masks, and the truth here is in {column!r}; leave it out")
    return column, task


def _check_ids(manifest: Manifest) -> None:
    """No id twice, not even in two splits."""
    seen: dict[str, Row] = {}
    for row in manifest.rows.rows:
        name = manifest.id_of(row)
        if name and name in seen:
            column = ID if row.cells.get(ID) else IMAGE
            raise InputError(
                f"{manifest.rows.place(row, column)}: {name!r} is already in row {seen[name].number}; keep one of the "
                "two, or give each an id"
            )
        seen[name] = row


def _classes(manifest: Manifest, options: DataOptions) -> tuple[str, ...]:
    """Those of labels or boxes; masks have theirs from their values."""
    if manifest.truth == "mask":
        return ()
    labels = [row.cells["label"] for row in manifest.rows.rows] if manifest.truth == "label" else []
    if manifest.truth == "boxes":
        labels = [raw.label for raws in manifest.raw_boxes.values() for raw in raws]
        if not labels and options.classes is None:
            raise InputError(f"{printable(manifest.rows.path)}: no row has a box; set classes")
        if set(labels) == {"0"} and options.classes is None:
            return numbered(1)
    try:
        return infer_classes(labels, options.classes)
    except InputError as error:
        raise InputError(f"{printable(manifest.rows.path)}, column {manifest.truth!r}: {error}") from error


def _box(raw: RawBox, classes: tuple[str, ...]) -> Box:
    try:
        return Box(raw.corners, class_of(raw.label, classes), raw.place)
    except InputError as error:
        raise InputError(f"{raw.place}: {error}") from error
