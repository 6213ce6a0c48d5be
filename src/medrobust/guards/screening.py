"""Attacks on a model behind screens, by those who do not know them and by those who do: `screen`."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor

from medrobust.attacks import PGD, SMIA, Attack, AttackResult
from medrobust.attacks.at_once import AtOnce
from medrobust.attacks.iterative import IterativeAttack
from medrobust.data import Dataset
from medrobust.data.subset import check_apart, split_by_patient
from medrobust.errors import InputError, MedrobustWarning
from medrobust.evaluation.attacking import Call, answered, calls_of, check_untargeted
from medrobust.evaluation.batches import Batch, batches
from medrobust.evaluation.cautions import warn_of_budgets
from medrobust.evaluation.columns import Row, hash_patient
from medrobust.evaluation.describing import described_part
from medrobust.evaluation.measure import Campaign
from medrobust.evaluation.records import Skipped
from medrobust.guards.evasive import Evasive
from medrobust.guards.learned import LearnedScreen
from medrobust.guards.screened import SCHEMA, Screened, ScreenedInfo
from medrobust.guards.screens import Screen, Squeezing
from medrobust.guards.watched import Alarm
from medrobust.progress import progress_bar
from medrobust.run import installed_versions
from medrobust.threat import Threat
from medrobust.victim import Victim, check_finite

HALF = 0.5  # of the patients, for thresholds


def screen(
    victim: Victim,
    dataset: Dataset,
    screens: Mapping[str, Screen] | None = None,
    attacks: Mapping[str, Attack] | None = None,
    threats: Sequence[Threat] = (),
    *,
    calibration: Dataset | None = None,
    false_positives: float = 0.05,
    adaptive: Mapping[str, IterativeAttack] | None = None,
    seed: int = 0,
    batch_size: int = 16,
    skip_bad: bool = False,
    name: str | None = None,
    model_name: str | None = None,
    config: Mapping[str, object] | None = None,
    progress: bool = False,
) -> Screened:
    """Measure how well screens tell attacked images from clean ones, and what gets past them.

    The attacks know the model and not the screen. What they show of a screen is worth nothing on its own, so each
    screen is attacked besides by attacks that know it and its threshold, see `Evasive`.

    A threshold is set on clean images of other patients: of n of them the one of rank ⌈(1 − false_positives)·(n + 1)⌉,
    which a further image exceeds with at most that probability (Vovk, Gammerman, Shafer: Algorithmic Learning in a
    Random World, 2005).

    Args:
        victim: the model, in data units.
        dataset: labelled images.
        screens: label → screen; feature squeezing when not given.
        attacks: label → attack that does not know the screens; PGD and SMIA when not given.
        threats: the budgets, at least one.
        calibration: clean images to set the thresholds on, of other patients; about half of the patients of `dataset`
            (of the images, where patients are unknown) when not given, which are then not attacked.
        false_positives: the share of clean images that may be called attacked.
        adaptive: label → iterative attack that is told of each screen; PGD of 40 steps when not given.
        seed: of all randomness; an image's result depends on it and the image's id alone.
        batch_size: images attacked together; the results do not depend on it.
        skip_bad: leave out images that cannot be read, and list them, instead of stopping.
        name: of the data in what is told; the data set's when not given.
        model_name: the class of the model when not given.
        config: to be kept with the result, e.g. the file that it was started from.
        progress: show a progress bar on standard error.

    Raises:
        InputError: data, victim, screens, attacks and budgets do not fit each other, a patient is on both sides, or
            there are too few clean images for so small a share of false positives.
    """
    screens = {"squeezing": Squeezing()} if screens is None else screens
    attacks = {"pgd": PGD(), "smia": SMIA()} if attacks is None else attacks
    knowing = {"pgd": PGD(steps=40, random_start=True)} if adaptive is None else adaptive
    if not screens or not knowing:
        raise InputError("nothing to measure: give at least one screen, and an attack that is told of it")
    if not 0 < false_positives < 1:
        raise InputError(f"false_positives must be between 0 and 1, got {false_positives!r}")
    campaign = Campaign(attacks, threats, seed, batch_size, gallery=0, skip_bad=skip_bad)
    for label, attack in knowing.items():
        check_untargeted(label, attack)
    warn_of_budgets(threats, victim.bounds)
    if calibration is None:
        calibration, dataset = split_by_patient(dataset, HALF)
    _check_data(screens, calibration, dataset)
    part = name or dataset.info.name
    started, created = time.perf_counter(), datetime.now(UTC)
    work = _Work(victim, campaign, AtOnce(batch_size))
    skipped: list[Skipped] = []
    leave_out = skipped.append if skip_bad else None
    rows: list[Row] = []
    cells = len(threats) * (len(attacks) + len(screens) * len(knowing))
    with progress_bar(part, len(dataset) * cells, progress) as advance, victim.evaluating():
        alarms = work.alarms(screens, calibration, false_positives)
        calls = work.calls(alarms, knowing, dataset)
        for batch in batches(dataset, victim, batch_size, leave_out):
            rows += work.rows(batch, calls, alarms, advance)
    if not rows:
        raise InputError(f"no sample of {dataset.info.name!r} could be read")
    described = described_part(
        victim,
        dataset,
        {one.label: one.call.attack for one in calls},
        threats,
        evaluated=len({row["index"] for row in rows}),
        skipped=skipped,
        model_name=model_name,
    )
    info = ScreenedInfo(
        part=part,
        described=described,
        screens={label: alarm.screen.describe() for label, alarm in alarms.items()},
        thresholds={label: alarm.threshold for label, alarm in alarms.items()},
        calibration_sha256=calibration.fingerprint(),
        calibration_images=len(calibration),
        false_positives=false_positives,
        seed=seed,
        created=created.isoformat(timespec="seconds"),
        seconds=time.perf_counter() - started,
        device=str(victim.device),
        versions=installed_versions(),
        config=None if config is None else dict(config),
    )
    return Screened(pl.DataFrame(rows, SCHEMA), info)


def _check_data(screens: Mapping[str, Screen], calibration: Dataset, dataset: Dataset) -> None:
    """Patients and images must be others; what a screen learned from flatters it, or its threshold."""
    check_apart(calibration, dataset, ("the calibration", "the attacked"))
    fingerprints = {calibration.fingerprint(): "its threshold is set on", dataset.fingerprint(): "it is measured on"}
    if len(fingerprints) < 2:
        raise InputError("the calibration images are the attacked images: give others")
    for label, one in screens.items():
        if isinstance(one, LearnedScreen) and (known := fingerprints.get(one.info.data_sha256)):
            told = f"screen {label} learned from the very images that {known}: its figures say nothing about others"
            warnings.warn(told, MedrobustWarning, stacklevel=3)


@dataclass(frozen=True)
class _LabelledCall:
    """An attack for each batch, and the screen that it knows."""

    label: str
    call: Call
    knows: str | None = None


class _Work:
    """What is done to each batch."""

    def __init__(self, victim: Victim, campaign: Campaign, at_once: AtOnce) -> None:
        self.victim, self.campaign, self.at_once = victim, campaign, at_once

    def alarms(self, screens: Mapping[str, Screen], calibration: Dataset, share: float) -> dict[str, Alarm]:
        """Each screen with its threshold, from clean images."""
        scores: dict[str, list[Tensor]] = {label: [] for label in screens}
        on_bad: Callable[[Skipped], None] | None = (lambda _: None) if self.campaign.skip_bad else None
        for batch in batches(calibration, self.victim, self.campaign.batch_size, on_bad):
            for label, one in screens.items():
                scores[label].append(self.suspicion(one, batch.images))
        found = {label: torch.cat(values).double().numpy() for label, values in scores.items() if values}
        return {label: Alarm(screens[label], *_threshold(values, share)) for label, values in found.items()}

    def calls(
        self, alarms: Mapping[str, Alarm], knowing: Mapping[str, IterativeAttack], dataset: Dataset
    ) -> list[_LabelledCall]:
        """All attacks, ready for batches."""
        campaign = self.campaign
        labelled: list[tuple[str, Attack, str | None]] = [(label, one, None) for label, one in campaign.attacks.items()]
        for name, alarm in alarms.items():
            labelled += [
                (f"{label} that knows {name}", Evasive(attack=one, alarm=alarm), name) for label, one in knowing.items()
            ]
        return [
            _LabelledCall(label, call, knows)
            for label, attack, knows in labelled
            for call in calls_of(attack, campaign.threats, self.victim, dataset, campaign.seed)
        ]

    @torch.no_grad()
    def suspicion(self, one: Screen, images: Tensor) -> Tensor:
        """`(B,)` on the CPU; in pieces, if memory runs out."""

        def of(piece: Tensor) -> Tensor:
            return one(self.victim, piece, self.victim.forward(piece))

        return self.at_once.over(of, images).cpu()

    def rows(
        self, batch: Batch, calls: Sequence[_LabelledCall], alarms: Mapping[str, Alarm], done: Callable[[int], None]
    ) -> list[Row]:
        """Of a batch, one an image × attack × budget × screen."""
        task = self.victim.task
        task.check_truth(batch.truth)
        outputs = answered(self.victim, batch, batch.images, self.at_once)
        task.check_outputs(outputs, batch.truth)
        check_finite(outputs, batch.ids, "clean")
        right = ~task.fooled(outputs, batch.truth)
        clean = {label: self.suspicion(alarm.screen, batch.images) for label, alarm in alarms.items()}
        found: list[Row] = []
        for one in calls:
            results = one.call.on(self.victim, batch, self.campaign.seed, self.at_once)
            for threat, result in zip(one.call.threats, results, strict=True):
                fooled = right & self._wrong(batch, result)
                for label in alarms if one.knows is None else [one.knows]:
                    attacked = self.suspicion(alarms[label].screen, result.adversarial)
                    key = {"screen": label, "attack": one.label, "adaptive": one.knows is not None}
                    key |= {"norm": threat.norm, "eps": threat.budget()}
                    found += _rows(batch, key, right, fooled, clean[label], attacked, alarms[label].threshold)
                done(len(batch.indices))
        return found

    def _wrong(self, batch: Batch, result: AttackResult) -> Tensor:
        return self.victim.task.fooled(result.outputs, batch.moved(result.truth).truth)


def _threshold(scores: NDArray[np.float64], share: float) -> tuple[float, float]:
    """The threshold of clean scores `(n,)`, and how much they vary."""
    if not np.isfinite(scores).all():
        raise InputError("a screen gives NaN or infinite suspicion for clean images")
    rank = math.ceil(round((1 - share) * (len(scores) + 1), 9))
    if rank > len(scores):
        raise InputError(
            f"{len(scores)} clean images cannot set a threshold of {share:g} false positives: at least "
            f"{math.ceil(1 / share) - 1} are needed"
        )
    spread = float(scores.std())
    return float(np.sort(scores)[rank - 1]), spread if spread > 0 else 1.0


def _rows(
    batch: Batch, key: Row, right: Tensor, fooled: Tensor, clean: Tensor, attacked: Tensor, threshold: float
) -> Iterator[Row]:
    for place, sample in enumerate(batch.samples):
        yield {
            "index": batch.indices[place],
            "id": sample.id,
            "patient": None if sample.patient is None else hash_patient(sample.patient),
            **key,
            "right_before": bool(right[place]),
            "fooled": bool(fooled[place]),
            "clean": float(clean[place]),
            "attacked": float(attacked[place]),
            "false_alarm": float(clean[place]) > threshold,
            "alarm": float(attacked[place]) > threshold,
        }
