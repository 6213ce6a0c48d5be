"""The columns of the records of one batch, as one list per column."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import torch

from medrobust.attacks import AttackResult
from medrobust.data.groups import GroupColumn
from medrobust.evaluation.batches import Batch
from medrobust.evaluation.grouping import named_values
from medrobust.evaluation.quality import image_quality
from medrobust.tasks import Task

Row = dict[str, object]
Columns = dict[str, list[object]]


def hash_patient(identity: str) -> str:
    """What a record holds of a patient's identity: enough to know the same patient again in another run.

    Who can list all possible identities can find the one behind a hash.
    """
    return hashlib.sha256(identity.encode()).hexdigest()[:16]


def identities(batch: Batch, task: Task, groups: Sequence[GroupColumn] = ()) -> Columns:
    """What is known of the samples before any model sees them."""
    patients = (sample.patient for sample in batch.samples)
    columns: Columns = {
        "index": list(batch.indices),
        "id": list(batch.ids),
        "patient": [None if patient is None else hash_patient(patient) for patient in patients],
        "groups": [named_values(sample, groups) for sample in batch.samples],
    }
    return columns | task.record_truth(batch.truth, batch.spacing)


@torch.no_grad()
def answers(task: Task, outputs: Any, batch: Batch, when: str) -> Columns:
    """The columns that exist before and after an attack (`when`)."""
    truth = batch.truth
    columns: Columns = {
        f"right_{when}": (~task.fooled(outputs, truth)).tolist(),
        f"loss_{when}": task.loss(outputs, truth).tolist(),
    }
    metrics = task.image_metrics(outputs, truth, batch.spacing)
    columns |= {f"{name}_{when}": values.tolist() for name, values in metrics.items()}
    lesions = task.lesions(outputs, truth, batch.spacing)
    if lesions is not None:
        columns[f"lesion_volumes_{when}"] = [[lesion.volume for lesion in image] for image in lesions]
        columns[f"lesion_covered_{when}"] = [[lesion.covered for lesion in image] for image in lesions]
    return columns | {f"{name}_{when}": values for name, values in task.record_answers(outputs).items()}


def changes(batch: Batch, result: AttackResult, bounds: tuple[float, float]) -> Columns:
    """What the attack did to the images, and what it took."""
    columns: Columns = {name: values.tolist() for name, values in _measured(batch, result, bounds).items()}
    if result.smallest is not None:
        columns["smallest_eps"] = result.smallest.tolist()
    if result.found_by is not None:
        columns["found_by"] = list(result.found_by)
    return columns


def _measured(batch: Batch, result: AttackResult, bounds: tuple[float, float]) -> dict[str, torch.Tensor]:
    return {
        **image_quality(batch.images, result.adversarial, bounds),
        "success": result.success,
        "steps_used": result.steps_used,
        "zero_gradients": result.zero_gradients,
        "queries": result.queries,
    }


def as_rows(columns: Columns) -> list[Row]:
    """A row for each place in the columns."""
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
