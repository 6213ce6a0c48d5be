"""How far a run under way is, in a small file beside the folder that it will have: for `medrobust view`."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pydantic

from medrobust.errors import InputError
from medrobust.evaluation.storage import make_folder, write_whole

_EVERY = 1.0  # seconds


@dataclass(frozen=True)
class UnderWay:
    """How far a run is: what it does, how many records of how many are made; times in seconds since 1970."""

    stage: str
    done: int
    total: int
    started: float
    updated: float


_UNDER_WAY = pydantic.TypeAdapter(UnderWay)


def progress_path(folder: Path) -> Path:
    """Where the progress of a run is that will be saved in `folder`."""
    folder = folder.absolute()
    return folder.parent / f".{folder.name}.progress.json"


@contextmanager
def progress_file(folder: Path) -> Iterator[Callable[[str, int, int], None]]:
    """A listener that keeps the file, at most once a second; the file is gone when the run ended, one way or another.

    A disk that cannot be written ends no run: then there is no file.
    """
    path = progress_path(folder)
    missing = [place for place in (path.parent, *path.parent.parents) if not place.exists()]
    started = time.time()
    last: list[tuple[str, float]] = []

    def listen(stage: str, done: int, total: int) -> None:
        now = time.time()
        if last and last[0][0] == stage and now - last[0][1] < _EVERY and done < total:
            return
        last[:] = [(stage, now)]
        with contextlib.suppress(InputError):
            make_folder(path.parent)
            write_whole(path, _UNDER_WAY.dump_json(UnderWay(stage, done, total, started, now)))

    try:
        yield listen
    finally:
        with contextlib.suppress(OSError):
            path.unlink()
            for place in missing:  # made for the file alone, unless something else came to lie there
                place.rmdir()


def read_progress(folder: Path) -> UnderWay | None:
    """How far the run is, or None when none is under way, or its file is damaged."""
    try:
        return _UNDER_WAY.validate_json(progress_path(folder).read_bytes())
    except (OSError, ValueError):
        return None
