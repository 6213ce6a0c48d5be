"""What a wrong answer costs a patient: a table of costs by the true class and the answer.

Costs have no unit: what counts is how they compare. "A referable eye called healthy weighs five times a healthy eye
referred" is a table with a 5 and a 1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from inspect import signature
from pathlib import Path

from medrobust.by_name import check_options
from medrobust.checks import at_least, not_negative
from medrobust.data.images import printable
from medrobust.data.rows import Row, Rows, read_rows
from medrobust.errors import InputError, unknown

Costs = tuple[tuple[float, ...], ...]  # of true class (row) answered as (column)

ARROWS = ("->", "→")
REFERABLE = "referable"
OTHERWISE = 1.0  # what a wrong answer costs that is not named


def referable(classes: int, *, from_grade: int = 2, missed: float = 5.0, needless: float = 1.0) -> Costs:
    """Costs of ordered grades of which some are to be referred, as of diabetic retinopathy from grade 2 (moderate) on.

    A wrong grade on the right side of that line costs nothing. The weights are an example: no guideline names them.

    Args:
        classes: number of grades.
        from_grade: the first that is referable, counted from 0.
        missed: cost of a referable image that is graded below.
        needless: cost of one below that is graded referable.

    Raises:
        InputError: there is no grade on one side of the line, or a cost is negative or not finite.
    """
    at_least("from_grade", from_grade, 1)
    if from_grade >= classes:
        raise InputError(f"from_grade must be below the number of classes, {classes}, got {from_grade}")
    not_negative("missed", missed)
    not_negative("needless", needless)

    def cost(truth: int, answer: int) -> float:
        if (truth >= from_grade) == (answer >= from_grade):
            return 0.0
        return float(missed if truth >= from_grade else needless)

    return tuple(tuple(cost(truth, answer) for answer in range(classes)) for truth in range(classes))


def read_harm(written: object, classes: Sequence[str], ordered: bool) -> Costs:
    """The costs that a configuration writes.

    Either pairs of classes, {"severe -> no DR": 10} or {"severe": {"no DR": 10}}, where every other wrong answer costs
    1; or the whole table, [[0, 1], [5, 0]], true class by row; or the name of a CSV file with it, of which the first
    row and the first column name the classes; or, for ordered grades, "referable" or {"referable": {"missed": 10}}.

    Args:
        written: as in the file.
        classes: their names in index order.
        ordered: whether they are grades.

    Raises:
        InputError: it is none of these, a class is not known, or a cost is no number of at least 0.
    """
    if isinstance(written, str) and written != REFERABLE:
        return _of_csv(Path(written), classes)
    if written == REFERABLE or (isinstance(written, Mapping) and set(written) == {REFERABLE} - set(classes)):
        return _preset(written, classes, ordered)
    if isinstance(written, Mapping):
        return _of_pairs(written, classes)
    if isinstance(written, list | tuple):
        return checked_costs(written, len(classes))
    raise InputError(f"harm must be costs, e.g. {{severe -> no DR: 10}}, a CSV file, or {REFERABLE}, got {written!r}")


def checked_costs(costs: object, classes: int) -> Costs:
    """A table of costs as numbers.

    Raises:
        InputError: it is not square with a row for each class, a cost is no finite number of at least 0, a right answer
            costs something, or no answer does.
    """
    rows = costs if isinstance(costs, list | tuple) else ()
    if len(rows) != classes or any(not isinstance(row, list | tuple) or len(row) != classes for row in rows):
        raise InputError(f"harm must have a row and a column for each of the {classes} classes, true class by row")
    found = tuple(
        tuple(_cost(cost, f"row {truth}, column {answer}") for answer, cost in enumerate(row, 1))
        for truth, row in enumerate(rows, 1)
    )
    for place, row in enumerate(found):
        if row[place]:
            where = f"row {place + 1}, column {place + 1}"
            raise InputError(f"harm, {where}: a right answer must cost 0, got {row[place]:g}")
    if not any(cost for row in found for cost in row):
        raise InputError("harm: no wrong answer costs anything; give a cost above 0")
    return found


def _preset(written: object, classes: Sequence[str], ordered: bool) -> Costs:
    if not ordered:
        raise InputError(f"harm {REFERABLE} is for ordered grades (data.task: ordinal); name costs of classes instead")
    options = written[REFERABLE] if isinstance(written, Mapping) else None
    if options is not None and not isinstance(options, Mapping):
        raise InputError(f"harm {REFERABLE} takes options, e.g. {{{REFERABLE}: {{missed: 10}}}}, got {options!r}")
    known = [name for name in signature(referable).parameters if name != "classes"]
    check_options(f"harm {REFERABLE}", options or {}, dict.fromkeys(known))
    return referable(len(classes), **(options or {}))


def _of_pairs(written: Mapping[object, object], classes: Sequence[str]) -> Costs:
    table = [[OTHERWISE * (truth != answer) for answer in range(len(classes))] for truth in range(len(classes))]
    for name, value in written.items():
        for truth, answer, cost in _pairs(str(name), value):
            row, column = (_class(one, classes) for one in (truth, answer))
            if row == column:
                raise InputError(f"harm: {truth!r} answered as {answer!r} is right and costs 0; leave it out")
            table[row][column] = _cost(cost, f"{truth} -> {answer}")
    return checked_costs(table, len(classes))


def _pairs(name: str, value: object) -> list[tuple[str, str, object]]:
    if isinstance(value, Mapping):
        return [(name, str(answer), cost) for answer, cost in value.items()]
    for arrow in ARROWS:
        truth, found, answer = name.partition(arrow)
        if found:
            return [(truth.strip(), answer.strip(), value)]
    raise InputError(f"harm: {name!r} must name two classes: <true class> -> <answer>: cost")


def _class(name: str, classes: Sequence[str]) -> int:
    if name not in classes:
        raise InputError(f"harm: {unknown('class', name, classes)}")
    return list(classes).index(name)


def _cost(value: object, place: str) -> float:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or value < 0:  # type: ignore[arg-type, operator]
        raise InputError(f"harm, {place}: a cost must be a finite number of at least 0, got {value!r}")
    return float(value)  # type: ignore[arg-type]


def _of_csv(path: Path, classes: Sequence[str]) -> Costs:
    if not path.is_file():
        raise InputError(f"harm: {printable(path)} is no CSV file, and no name but {REFERABLE!r}; give one of the two")
    table = read_rows(path)
    first, *answers = table.columns
    for name in answers:
        _class_at(name, classes, f"{printable(path)}, row 1")
    missing = [name for name in classes if name not in answers]
    if missing:
        raise InputError(f"{printable(path)}: has no column {missing[0]!r}; give one for each class")
    by_truth: dict[str, Row] = {}
    for row in table.rows:
        truth = row.cells[first]
        _class_at(truth, classes, table.place(row, first))
        if truth in by_truth:
            raise InputError(f"{table.place(row, first)}: {truth!r} is there twice; keep one of the rows")
        by_truth[truth] = row
    missing = [name for name in classes if name not in by_truth]
    if missing:
        raise InputError(f"{printable(path)}: has no row {missing[0]!r}; give one for each class")
    costs = [[_cell(table, by_truth[truth], answer) for answer in classes] for truth in classes]
    try:
        return checked_costs(costs, len(classes))
    except InputError as error:
        raise InputError(f"{printable(path)}: {error}") from error


def _class_at(name: str, classes: Sequence[str], place: str) -> None:
    if name not in classes:
        raise InputError(f"{place}: {unknown('class', name, classes)}")


def _cell(table: Rows, row: Row, column: str) -> float:
    def number(text: str) -> float:
        try:
            return float(text)
        except ValueError:
            raise InputError(f"{text!r} is no number; give a cost of at least 0") from None

    return table.read(row, column, number)
