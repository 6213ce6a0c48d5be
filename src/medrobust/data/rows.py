"""The rows of a CSV file, with the numbers that a spreadsheet shows, for errors to name."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from medrobust.data.images import printable
from medrobust.errors import BadSampleError, InputError, unknown

Value = TypeVar("Value")

_DELIMITERS = ",;\t"


@dataclass(frozen=True)
class Row:
    """One row: its number (the header is row 1) and its cells by column, without blanks around them."""

    number: int
    cells: Mapping[str, str]


@dataclass(frozen=True)
class Rows:
    """A CSV file that was read: UTF-8 with or without a byte order mark, with commas, semicolons or tabs."""

    path: Path
    columns: tuple[str, ...]
    rows: tuple[Row, ...]

    def place(self, row: Row, column: str) -> str:
        """Where a cell is, for an error."""
        return f"{printable(self.path)}, row {row.number}, column {column!r}"

    def read(self, row: Row, column: str, read: Callable[[str], Value]) -> Value:
        """What `read` makes of a cell; its `InputError` gets the place of the cell.

        Raises:
            InputError: the cell is empty, or `read` cannot use it.
        """
        place = self.place(row, column)
        if not row.cells[column]:
            raise InputError(f"{place}: the cell is empty; fill it in")
        try:
            return read(row.cells[column])
        except InputError as error:
            raise InputError(f"{place}: {error}") from error

    def column(self, name: str, option: str) -> str:
        """The name itself if there is such a column, else `InputError` with the nearest name."""
        if name not in self.columns:
            near = unknown("column", name, self.columns)
            raise InputError(f"{printable(self.path)}: {near}; set {option}")
        return name


def read_rows(path: Path) -> Rows:
    """Read a CSV file.

    Raises:
        InputError: it is not UTF-8 text, has no header or columns of one name, or a row has another number of
            cells than the header.
    """
    records = list(_records(path))
    if not records:
        raise InputError(f"{printable(path)}: is empty; its first row must name the columns")
    header = tuple(name.strip() or f"column {place}" for place, name in enumerate(records[0][1], start=1))
    for name in header:
        if header.count(name) > 1:
            raise InputError(f"{printable(path)}, row 1: column {name!r} is there twice; rename one")
    rows = []
    for number, cells in records[1:]:
        if len(cells) != len(header):
            raise InputError(
                f"{printable(path)}, row {number}: has {len(cells)} cells for {len(header)} columns; "
                "put text with a comma in quotes"
            )
        rows.append(Row(number, dict(zip(header, (cell.strip() for cell in cells), strict=True))))
    return Rows(path, header, tuple(rows))


def read_columns(path: Path) -> tuple[str, ...]:
    """The names of the columns alone; raises as `read_rows`."""
    header: list[str] = next(_records(path), (0, []))[1]
    return tuple(name.strip() for name in header)


def _records(path: Path) -> Iterator[tuple[int, list[str]]]:
    """(number, cells) of each row that is not blank."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            header = stream.readline()
            stream.seek(0)
            delimiter = max(_DELIMITERS, key=header.count)
            for number, cells in enumerate(csv.reader(stream, delimiter=delimiter, strict=True), start=1):
                if any(cell.strip() for cell in cells):
                    yield number, cells
    except UnicodeDecodeError as error:
        raise InputError(f"{printable(path)}: is not UTF-8 text (byte {error.start}); save it as 'CSV UTF-8'") from None
    except csv.Error as error:
        raise InputError(f"{printable(path)}: is not a CSV file that can be read ({error}); save it again") from None


def numbered_lines(path: Path) -> list[tuple[int, str]]:
    """The lines of a text file that are not blank, each with its number, counted from 1.

    Raises:
        BadSampleError: it cannot be opened, or is not UTF-8 text.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise BadSampleError(f"{printable(path)}: is not UTF-8 text; save it as such") from None
    except OSError as error:
        raise BadSampleError(f"{printable(path)}: cannot be opened ({error.strerror}); mend its permissions") from None
    return [(number, line) for number, line in enumerate(lines, start=1) if line.strip()]
