"""An export as a configuration asks for it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from medrobust.config import EMBEDDED, RunConfig
from medrobust.errors import InputError
from medrobust.evaluation.batches import Usable
from medrobust.exporting import Exported, export
from medrobust.hardening import TOLD
from medrobust.jobs import build_parts


def export_model(config: RunConfig, folder: Path, formats: Sequence[str]) -> Exported:
    """Export the model of a configuration, checked on its data; that of a hardening with its model card.

    Weights are those of a hardening when its `training.json` lies beside them.

    Raises:
        InputError: anything in the configuration cannot be used, or the model cannot be exported.
    """
    if config.data.path == EMBEDDED:
        raise InputError("give the data that the files are to be checked on with --data, e.g. embedded:level")
    (part,) = build_parts(config.model_copy(update={"surrogates": []}))
    weights = config.model.weights
    beside = None if weights is None or not (weights.parent / TOLD).is_file() else weights.parent
    dataset = Usable(part.dataset, part.victim) if config.skip_bad else part.dataset
    return export(part.victim, dataset, folder, formats, hardening=beside, model_name=part.model_name)
