"""Class indices from the text of table cells."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from medrobust.data.class_names import numbered
from medrobust.errors import InputError

MAX_INDEX = 9999  # a higher number in a label column is an age, an id, a count: no class


def infer_classes(labels: Iterable[str], wanted: int | tuple[str, ...] | None) -> tuple[str, ...]:
    """The classes of a label column.

    The user's names if there are such. Else whole numbers are indices, and the highest tells how many
    classes there are; anything else is a name, and names are put in alphabetical order.

    Raises:
        InputError: the wanted number of classes is not that of the names, or an index is above `MAX_INDEX`.
    """
    if isinstance(wanted, tuple):
        return wanted
    texts = {label for label in labels if label}
    indices = [as_index(text) for text in texts]
    known = [index for index in indices if index is not None]
    if len(known) * 2 > len(indices):  # indices, maybe with a slip among them that its own row will tell
        if max(known) > MAX_INDEX:
            raise InputError(f"label {max(known)} is too high for a class index; set classes, or label_column")
        return numbered(wanted or max(2, max(known) + 1))
    names = tuple(sorted(texts))
    if wanted is not None and wanted != len(names):
        raise InputError(f"{len(names)} labels ({', '.join(names)}) for {wanted} classes; set classes to all names")
    return names


def class_of(label: str, classes: Sequence[str]) -> int:
    """Index of a label that is a class's name or, where no name is a number, its index.

    Raises:
        InputError: it is neither; the message says what would do.
    """
    if label in classes:
        return classes.index(label)
    index = as_index(label)
    are_plain = tuple(classes) == numbered(len(classes))
    counts = are_plain or all(as_index(name) is None for name in classes)
    if index is None or not counts or not 0 <= index < len(classes):
        indices = f"0 to {len(classes) - 1}"
        names = f"one of: {', '.join(classes)}"
        wanted = indices if are_plain else f"{indices}, or {names}" if counts else names
        raise InputError(f"label {label!r} is not {wanted}")
    return index


def as_index(text: str) -> int | None:
    """The whole number that a cell shows ("2", or "2.0" as some programs write it), if it is one."""
    try:
        number = float(text)
    except ValueError:
        return None
    return int(number) if number.is_integer() else None
