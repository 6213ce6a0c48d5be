"""Folders kept out of a page that is passed on: "/data/patients/Smith_John/left.csv" is shown as "…/left.csv"."""

from __future__ import annotations

import re

_LEFT_OUT = "…/"
# fields that hold a path, absolute or not
_PATHS = frozenset({"data", "path", "weights", "out", "table", "image_folder", "mask_folder"})
# where an absolute path begins in a text: "/…", "~/…", "~jane/…", "C:\…", "\\server\…", also after "csv:" or "="
_ABSOLUTE = re.compile(r"(?:^|(?<=[\s:=,;|'\"(\[{<]))(?:~[^/\\\s]*|[A-Za-z]:)?[/\\](?=\S)")
_FRACTION = re.compile(r"\s*[\d.]+\s*/\s*[\d.]+\s*")  # an eps, "4 /255"


def without_folder(path: str) -> str:
    """The last component of a path; "…/" stands for the folders before it."""
    whole = path.rstrip("/\\")
    place = max(whole.rfind("/"), whole.rfind("\\")) + 1
    return path if place == 0 else _LEFT_OUT + whole[place:]


def without_absolute(text: str) -> str:
    """A text whose absolute path, if it holds one, has lost its folders.

    Up to the last separator, as folders may have blanks in their names: rather too much is left out than too little.
    """
    begins = _ABSOLUTE.search(text)
    if begins is None or _FRACTION.fullmatch(text):
        return text
    return text[: begins.start()] + without_folder(text[begins.start() :])


def without_folders(value: object, name: str = "") -> object:
    """JSON values of which paths have lost their folders: all absolute ones, and whatever a field for paths holds."""
    if isinstance(value, dict):
        return {without_absolute(str(key)): without_folders(item, str(key)) for key, item in value.items()}
    if isinstance(value, list):
        return [without_folders(item, name) for item in value]
    if isinstance(value, str):
        return without_folder(value) if name in _PATHS else without_absolute(value)
    return value
