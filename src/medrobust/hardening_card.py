"""The model card of a hardened model, from the folder that `medrobust harden` leaves."""

from __future__ import annotations

import json
from pathlib import Path

import pydantic

from medrobust.comparing import RunComparison, compare
from medrobust.errors import InputError
from medrobust.evaluation.storage import first_line
from medrobust.hardening import TOLD
from medrobust.report.hardened import HardeningTold, hardening_card, method_options
from medrobust.report.told import Told
from medrobust.run import Run

AFTER, BEFORE, CARD = "after", "before", "model-card.md"
_TOLD = pydantic.TypeAdapter(HardeningTold)


def card_of(folder: str | Path, compared: RunComparison | None = None) -> str:
    """The card in Markdown: how the model was made, and what the runs `before` and `after` in the folder show.

    Args:
        folder: of a hardening.
        compared: those two runs, where they were compared already.

    Raises:
        InputError: the folder is of no hardening, `training.json` is damaged, or the runs are of another model.
    """
    folder = Path(folder)
    told, options = read_told(folder)
    if compared is None and all((folder / name).is_dir() for name in (BEFORE, AFTER)):
        compared = compare(folder / BEFORE, folder / AFTER)
    if compared is None:
        return hardening_card(told, options, None, None)
    after = compared.runs[1]
    for part in after.info.parts.values():
        if told.weights_sha256 not in (None, part.weights_sha256):
            raise InputError(f"{folder / AFTER} is not a run of the model that {folder / TOLD} tells of")
    return hardening_card(told, options, compared.told, _told(after))


def read_told(folder: Path) -> tuple[HardeningTold, dict[str, object]]:
    """What `training.json` tells, and the options of the method.

    Raises:
        InputError: it is missing or damaged.
    """
    path = folder / TOLD
    if not path.is_file():
        raise InputError(f"{folder} holds no hardened model: it has no {TOLD}")
    try:
        written = json.loads(path.read_bytes())
        told = _TOLD.validate_python(written)
        if not told.outcome.history:
            raise ValueError("outcome.history is empty")
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise InputError(f"{path} is damaged: {first_line(error)}") from error
    return told, method_options(written)


def _told(run: Run) -> Told:
    return Told(run.records, run.info, (), run.summary, run.tables)
