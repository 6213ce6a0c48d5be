"""A CSV table of labels beside a folder of images: APTOS 2019 as it comes, and any table like it."""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TypeVar

from medrobust.data.admission import Enclosure
from medrobust.data.assembly import assemble
from medrobust.data.class_names import RETINOPATHY_GRADES, name_classes
from medrobust.data.dataset import Dataset, TaskName
from medrobust.data.file_types import is_readable, without_suffix
from medrobust.data.files import FileEntry, last_name, no_split_of
from medrobust.data.images import printable
from medrobust.data.labels import as_index, class_of, infer_classes
from medrobust.data.options import DataOptions, choose_task, evenly
from medrobust.data.rows import Row, Rows, read_rows
from medrobust.errors import InputError

# Columns and folders that are found by themselves, the likeliest first; options name others.
IMAGE_COLUMNS = ("id_code", "image", "image_id", "image_name", "filename", "file_name", "file", "path", "id")
LABEL_COLUMNS = ("diagnosis", "label", "class", "grade", "target", "level")
PATIENT_COLUMNS = ("patient", "patient_id")
SPLIT_COLUMNS = ("split",)
IMAGE_FOLDERS = ("train_images", "images")
TABLES = ("train.csv", "labels.csv", "manifest.csv")

Value = TypeVar("Value")

_APTOS = ("id_code", "diagnosis")


@dataclass(frozen=True)
class Columns:
    """Which column of a table holds what."""

    image: str
    labels: tuple[str, ...]
    patient: str | None
    split: str | None


@dataclass(frozen=True)
class ImageFinder:
    """Finds image files by what a cell says: a path below the folder, with or without its suffix."""

    folder: Path
    _listings: dict[Path, dict[str, list[Path]]] = field(default_factory=dict)

    def find(self, cell: str) -> Path:
        """The one file; `InputError` if there is none, more than one, or it lies outside the folder."""
        place = PurePosixPath(cell.replace("\\", "/"))
        if place.is_absolute() or ".." in place.parts or PureWindowsPath(cell).drive:
            raise InputError(f"{cell!r} leads out of the image folder {printable(self.folder)}; give a path below it")
        found = self._listing(self.folder / place.parent).get(_normal(place.name), [])
        if not found:
            raise InputError(
                f"there is no image {cell!r} in {printable(self.folder)}; put it there, or set image_folder"
            )
        if len(found) > 1:
            names = ", ".join(printable(path.name) for path in found)
            raise InputError(f"{cell!r} may be any of {names}; give the name with its suffix")
        return found[0]

    def _listing(self, folder: Path) -> dict[str, list[Path]]:
        """Name, with and without suffix → files. A folder is listed once: tables are long."""
        if folder not in self._listings:
            listing = defaultdict(list)
            try:
                paths = sorted(folder.iterdir()) if folder.is_dir() else []
            except OSError as error:
                raise InputError(f"{printable(folder)} cannot be read ({error.strerror})") from error
            for path in paths:
                if is_readable(path):
                    for name in {path.name, without_suffix(path.name)}:
                        listing[_normal(name)].append(path)
            self._listings[folder] = dict(listing)
        return self._listings[folder]


