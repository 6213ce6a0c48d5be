"""Which files are DICOM, which folders are one DICOM series, and opening them with one clear line when they are not."""

from __future__ import annotations

import itertools
import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medrobust.data.images import printable
from medrobust.errors import BadSampleError

if TYPE_CHECKING:
    from pydicom.dataset import FileDataset

SUFFIXES = (".dcm", ".dicom", ".ima")
_MAGIC, _PREAMBLE = b"DICM", 128  # PS3.10, section 7.1
_NO_SUFFIX = re.compile(r"(\.\d+)?")  # "IM0001", and names that are UIDs: "1.2.840.10008.5"
_INDEX_NAME = "DICOMDIR"
_NAMES_TRIED, _LOOKED_AT = 12, 3  # to find a folder's first DICOM files, and so many headers are read
_DIRECTORY_STORAGE = "1.2.840.10008.1.3.10"
_SEGMENTATIONS = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")  # of planes, of label maps


def is_dicom(path: Path) -> bool:
    """Is the path a DICOM file: by its suffix or, where it has none, by the magic word after the preamble?"""
    if path.name.startswith("."):
        return False
    if path.suffix.lower() in SUFFIXES:
        return not path.is_dir()
    return bool(_NO_SUFFIX.fullmatch(path.suffix)) and _has_magic(path)


def is_series(path: Path) -> bool:
    """Is the path a folder without folders in it, of whose DICOM files the first few are of one series?

    Cheap: at most three headers are read, whatever the size of the folder.
    """
    if not path.is_dir() or path.name.startswith("."):
        return False
    try:
        with os.scandir(path) as entries:
            names = []
            for entry in entries:
                if entry.is_dir() and not entry.name.startswith("."):
                    return False
                names.append(entry.name)
    except OSError:
        return False
    candidates = (path / name for name in sorted(names)[:_NAMES_TRIED])
    files = list(itertools.islice(filter(_may_be_slice, candidates), _LOOKED_AT))
    return bool(files) and len({_series_of(file) for file in files}) == 1


def series_files(folder: Path) -> list[Path]:
    """The DICOM files of a folder by name, without hidden ones, an index (DICOMDIR) and files of other kinds.

    Raises:
        BadSampleError: the folder cannot be read, or there is none.
    """
    try:
        files = sorted(path for path in folder.iterdir() if _may_be_slice(path))
    except OSError as error:
        raise bad(folder, f"cannot be opened ({error.strerror})", "check the path and its permissions") from None
    if not files:
        raise bad(folder, "is a folder without DICOM files", "give an image file, or the folder of one DICOM series")
    return files


def open_dicom(path: Path, *, pixels: bool = True) -> FileDataset:
    """Parse a DICOM file, without its pixels on request.

    Raises:
        BadSampleError: it is missing, no DICOM file, an index (DICOMDIR), or damaged.
    """
    import pydicom
    from pydicom.errors import InvalidDicomError

    try:
        with reading(path):
            dataset = pydicom.dcmread(path, stop_before_pixels=not pixels)
            if dataset.file_meta.get("MediaStorageSOPClassUID") == _DIRECTORY_STORAGE:
                raise bad(path, "is a DICOMDIR, an index of other files", "give the image files it lists")
    except FileNotFoundError:
        raise bad(path, "does not exist", "put the file there") from None
    except InvalidDicomError:
        raise bad(path, "is not a DICOM file", "replace it, or save it as DICOM with its file header") from None
    except OSError as error:
        raise bad(path, f"cannot be opened ({error.strerror})", "mend its permissions or replace it") from None
    return dataset


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn whatever pydicom raises of a damaged file into one `BadSampleError`, and keep its warnings back."""
    from pydicom.errors import InvalidDicomError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of values that break a rule of the standard
            yield
    except (BadSampleError, InvalidDicomError):
        raise
    except MemoryError:
        raise bad(path, "does not fit into memory", "cut it up") from None
    except Exception as error:  # a damaged file makes parser and decoders raise nearly anything
        if getattr(error, "errno", None) is not None:  # of the file system
            raise
        raise bad(path, f"cannot be read as DICOM ({reason(error)})", "replace it") from error


def is_segmentation(dataset: Any) -> bool:
    """Is it a DICOM-SEG object?"""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return dataset.get("SOPClassUID") in _SEGMENTATIONS


def reason(error: BaseException) -> str:
    """What an exception says first, without the full stop."""
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(". ") if lines else type(error).__name__


def tag_name(keyword: str) -> str:
    """An element as messages name it: "Rows (0028,0010)"."""
    from pydicom.datadict import tag_for_keyword
    from pydicom.tag import Tag

    tag = Tag(tag_for_keyword(keyword) or 0)
    return f"{keyword} ({tag.group:04X},{tag.element:04X})"


def bad(path: Path, fault: str, remedy: str) -> BadSampleError:
    """The error of one file: what is wrong with it, and what to do."""
    return BadSampleError(f"{printable(path)} {fault}: {remedy}")


def _may_be_slice(path: Path) -> bool:
    return path.name != _INDEX_NAME and is_dicom(path)


def _series_of(path: Path) -> str:
    """The series of a file, or "" when it cannot be told."""
    import pydicom
    from pydicom.errors import InvalidDicomError

    try:
        with reading(path):
            dataset = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["SeriesInstanceUID"])
    except (BadSampleError, InvalidDicomError, OSError):
        return ""
    return str(dataset.get("SeriesInstanceUID", ""))


def _has_magic(path: Path) -> bool:
    try:
        with path.open("rb") as stream:
            return stream.read(_PREAMBLE + len(_MAGIC))[_PREAMBLE:] == _MAGIC
    except OSError:
        return False
