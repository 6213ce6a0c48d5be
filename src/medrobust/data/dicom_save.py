"""DICOM datasets on disk, under their name only when they are whole."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from medrobust.data.dicom_files import reason
from medrobust.data.images import printable
from medrobust.errors import BadSampleError, InputError


def save(dataset: Any, path: Path) -> None:
    """Write a dataset as Explicit VR Little Endian to an existing folder; the file has its name when all is written."""
    from pydicom import config, dcmwrite
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = dataset.get("SOPClassUID") or dataset.file_meta.get("MediaStorageSOPClassUID")
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta, dataset.preamble = meta, b"\0" * 128
    unfinished = _unfinished_file(path)
    try:
        with config.disable_value_validation():  # what the source broke is not ours to mend
            dcmwrite(unfinished, dataset, implicit_vr=False, little_endian=True, enforce_file_format=True)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


@contextlib.contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """A folder to fill, which takes its name when all went well; else nothing is left of it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise InputError(f"{printable(target)} exists and is not an empty folder: choose another")
    unfinished = Path(tempfile.mkdtemp(prefix=".medrobust-", dir=target.parent))
    try:
        unfinished.chmod(0o755)
        yield unfinished
        if target.is_dir():
            target.rmdir()
        unfinished.rename(target)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


@contextlib.contextmanager
def writing(target: Path) -> Iterator[None]:
    """Tell in one line what keeps `target` from being written."""
    try:
        yield
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"{printable(target)} cannot be written: {error.strerror or error}") from error
    except Exception as error:  # an element of the source that pydicom cannot encode
        raise BadSampleError(f"{printable(target)} cannot be written as DICOM ({reason(error)})") from error


def _unfinished_file(target: Path) -> Path:
    handle, name = tempfile.mkstemp(prefix=".medrobust-", dir=target.parent)
    os.close(handle)
    path = Path(name)
    path.chmod(0o644)
    return path