@dataclass(frozen=True)
class LabelledTable:
    """A table, and how a row of it becomes a sample."""

    rows: Rows
    columns: Columns
    task: TaskName
    classes: tuple[str, ...]
    images: ImageFinder
    ignore_index: int | None = None

    def entry(self, row: Row) -> FileEntry:
        """The sample of a row; one that cannot be used has its `fault` set."""
        used = {self.columns.image, *self.columns.labels, self.columns.patient, self.columns.split}
        others = {name: cell for name, cell in row.cells.items() if name not in used}
        try:
            image = self.rows.read(row, self.columns.image, self.images.find)
            labels = tuple(self.rows.read(row, name, self._label) for name in self.columns.labels)
            patient = self.rows.read(row, self.columns.patient, str) if self.columns.patient else None
            if self.ignore_index is not None and set(labels) == {self.ignore_index}:
                place = f"{printable(self.rows.path)}, row {row.number}"
                raise InputError(f"{place}: all labels are unknown ({self.ignore_index}); leave the row out")
        except InputError as error:
            name = row.cells[self.columns.image] or f"row {row.number}"
            return FileEntry(name, self.images.folder, 0, fault=f"{error}")
        truth = labels if self.task == "multilabel" else labels[0]
        return FileEntry(row.cells[self.columns.image], image, truth, patient, others)

    def _label(self, cell: str) -> int:
        if self.task != "multilabel":
            return class_of(cell, self.classes)
        if self.ignore_index is not None and as_index(cell) == self.ignore_index:
            return self.ignore_index
        try:
            return class_of(cell, ("0", "1"))
        except InputError as error:
            raise InputError(f"{error}; mend it, or set ignore_index if it means unknown") from error


def detect(path: Path, options: DataOptions) -> bool:
    """Is it a CSV file, or a folder with one?"""
    if path.is_dir():
        return options.table is not None or any(map(_is_table, path.iterdir()))
    return _is_table(path)


def splits(path: Path, options: DataOptions) -> tuple[str, ...]:
    """What the split column holds, if there is one."""
    rows = read_rows(find_table(path, options))
    names = SPLIT_COLUMNS if options.split_column is None else (options.split_column,)
    return splits_of(rows, next((name for name in names if name in rows.columns), None))


def splits_of(rows: Rows, column: str | None) -> tuple[str, ...]:
    """The splits of a table in the order of their first row."""
    return tuple(dict.fromkeys(row.cells[column] for row in rows.rows if row.cells[column])) if column else ()


def open_csv_table(path: Path, options: DataOptions) -> Dataset:
    """Open a CSV table with its image folder.

    A table with the columns `id_code` and `diagnosis` is APTOS 2019's: ordinal, five grades. Otherwise a
    label is a class's name or index. Columns that are not used otherwise are kept in `Sample.columns`, and
    ids are the image column's cells. Of several label columns some may hold `ignore_index`.

    Raises:
        InputError: a column, the image folder or the split is missing, or an id is there twice; the message
            names file, row (the header is row 1) and column.
        BadSampleError: an image file or a cell of a row is missing or impossible, or all labels of a row are
            unknown (unless `options.skip_bad`).
    """
    table = find_table(path, options)
    Enclosure.around(path, options).check(table)
    rows = read_rows(table)
    columns = _find_columns(rows, options)
    _check_ids(rows, columns.image)
    chosen, notes = rows_of_split(rows, columns.split, options.split)
    task, classes = _task_and_classes(rows, columns, options)
    images = ImageFinder(_find_image_folder(table, options))
    labelled = LabelledTable(rows, columns, task, classes, images, options.ignore_index)
    return assemble(
        [labelled.entry(row) for row in evenly(chosen, options.limit)],
        path,
        options,
        name=last_name(table.parent) if path.is_dir() else printable(table.stem),
        task=task,
        classes=classes,
        notes=notes,
    )


def _is_table(path: Path) -> bool:
    return path.is_file() and path.suffix.lower() in (".csv", ".tsv") and not path.name.startswith(".")


def find_table(path: Path, options: DataOptions) -> Path:
    """The CSV file of a data set: itself, or the one in its folder."""
    if path.is_file():
        return path
    if options.table is not None:
        if not (path / options.table).is_file():
            raise InputError(f"{printable(path)}: there is no file {options.table!r}; set table to one that is there")
        return path / options.table
    tables = sorted(filter(_is_table, path.iterdir()))
    usual = [path / name for name in TABLES if path / name in tables]
    if not tables:
        raise InputError(f"{printable(path)}: there is no CSV file; put one there, or set table")
    if len(tables) > 1 and not usual:
        names = ", ".join(printable(table.name) for table in tables)
        raise InputError(f"{printable(path)}: there are several CSV files ({names}); set table to one of them")
    return (usual or tables)[0]


