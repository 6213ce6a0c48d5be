"""How far each image of a data set can be changed while a smoothed model's answer provably stays: `certify`."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import numpy as np
import polars as pl

from medrobust.attacks.at_once import AtOnce
from medrobust.checks import at_least, not_negative
from medrobust.data import Dataset
from medrobust.errors import InputError
from medrobust.evaluation.attacking import answered, model_errors_told, on_images
from medrobust.evaluation.batches import Batch, batches
from medrobust.evaluation.columns import Row, hash_patient
from medrobust.evaluation.describing import described_part
from medrobust.evaluation.records import Skipped
from medrobust.guards.certificate import (
    ABSTAINS,
    Counts,
    certified,
    certified_positions,
    dice_at_least,
    predicted,
    radius_of,
)
from medrobust.guards.certified import SCHEMAS, Certified, CertifiedInfo, Sampling
from medrobust.guards.noisy_answers import answers_under_noise
from medrobust.progress import progress_bar
from medrobust.run import installed_versions
from medrobust.tasks import Detection, Segmentation, Task
from medrobust.threat import sample_generators
from medrobust.transforms import Preprocessed
from medrobust.victim import Victim, check_finite

RADII = (0.0, 0.5, 1.0, 1.5, 2.0)  # of sigma


def certify(
    victim: Victim,
    dataset: Dataset,
    sigma: float,
    *,
    n0: int = 100,
    n: int = 1000,
    alpha: float = 0.001,
    tau: float = 0.75,
    radii: Sequence[float] | None = None,
    seed: int = 0,
    batch_size: int = 64,
    skip_bad: bool = False,
    name: str | None = None,
    model_name: str | None = None,
    config: Mapping[str, object] | None = None,
    progress: bool = False,
) -> Certified:
    """Prove in which L2 ball round each image the answer of the *smoothed* model stays the same.

    The smoothed model answers what the victim answers most often to the image under Gaussian noise of `sigma`: whoever
    is to have the certificate must use that vote, not the victim itself. A certificate needs no attack, and none can
    break it; it is as large as the victim stands noise, so train one with noise of the same sigma
    (`medrobust.training.GaussianTraining`).

    One answer an image (classes, grades, one logit): CERTIFY of Cohen, Rosenfeld, Kolter, ICML 2019, arXiv 1902.02918,
    radius σ·Φ⁻¹(p) with p the Clopper-Pearson bound of the answer's probability. Several labels, masks: SEGCERTIFY of
    Fischer, Baader, Vechev, ICML 2021, arXiv 2107.00228, radius σ·Φ⁻¹(tau) for all positions that do not abstain.

    The noise is not cut to the bounds, since the proof is of Gaussian noise alone: the model sees values beyond them.

    Args:
        victim: the model, in data units, without a defence before it. No gradient is needed: a black box will do.
        dataset: labelled images.
        sigma: standard deviation of the noise in data units.
        n0: draws to choose the answer by.
        n: draws to prove it by; the largest radius that can be shown grows with it (`Certified.largest`).
        alpha: the most that the probability of a wrong certificate may be, for each image.
        tau: the probability that every position's answer is to have, for several labels and masks.
        radii: at which certified accuracy is told, in data units; 0, ½, 1, 1½ and 2 sigma when not given. Of one
            answer an image; labels and masks have the one radius sigma·Φ⁻¹(tau).
        seed: of the noise; an image's depends on it and the image's id alone.
        batch_size: noisy copies that the model sees together; changes the speed alone.
        skip_bad: leave out images that cannot be read, and list them, instead of stopping.
        name: of the data in what is told; the data set's when not given.
        model_name: the class of the model when not given.
        config: to be kept with the result, e.g. the file that it was started from.
        progress: show a progress bar on standard error.

    Raises:
        InputError: an option has no such value, so few draws can prove nothing, data and victim do not fit, the task
            is detection, or the victim has a defence, which takes no image out of the bounds.
    """
    sampling = Sampling(sigma, n0, n, alpha, tau)
    at_least("batch_size", batch_size, 1)
    for radius in radii or ():
        not_negative("a radius", radius)
    _check_victim(victim)
    if radii is not None and _positions(victim.task):
        raise InputError("certificates of labels and masks have the one radius sigma·Φ⁻¹(tau): leave out radii")
    part = name or dataset.info.name
    started, created = time.perf_counter(), datetime.now(UTC)
    at_once = AtOnce(batch_size)
    skipped: list[Skipped] = []
    rows: list[Row] = []
    with progress_bar(part, len(dataset), progress) as advance, victim.evaluating():
        advance.stage(f"certifying {part}")
        for image in batches(dataset, victim, 1, skipped.append if skip_bad else None):
            rows.append(_row(victim, image, sampling, seed, at_once))
            advance(1)
    if not rows:
        raise InputError(f"no sample of {dataset.info.name!r} could be read")
    described = described_part(victim, dataset, {}, [], evaluated=len(rows), skipped=skipped, model_name=model_name)
    info = CertifiedInfo(
        part=part,
        described=described,
        sampling=sampling,
        radii=[sigma * share for share in RADII] if radii is None else list(radii),
        seed=seed,
        created=created.isoformat(timespec="seconds"),
        seconds=time.perf_counter() - started,
        device=str(victim.device),
        versions=installed_versions(),
        config=None if config is None else dict(config),
    )
    return Certified(pl.DataFrame(rows, SCHEMAS[_positions(victim.task)]), info)


def _check_victim(victim: Victim) -> None:
    if isinstance(victim.task, Detection):
        raise InputError("certify is for classes, labels and masks: boxes have no vote")
    if any(isinstance(module, Preprocessed) for module in victim.model.modules()):
        raise InputError("certify shows the model images with noise beyond the bounds, which a defence does not take")


def _positions(task: Task) -> bool:
    """Has an image several answers, one at each position?"""
    return task.dense or task.multilabel


def _row(victim: Victim, image: Batch, sampling: Sampling, seed: int, at_once: AtOnce) -> Row:
    """What is found of the only image of a batch."""
    task, (sample,) = victim.task, image.samples
    task.check_truth(image.truth)
    outputs = answered(victim, image, image.images, at_once)
    task.check_outputs(outputs, image.truth)
    check_finite(outputs, image.ids, "clean")
    (generator,) = sample_generators(seed, image.ids, "certificate")
    with model_errors_told(on_images(image)):
        selection, counts = (
            answers_under_noise(victim, image.images[0], sampling.sigma, draws, generator, at_once).numpy()
            for draws in (sampling.n0, sampling.n)
        )
    truth = image.truth[0].cpu().numpy()
    found = (
        _of_positions(task, selection, counts, truth, sampling)
        if _positions(task)
        else _of_answer(selection, counts, int(truth), sampling)
    )
    patient = None if sample.patient is None else hash_patient(sample.patient)
    return {"index": image.indices[0], "id": sample.id, "patient": patient, **found}


def _of_answer(selection: Counts, counts: Counts, truth: int, sampling: Sampling) -> Row:
    answer, bound = certified(selection, counts, sampling.alpha)
    voted = predicted(counts, sampling.alpha)
    return {
        "truth": truth,
        "prediction": None if voted == ABSTAINS else voted,
        "certified": None if answer == ABSTAINS else answer,
        "p_lower": bound,
        "radius": radius_of(bound, sampling.sigma),
        "right": answer == truth,
    }


def _of_positions(task: Task, selection: Counts, counts: Counts, truth: Counts, sampling: Sampling) -> Row:
    ignored = getattr(task, "ignore_index", None)
    used = np.ones(truth.shape, bool) if ignored is None else truth != ignored
    answers = certified_positions(selection[:, used], counts[:, used], sampling.tau, sampling.alpha)
    row: Row = {
        "radius": radius_of(sampling.tau, sampling.sigma),
        "positions": int(used.sum()),
        "abstained": float((answers == ABSTAINS).mean()) if used.any() else None,
        "right": float((answers == truth[used]).mean()) if used.any() else None,
        "dice_at_least": None,
    }
    if isinstance(task, Segmentation):
        whole = np.zeros_like(truth)  # what is ignored is background in both
        whole[used] = answers
        row["dice_at_least"] = _dice_at_least(task, whole, np.where(used, truth, 0))
    return row


def _dice_at_least(task: Segmentation, answers: Counts, truth: Counts) -> float:
    """Of maps `(*spatial)`, or `(L, *spatial)` of labels."""
    maps = task.classes if task.multilabel else 1
    answers, truth = answers.reshape(maps, -1), truth.reshape(maps, -1)
    classes = np.array([[1]]) if task.multilabel else np.arange(1, task.classes)[:, None]
    return dice_at_least(answers == classes, answers == ABSTAINS, truth == classes)
