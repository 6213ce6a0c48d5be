"""Data set × attack × budget → records: every image attacked by every attack at every budget."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from medrobust.attacks import Attack, AttackResult
from medrobust.data import Dataset
from medrobust.errors import InputError, MedrobustError
from medrobust.evaluation.afterchecks import Aftercheck, aftercheck_part
from medrobust.evaluation.batches import Batch, batches
from medrobust.evaluation.cautions import look_like_probabilities
from medrobust.evaluation.gallery import GalleryCollector
from medrobust.evaluation.quality import image_quality
from medrobust.evaluation.records import CLEAN, WORST_CASE, GalleryImage, Skipped
from medrobust.tasks import Task
from medrobust.threat import Threat
from medrobust.victim import Victim, check_finite

Row = dict[str, object]
Columns = dict[str, list[object]]
Progress = Callable[[int], None]


@dataclass(frozen=True)
class Campaign:
    """What is measured: each attack at each budget, on every sample of a data set.

    Args:
        attacks: label → attack.
        threats: the budgets; at least one, no two with the same norm and eps.
        seed: of all randomness.
        batch_size: images attacked together; the results do not depend on it.
        gallery: how many images to keep for looking at, evenly spread over the data set.
        skip_bad: leave out samples that cannot be read, and list them, instead of stopping.
        afterchecks: how the attacked images are measured once more, each as a part of its own.

    Raises:
        InputError: there is nothing to measure, or an option has no such value.
    """

    attacks: Mapping[str, Attack]
    threats: Sequence[Threat]
    seed: int = 0
    batch_size: int = 16
    gallery: int = 6
    skip_bad: bool = False
    afterchecks: Sequence[Aftercheck] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.attacks, Mapping):
            raise InputError(f"attacks must be a mapping, e.g. {{'pgd': PGD()}}, got {type(self.attacks).__name__}")
        if not isinstance(self.threats, Sequence) or not all(isinstance(threat, Threat) for threat in self.threats):
            raise InputError("threats must be a list of Threat, e.g. [Threat(eps=4/255)]")
        if not self.attacks or not self.threats:
            raise InputError("nothing to measure: give at least one attack and one budget (eps)")
        if self.batch_size < 1:
            raise InputError(f"batch_size must be at least 1, got {self.batch_size}")
        if self.gallery < 0:
            raise InputError(f"gallery must not be negative, got {self.gallery}")
        for label, attack in self.attacks.items():
            if label in ("", CLEAN, WORST_CASE):
                raise InputError(f"an attack cannot be labelled {label!r}: the tables use that word")
            check_untargeted(label, attack)
        budgets = [(threat.norm, threat.budget()) for threat in self.threats]
        for budget in budgets:
            if budgets.count(budget) > 1:
                raise InputError(f"the budget {budget[0]} eps={budget[1]:g} is given twice")

    @property
    def cells(self) -> int:
        """Attack × budget, the number of records an image gets."""
        return len(self.attacks) * len(self.threats)


@dataclass
class Measured:
    """What came of a campaign."""

    rows: list[Row] = field(default_factory=list)
    gallery: list[GalleryImage] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    evaluated: int = 0
    # whether the clean outputs so far all looked like probabilities
    probabilities: bool = True


def measure(
    victim: Victim,
    dataset: Dataset,
    campaign: Campaign,
    part: str,
    on_progress: Progress = lambda _: None,
) -> Measured:
    """Attack the whole data set; `on_progress` hears how many image × attack × budget are newly done.

    Raises:
        InputError: data and victim do not fit, the model gives NaN, or no sample could be read.
        BadSampleError: a sample cannot be read and `skip_bad` is off.
    """
    if not len(dataset):
        raise InputError(f"the data set {dataset.info.name!r} is empty")
    measured = Measured()
    collector = GalleryCollector(part, len(dataset), campaign.gallery, victim.task)

    def leave_out(skipped: Skipped) -> None:
        measured.skipped.append(skipped)
        on_progress(campaign.cells)

    with victim.evaluating():
        for batch in batches(dataset, victim, campaign.batch_size, leave_out if campaign.skip_bad else None):
            outputs = _clean_outputs(victim, batch)
            measured.probabilities &= look_like_probabilities(outputs)
            measured.rows += _attack_batch(victim, batch, outputs, campaign, part, collector, on_progress)
            measured.evaluated += len(batch.indices)
    if not measured.rows:
        raise InputError(f"no sample of {dataset.info.name!r} could be read; the first: {measured.skipped[0].reason}")
    measured.gallery = collector.images()
    return measured


def check_untargeted(label: str, attack: Attack) -> None:
    """Raise `InputError` for a targeted attack: a data set holds the truth, and no target."""
    if attack.targeted:
        raise InputError(f"attack {label!r} is targeted: a data set knows no target; call the attack itself")


@contextmanager
def model_errors_told(batch: Batch) -> Iterator[None]:
    """Tell in one line what a user's model raises on a batch; running out of memory is left as it is."""
    try:
        yield
    except (MedrobustError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # whatever a user's code may raise
        shape = tuple(batch.images.shape[1:])
        raise InputError(f"the model fails on images {shape}: {type(error).__name__}: {error}") from error


def hash_patient(identity: str) -> str:
    """What a record holds of a patient's identity: enough to know the same patient again in another run.

    Who can list all possible identities can find the one behind a hash.
    """
    return hashlib.sha256(identity.encode()).hexdigest()[:16]


def _attack_batch(
    victim: Victim,
    batch: Batch,
    outputs: Any,
    campaign: Campaign,
    part: str,
    collector: GalleryCollector,
    on_progress: Progress,
) -> list[Row]:
    collector.add_clean(batch, outputs)
    identities = _identities(batch, victim.task)
    known = {**identities, **answers(victim.task, outputs, batch, "before")}
    looks = [_Look(part, victim, None, known, campaign.seed)]
    looks += [_look(check, part, victim, batch, identities, campaign.seed) for check in campaign.afterchecks]
    rows: list[Row] = []
    for label, attack in campaign.attacks.items():
        for threat in campaign.threats:
            started = time.perf_counter()
            with model_errors_told(batch):
                result = attack(victim, batch.images, batch.truth, threat, campaign.seed, batch.ids)
            share = (time.perf_counter() - started) / len(batch.indices)
            collector.add_attack(batch, label, threat, result)
            changes = _changes(batch, result, victim.bounds)
            cell: Row = {"attack": label, "norm": threat.norm, "eps": threat.budget(), "seconds": share}
            for look in looks:
                columns = {**look.known, **changes, **look.after(batch, result)}
                rows += [{"part": look.part, **cell, **row} for row in as_rows(columns)]
            on_progress(len(batch.indices))
    return rows


@dataclass(frozen=True)
class _Look:
    """One way to measure a batch's attacked images: as they are, or by an aftercheck.

    Attributes:
        part: of the run that the rows belong to.
        victim: the model that looks.
        check: the aftercheck, None for the images as they are.
        known: the columns that no attack changes.
        seed: of an aftercheck's draws.
    """

    part: str
    victim: Victim
    check: Aftercheck | None
    known: Columns
    seed: int

    def after(self, batch: Batch, result: AttackResult) -> Columns:
        """The columns of the attacked images."""
        if self.check is None:
            return answers(self.victim.task, result.outputs, batch, "after")
        with torch.no_grad(), model_errors_told(batch):
            changed = self.check.changed(result.adversarial, self.victim.bounds, self.seed, batch.ids)
            outputs = self.victim(changed)
        columns = answers(self.victim.task, outputs, batch, "after")
        return {**columns, "success": [not right for right in columns["right_after"]]}


@torch.no_grad()
def _look(check: Aftercheck, part: str, victim: Victim, batch: Batch, identities: Columns, seed: int) -> _Look:
    other = check.victim or victim
    with model_errors_told(batch):
        outputs = other(check.changed(batch.images, other.bounds, seed, batch.ids))
    other.task.check_outputs(outputs, batch.truth)
    check_finite(outputs, batch.ids, f"clean ({check.name})")
    known = {**identities, **answers(other.task, outputs, batch, "before")}
    return _Look(aftercheck_part(part, check), other, check, known, seed)


@torch.no_grad()
def _clean_outputs(victim: Victim, batch: Batch) -> Any:
    """The model's outputs on the clean images, once everything about them is checked."""
    victim.task.check_truth(batch.truth)
    with model_errors_told(batch):
        outputs = victim(batch.images)
    victim.task.check_outputs(outputs, batch.truth)
    check_finite(outputs, batch.ids, "clean")
    return outputs


def _identities(batch: Batch, task: Task) -> Columns:
    patients = (sample.patient for sample in batch.samples)
    columns: Columns = {
        "index": list(batch.indices),
        "id": list(batch.ids),
        "patient": [None if patient is None else hash_patient(patient) for patient in patients],
    }
    return columns | task.record_truth(batch.truth, batch.spacing)


@torch.no_grad()
def answers(task: Task, outputs: Any, batch: Batch, when: str) -> Columns:
    """The columns that exist before and after an attack (`when`), as one list per column."""
    truth = batch.truth
    columns: Columns = {
        f"right_{when}": (~task.fooled(outputs, truth)).tolist(),
        f"loss_{when}": task.loss(outputs, truth).tolist(),
    }
    metrics = task.image_metrics(outputs, truth, batch.spacing)
    columns |= {f"{name}_{when}": values.tolist() for name, values in metrics.items()}
    lesions = task.lesions(outputs, truth, batch.spacing)
    if lesions is not None:
        columns["lesion_volumes"] = [[lesion.volume for lesion in image] for image in lesions]
        columns[f"lesion_covered_{when}"] = [[lesion.covered for lesion in image] for image in lesions]
    return columns | {f"{name}_{when}": values for name, values in task.record_answers(outputs).items()}


def _changes(batch: Batch, result: AttackResult, bounds: tuple[float, float]) -> Columns:
    columns: dict[str, Tensor] = {
        **image_quality(batch.images, result.adversarial, bounds),
        "success": result.success,
        "steps_used": result.steps_used,
        "zero_gradients": result.zero_gradients,
    }
    return {name: values.tolist() for name, values in columns.items()}


def as_rows(columns: Columns) -> list[Row]:
    """A row for each place in the columns."""
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
