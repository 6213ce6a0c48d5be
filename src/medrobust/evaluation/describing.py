"""What is told of a part: its data, the model that answered, and what was done to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from medrobust.attacks import Attack
from medrobust.data import Dataset
from medrobust.evaluation.records import PartInfo, Skipped
from medrobust.models import weights_fingerprint
from medrobust.tasks import Segmentation
from medrobust.threat import Threat
from medrobust.victim import Victim


def model_fields(victim: Victim, name: str) -> dict[str, Any]:
    """The fields of a `PartInfo` that tell of its model."""
    return {
        "model": name,
        "weights_sha256": weights_fingerprint(victim.model),
        "parameters": sum(parameter.numel() for parameter in victim.model.parameters()),
        "victim": victim.describe(),
    }


def described_part(
    victim: Victim,
    dataset: Dataset,
    attacks: Mapping[str, Attack],
    threats: Sequence[Threat],
    *,
    evaluated: int,
    skipped: list[Skipped],
    model_name: str | None = None,
    notes: Sequence[str] = (),
) -> PartInfo:
    """A part whose images were attacked.

    Args:
        victim, dataset, attacks, threats: of the part.
        evaluated, skipped: how many images were attacked, and which could not be read.
        model_name: the class of the model when not given.
        notes: sentences of this run, put before those of the data.
    """
    info, task = dataset.info, victim.task
    return PartInfo(
        dataset=replace(info, notes=(*notes, *info.notes)),
        size=len(dataset),
        evaluated=evaluated,
        data_sha256=dataset.fingerprint(),
        task=info.task,
        attacks={label: attack.describe() for label, attack in attacks.items()},
        threats=[threat.describe(info.unit) for threat in threats],
        success_dice=task.success_dice if isinstance(task, Segmentation) else None,
        skipped=skipped,
        **model_fields(victim, model_name or type(victim.model).__name__),
    )
