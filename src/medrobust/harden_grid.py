"""Several methods and budgets of hardening as a configuration asks for them, and what each costs, side by side."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from medrobust.config import EMBEDDED, RunConfig
from medrobust.errors import InputError
from medrobust.evaluation.storage import check_output_folder, write_whole
from medrobust.harden_jobs import harden_config, measure_config
from medrobust.hardening import WEIGHTS, Hardened
from medrobust.hardening_card import AFTER, BEFORE
from medrobust.jobs import build_parts
from medrobust.tradeoffs import Tradeoff, tradeoff
from medrobust.training import check_fit

ASKED, TRADEOFF = "hardening.json", "tradeoff"


def harden_each(config: RunConfig, folder: Path, *, progress: bool = False) -> Iterator[tuple[Path, Hardened | None]]:
    """Train by each method at each budget into a folder of its own; yields it with what came of it.

    A folder begun by the same configuration is gone on with; what it holds already comes as None.

    Raises:
        InputError: as `harden_config`, or the folder holds something else.
    """
    asked = json.dumps(config.model_dump(mode="json"), indent=2)
    written = folder / ASKED
    if not written.exists():
        check_output_folder(folder)
        _check_each(config)
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(written, asked.encode())
    elif written.read_text(encoding="utf-8") != asked:
        raise InputError(f"{folder} was begun by another configuration; give another --out")
    for name, one in config.harden.each().items():
        place = _place(folder, name)
        if (place / WEIGHTS).exists():
            yield place, None
            continue
        alone = config.model_copy(update={"harden": one})
        with _nothing_left_of_nothing(folder):
            found = harden_config(alone, place, progress=progress)
        yield place, found


def measure_each(config: RunConfig, folder: Path, *, progress: bool = False) -> Tradeoff:
    """Measure the model as it was and each that was made of it, as `measure_config`, and write `tradeoff/`.

    Raises:
        InputError: anything in the configuration cannot be used.
    """
    runs = {BEFORE: folder / BEFORE}
    for name in config.harden.each():
        measure_config(config, _place(folder, name), before=folder / BEFORE, progress=progress)
        runs[name] = _place(folder, name) / AFTER
    found = tradeoff(runs)
    if not (folder / TRADEOFF).exists():
        found.save(folder / TRADEOFF)
    return found


def _place(folder: Path, name: str) -> Path:
    return folder / name.replace("/", "_")


def _check_each(config: RunConfig) -> None:
    """Raise `InputError` where one of them cannot be trained, before the others are in vain."""
    config.harden.check()
    if config.data.path == EMBEDDED:
        return  # `harden_config` says what is to be given
    (part,) = build_parts(config)
    for one in config.harden.each().values():
        if not one.surrogates:
            threat = one.threat(config.threat.norm, part.dataset.info)
            check_fit(part.victim, one.build_method(), threat, one.training())


@contextmanager
def _nothing_left_of_nothing(folder: Path) -> Iterator[None]:
    """A folder in which nothing was made goes when there is an error: the configuration is to be changed."""
    try:
        yield
    except InputError:
        if [path.name for path in folder.iterdir()] == [ASKED]:
            (folder / ASKED).unlink()
            folder.rmdir()
        raise
