"""A model made to hold: trained on attacked images, validated under attack, the best weights kept."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from medrobust.data import Dataset
from medrobust.data.subset import check_apart, split_by_patient
from medrobust.errors import InputError
from medrobust.evaluation.storage import new_folder
from medrobust.models import weights_file, weights_fingerprint
from medrobust.progress import progress_bar
from medrobust.threat import Threat, usual_threat
from medrobust.training import Course, Method, Outcome, Seen, Training, Validation, check_fit, make_method, train
from medrobust.victim import Victim

WEIGHTS, TOLD = "model.safetensors", "training.json"
HELD_BACK = 0.2  # of the patients, for validation


@dataclass(frozen=True, eq=False)
class Hardened:
    """What came of a training.

    Attributes:
        victim: the hardened model, with the preprocessing of the one that it was made from.
        outcome: how it went: what was left of clean and of attacked validation images, step by step.
        told: how it was made, as JSON holds it: method, budget, options, seed, fingerprints.
    """

    victim: Victim
    outcome: Outcome
    told: dict[str, object]

    def summary(self) -> str:
        """In a line: which step's weights these are, and what was left of the validation images."""
        outcome = self.outcome
        first, best = outcome.history[0], next(seen for seen in outcome.history if seen.step == outcome.best)
        stopped = f"; stopped: {outcome.stopped}" if outcome.stopped else ""
        return (
            f"step {best.step} of {outcome.steps}; validation images, clean {first.clean:.2f} → {best.clean:.2f}, "
            f"attacked {first.attacked:.2f} → {best.attacked:.2f}{stopped}"
        )

    def save(self, folder: str | Path) -> None:
        """Write `model.safetensors` and `training.json` to a new folder, whole or not at all.

        Raises:
            InputError: the folder is not empty, or cannot be written.
        """
        with new_folder(Path(folder)) as unfinished:
            (unfinished / WEIGHTS).write_bytes(weights_file(self.victim.model))
            told = {
                **self.told,
                "weights_sha256": weights_fingerprint(self.victim.model),
                "outcome": asdict(self.outcome),
            }
            (unfinished / TOLD).write_text(json.dumps(told, indent=2), encoding="utf-8")


def harden(
    victim: Victim,
    training: Dataset,
    validation: Dataset | None = None,
    method: Method | str = "smia-at",
    threat: Threat | None = None,
    how: Training | None = None,
    *,
    look: Validation | None = None,
    seed: int = 0,
    checkpoint: str | Path | None = None,
    progress: bool = False,
) -> Hardened:
    """Train a copy of a model so that it holds; the given one stays as it is.

    Args:
        victim: the model to start from, usually trained already.
        training: images to learn from.
        validation: images of other patients, attacked between epochs to tell which weights are best; about a fifth of
            the training patients (of the images, where patients are unknown) when not given.
        method: of `medrobust.training`, or its name there.
        threat: what the model is to stand; L∞ ≤ 2/255 when not given, for images in [0, 1].
        how: epochs, learning rate and the like.
        look: how the validation images are attacked.
        seed: of all randomness.
        checkpoint: a file to write the training to as it goes, and to go on from when it is there.
        progress: show a progress bar on standard error.

    Raises:
        InputError: data, victim, method and budget do not fit each other; a patient is in both data sets; the training
            diverges; or the checkpoint is damaged or of another training.
    """
    threat = threat or usual_threat(2 / 255, training.info)
    method = make_method(method) if isinstance(method, str) else method
    how = how or Training()
    check_fit(victim, method, threat, how)
    if validation is None:
        validation, training = split_by_patient(training, HELD_BACK)
    for name, data in (("training", training), ("validation", validation)):
        if not len(data):
            raise InputError(f"there is no image for {name}")
    check_apart(training, validation, ("training", "validation"))
    learner = copy.copy(victim)
    learner.model = copy.deepcopy(victim.model)
    course = Course(learner, training, validation, method, threat, how, look or Validation(), seed)
    told = _told(course)
    made_of = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
    path = None if checkpoint is None else Path(checkpoint)
    outcome = train(course, path, made_of, partial(_bar, training.info.name, progress))
    return Hardened(learner, outcome, told)


@contextmanager
def _bar(data: str, shown: bool, steps: int) -> Iterator[Callable[[int, Seen], None]]:
    with progress_bar(data, steps, shown) as bar:

        def tell(step: int, seen: Seen) -> None:
            bar.stage(f"training on {data}: {seen.clean:.2f} clean, {seen.attacked:.2f} attacked")
            bar.to(step)

        yield tell


def _told(course: Course) -> dict[str, object]:
    """All that decides what the training comes to."""
    return {
        "model_sha256": weights_fingerprint(course.victim.model),
        "victim": course.victim.describe(),
        "training_sha256": course.training.fingerprint(),
        "validation_sha256": course.validation.fingerprint(),
        "images": [len(course.training), len(course.validation)],
        "validation_images": len(course.look.places(course.validation)),
        **course.method.describe(),
        "threat": course.threat.describe(course.training.info.unit),
        "training": asdict(course.how),
        "validation_attack": course.look.attack.describe(),
        "seed": course.seed,
    }