def _find_columns(rows: Rows, options: DataOptions) -> Columns:
    def named(wanted: str | None, option: str, usual: Sequence[str]) -> str | None:
        if wanted is not None:
            return rows.column(wanted, option)
        return next((name for name in usual if name in rows.columns), None)

    def needed(wanted: str | None, option: str, usual: Sequence[str]) -> str:
        return named(wanted, option, usual) or rows.column(usual[0], option)

    if isinstance(options.label_column, tuple):
        labels = tuple(rows.column(name, "label_column") for name in options.label_column)
    else:
        labels = (needed(options.label_column, "label_column", LABEL_COLUMNS),)
    image = needed(options.image_column, "image_column", IMAGE_COLUMNS)
    if image in labels:
        raise InputError(f"{printable(rows.path)}: column {image!r} is both image and label; set one of the options")
    return Columns(
        image,
        labels,
        named(options.patient_column, "patient_column", PATIENT_COLUMNS),
        named(options.split_column, "split_column", SPLIT_COLUMNS),
    )


def _check_ids(rows: Rows, column: str) -> None:
    """No image twice, not even in two splits: the same id would be two samples, or training data a test."""
    seen: dict[str, Row] = {}
    for row in rows.rows:
        stem = without_suffix(_normal(row.cells[column]))
        if stem and stem in seen:
            raise InputError(
                f"{rows.place(row, column)}: {row.cells[column]!r} is already in row {seen[stem].number}; "
                "keep one of the two"
            )
        seen[stem] = row


def rows_of_split(rows: Rows, column: str | None, split: str) -> tuple[Sequence[Row], tuple[str, ...]]:
    """The rows of the split, and notes; `InputError` if there are none."""
    if not rows.rows:
        raise InputError(f"{printable(rows.path)}: has no rows below its header; put one there for each image")
    if column is None:
        return rows.rows, no_split_of(printable(rows.path), split)
    for row in rows.rows:
        if not row.cells[column]:
            raise InputError(f"{rows.place(row, column)}: the cell is empty; fill in the split")
    chosen = [row for row in rows.rows if row.cells[column] == split]
    if not chosen:
        splits = ", ".join(sorted({row.cells[column] for row in rows.rows}))
        raise InputError(f"{printable(rows.path)}, column {column!r}: no split {split!r}; choose one of: {splits}")
    return chosen, ()


def _task_and_classes(rows: Rows, columns: Columns, options: DataOptions) -> tuple[TaskName, tuple[str, ...]]:
    source = printable(rows.path)
    if isinstance(options.label_column, tuple):
        task = choose_task(options.task, "multilabel", ["multilabel"], source)
        classes = name_classes(options.classes, columns.labels)
        if len(classes) != len(columns.labels):
            raise InputError(f"{source}: {len(classes)} classes for {len(columns.labels)} label columns; name as many")
        return task, classes
    if options.ignore_index is not None:
        raise InputError(
            f"{source}: ignore_index is for several label columns; leave out rows of which the label is unknown"
        )
    is_aptos = (columns.image, *columns.labels) == _APTOS
    task = choose_task(options.task, "ordinal" if is_aptos else "classification", ["classification", "ordinal"], source)
    if is_aptos:
        return task, name_classes(options.classes, RETINOPATHY_GRADES)
    try:
        return task, infer_classes((row.cells[columns.labels[0]] for row in rows.rows), options.classes)
    except InputError as error:
        raise InputError(f"{source}, column {columns.labels[0]!r}: {error}") from error


def _find_image_folder(table: Path, options: DataOptions) -> Path:
    names = IMAGE_FOLDERS if options.image_folder is None else [options.image_folder]
    found = next((table.parent / name for name in names if (table.parent / name).is_dir()), None)
    if found is None and options.image_folder is not None:
        raise InputError(f"{printable(table.parent / options.image_folder)}: there is no such folder; set image_folder")
    return found or table.parent


def _normal(name: str) -> str:
    """One spelling of accented letters: macOS may write them in two characters, tables in one."""
    return unicodedata.normalize("NFC", printable(name))
