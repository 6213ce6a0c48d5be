"""Data set × attack × budget → records: every image attacked by every attack at every budget."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from medrobust.attacks import Attack, AttackResult
from medrobust.attacks.at_once import AtOnce
from medrobust.data import Dataset, GroupColumn
from medrobust.errors import InputError
from medrobust.evaluation.afterchecks import Aftercheck, aftercheck_part
from medrobust.evaluation.attacking import Call, answered, calls_of, check_untargeted, model_errors_told, on_images
from medrobust.evaluation.batches import Batch, Usable, batches
from medrobust.evaluation.cautions import look_like_probabilities
from medrobust.evaluation.columns import Columns, Row, answers, as_rows, changes, identities
from medrobust.evaluation.gallery import GalleryCollector
from medrobust.evaluation.grouping import group_rows
from medrobust.evaluation.records import CLEAN, WORST_CASE, GalleryImage, Skipped
from medrobust.threat import Threat
from medrobust.victim import Victim, check_finite

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
    # how many images went together, once memory had run out
    halved_to: int | None = None


def measure(
    victim: Victim,
    dataset: Dataset,
    campaign: Campaign,
    part: str,
    on_progress: Progress = lambda _: None,
    on_stage: Callable[[str], None] = lambda _: None,
) -> Measured:
    """Attack the whole data set; `on_progress` hears how many image × attack × budget are newly done.

    Where memory runs out, the batch is halved, and stays so: no result depends on it. `on_stage` hears in words of an
    attack that is prepared on the whole data set first.

    Raises:
        InputError: data and victim do not fit, the model gives NaN, or no sample could be read.
        BadSampleError: a sample cannot be read and `skip_bad` is off.
    """
    if not len(dataset):
        raise InputError(f"the data set {dataset.info.name!r} is empty")
    measured = Measured()
    collector = GalleryCollector(part, len(dataset), campaign.gallery, victim.task)
    groups = dataset.info.groups
    work = _Work(victim, campaign, part, collector, groups)

    def leave_out(skipped: Skipped) -> None:
        measured.skipped.append(skipped)
        on_progress(campaign.cells)

    with victim.evaluating():
        calls = work.calls(dataset, on_stage)
        for batch in batches(dataset, victim, campaign.batch_size, leave_out if campaign.skip_bad else None):
            outputs = work.clean_outputs(batch)
            measured.probabilities &= look_like_probabilities(victim.task, outputs)
            measured.rows += work.attack(batch, outputs, calls, on_progress)
            measured.evaluated += len(batch.indices)
    if not measured.rows:
        raise InputError(f"no sample of {dataset.info.name!r} could be read; the first: {measured.skipped[0].reason}")
    group_rows(measured.rows, groups)
    measured.gallery = work.collector.images()
    measured.halved_to = work.at_once.images if work.at_once.halved else None
    return measured


class _Work:
    """What is done to each batch, and how many of its images go together."""

    def __init__(
        self,
        victim: Victim,
        campaign: Campaign,
        part: str,
        collector: GalleryCollector,
        groups: Sequence[GroupColumn],
    ) -> None:
        self.victim, self.campaign, self.part, self.collector = victim, campaign, part, collector
        self.groups = groups
        self.at_once = AtOnce(campaign.batch_size)

    def calls(self, dataset: Dataset, on_stage: Callable[[str], None]) -> list[tuple[str, Call]]:
        """Label and call of every attack, all that need the whole data set prepared."""
        whole = Usable(dataset, self.victim) if self.campaign.skip_bad else dataset

        def ready(label: str, attack: Attack) -> Iterator[tuple[str, Call]]:
            def tell(threat: Threat) -> None:
                on_stage(f"preparing {label} for {self.part}, {threat.norm} ≤ {threat.budget():g}")

            for call in calls_of(attack, self.campaign.threats, self.victim, whole, self.campaign.seed, tell):
                yield label, call

        found = [one for label, attack in self.campaign.attacks.items() for one in ready(label, attack)]
        on_stage(f"attacking {self.part}")
        return found

    @torch.no_grad()
    def clean_outputs(self, batch: Batch) -> Any:
        """The model's outputs on the clean images, once everything about them is checked."""
        self.victim.task.check_truth(batch.truth)
        outputs = answered(self.victim, batch, batch.images, self.at_once)
        self.victim.task.check_outputs(outputs, batch.truth)
        check_finite(outputs, batch.ids, "clean")
        return outputs

    def attack(self, batch: Batch, outputs: Any, calls: Sequence[tuple[str, Call]], on_progress: Progress) -> list[Row]:
        """The rows of a batch, from its clean outputs on."""
        seed, count = self.campaign.seed, len(batch.indices)
        self.collector.add_clean(batch, outputs)
        known = identities(batch, self.victim.task, self.groups)
        looks = [_Look(self.part, self.victim, None, {**known, **answers(self.victim.task, outputs, batch, "before")})]
        looks += [self._look(check, batch, known) for check in self.campaign.afterchecks]
        rows: list[Row] = []
        for label, call in calls:
            started = time.perf_counter()
            results = call.on(self.victim, batch, seed, self.at_once)
            share = (time.perf_counter() - started) / (count * len(results)) + call.seconds
            for threat, result in zip(call.threats, results, strict=True):
                self.collector.add_attack(batch, label, threat, result)
                cell: Row = {"attack": label, "norm": threat.norm, "eps": threat.budget(), "seconds": share}
                changed = changes(batch, result, self.victim.bounds)
                for look in looks:
                    columns = {**look.known, **changed, **self._after(look, batch, result)}
                    rows += [{"part": look.part, **cell, **row} for row in as_rows(columns)]
                on_progress(count)
        return rows

    def _after(self, look: _Look, batch: Batch, result: AttackResult) -> Columns:
        """The columns of the attacked images."""
        moved = batch.moved(result.truth)
        if look.check is None:
            return answers(self.victim.task, result.outputs, moved, "after")
        changed = self._changed(look.check, look.victim, batch, result.adversarial)
        outputs = answered(look.victim, batch, changed, self.at_once)
        columns = answers(look.victim.task, outputs, moved, "after")
        return {**columns, "success": [not right for right in columns["right_after"]]}

    def _look(self, check: Aftercheck, batch: Batch, known: Columns) -> _Look:
        other = check.victim or self.victim
        outputs = answered(other, batch, self._changed(check, other, batch, batch.images), self.at_once)
        other.task.check_outputs(outputs, batch.truth)
        check_finite(outputs, batch.ids, f"clean ({check.name})")
        known = {**known, **answers(other.task, outputs, batch, "before")}
        return _Look(aftercheck_part(self.part, check), other, check, known)

    @torch.no_grad()
    def _changed(self, check: Aftercheck, victim: Victim, batch: Batch, images: Tensor) -> Tensor:
        with model_errors_told(on_images(batch)):
            return check.changed(images, victim.bounds, self.campaign.seed, batch.ids)


@dataclass(frozen=True)
class _Look:
    """One way to measure a batch's attacked images: as they are, or by an aftercheck.

    Attributes:
        part: of the run that the rows belong to.
        victim: the model that looks.
        check: the aftercheck, None for the images as they are.
        known: the columns that no attack changes.
    """

    part: str
    victim: Victim
    check: Aftercheck | None
    known: Columns
