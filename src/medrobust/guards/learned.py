"""A screen that learned what attacked images look like: a small network that tells clean images from attacked ones.

Metzen, Genewein, Fischer, Bischoff: On Detecting Adversarial Perturbations, ICLR 2017, arXiv 1702.04267, but on the
image itself, not on features of the model: so it can be put before any model of such images.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pydantic
import torch
from torch import Tensor

from medrobust.attacks import FGSM, SMIA, Attack
from medrobust.attacks.at_once import AtOnce
from medrobust.data import Dataset, DatasetInfo, InMemoryDataset, Sample
from medrobust.errors import InputError
from medrobust.evaluation.attacking import calls_of
from medrobust.evaluation.batches import batches
from medrobust.evaluation.storage import first_line, new_folder
from medrobust.guards.screens import Screen
from medrobust.hardening import harden
from medrobust.models import load_model, weights_file, weights_fingerprint
from medrobust.tasks import Classification
from medrobust.threat import Threat, usual_threat
from medrobust.training import Training, Validation
from medrobust.victim import Victim

WEIGHTS, TOLD = "screen.safetensors", "screen.json"
LIBRARIES = ("timm", "torchvision")
CLASSES = ("clean", "attacked")
USUAL = Training(epochs=10, learning_rate=1e-3, normalisation="batch", patience=0)
AS_THEY_ARE = Threat(0.0)  # the screen learns from images that are attacked already


@dataclass(frozen=True)
class ScreenInfo:
    """`screen.json`: how a learned screen was made, and for which images it is.

    Attributes:
        network: where its architecture is from, e.g. "timm:resnet18".
        channels, spatial_dims, bounds, unit: of the images.
        attack, threat: what it learned to tell from clean images.
        victim_sha256, data_sha256: fingerprints of the model that was attacked, and of the data.
        images: clean ones that it learned from, or chose its weights by.
        accuracy: share right of held-back images, clean and attacked.
    """

    network: str
    channels: int
    spatial_dims: int
    bounds: tuple[float, float]
    unit: str
    attack: dict[str, object]
    threat: dict[str, object]
    victim_sha256: str
    data_sha256: str
    images: int
    accuracy: float
    seed: int


_INFO = pydantic.TypeAdapter(ScreenInfo)


class LearnedScreen(Screen):
    """A network's logit of "attacked" over that of "clean", from the image alone.

    Attributes:
        detector: the network, in data units: class 1 is "attacked".
        info: how it was made.
    """

    def __init__(self, detector: Victim, info: ScreenInfo) -> None:
        self.detector = detector
        self.info = info

    def __call__(self, victim: Victim, images: Tensor, outputs: Any) -> Tensor:
        """See `Screen`.

        Raises:
            InputError: the images are of other bounds or channels than those that it learned from.
        """
        told, found = (self.info.bounds, self.info.channels), (victim.bounds, images.shape[1])
        if told != found or images.ndim != self.info.spatial_dims + 2:
            raise InputError(
                f"this screen is for {self.info.spatial_dims}-D images of {self.info.channels} channel(s) within "
                f"{list(self.info.bounds)}, not for images {tuple(images.shape[1:])} within {list(victim.bounds)}"
            )
        log_probs = self.detector.task.log_probs(self.detector(images))
        return log_probs[:, 1] - log_probs[:, 0]

    def to(self, device: torch.device) -> LearnedScreen:
        """Itself, with its network on another device."""
        self.detector.model.to(device)
        return self

    def describe(self) -> dict[str, object]:
        """How it was made."""
        return {"screen": "learned", **asdict(self.info)}

    def save(self, folder: str | Path) -> None:
        """Write `screen.safetensors` and `screen.json` to a new folder, whole or not at all.

        Raises:
            InputError: the folder is not empty, or cannot be written.
        """
        with new_folder(Path(folder)) as unfinished:
            (unfinished / WEIGHTS).write_bytes(weights_file(self.detector.model))
            (unfinished / TOLD).write_bytes(_INFO.dump_json(self.info, indent=2))


def load_screen(folder: str | Path) -> LearnedScreen:
    """Read a screen that was saved, onto the CPU; no code from the folder is run.

    Raises:
        InputError: the folder holds none, or a damaged one.
    """
    path = Path(folder) / TOLD
    if not path.is_file():
        raise InputError(f"{folder} is no learned screen: it has no {TOLD}")
    try:
        info = _INFO.validate_python(json.loads(path.read_bytes()))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} is damaged: {first_line(error)}") from error
    return LearnedScreen(_detector(info, info.seed, Path(folder) / WEIGHTS), info)


def train_screen(
    victim: Victim,
    dataset: Dataset,
    attack: Attack | None = None,
    threat: Threat | None = None,
    network: str = "timm:test_resnet",
    how: Training | None = None,
    *,
    seed: int = 0,
    batch_size: int = 16,
    progress: bool = False,
) -> LearnedScreen:
    """Train a network to tell images that an attack made on a model from clean ones.

    Attacked images are all that the attack makes, whether or not they fool the model. The weights kept are those that
    do best on about a fifth of the patients (of the images, where patients are unknown).

    Args:
        victim: the model that is attacked.
        dataset: images to learn from, all of one size; not those that the screen is then measured on.
        attack: SMIA when not given.
        threat: its budget; L∞ ≤ 4/255 when not given, for images in [0, 1].
        network: an architecture "timm:…" or, also for volumes, "torchvision:…".
        how: epochs, learning rate and the like; 10 epochs from random weights when not given.
        seed: of all randomness.
        batch_size: images attacked together.
        progress: show a progress bar on standard error.

    Raises:
        InputError: data, victim, attack and network do not fit each other.
    """
    info = dataset.info
    threat = threat or usual_threat(4 / 255, info)
    attack = SMIA() if attack is None else attack
    if network.partition(":")[0] not in LIBRARIES:
        raise InputError(f"the network of a screen is timm:… or torchvision:…, got {network!r}")
    told = ScreenInfo(
        network=network,
        channels=info.channels,
        spatial_dims=info.spatial_dims,
        bounds=victim.bounds,
        unit=info.unit,
        attack=attack.describe(),
        threat=threat.describe(info.unit),
        victim_sha256=weights_fingerprint(victim.model),
        data_sha256=dataset.fingerprint(),
        images=len(dataset),
        accuracy=float("nan"),
        seed=seed,
    )
    detector = _detector(told, seed)
    detector.model.to(victim.device)
    pairs = InMemoryDataset(
        DatasetInfo(info.name, "classification", CLASSES, info.channels, victim.bounds, info.unit, info.spatial_dims),
        list(_pairs(victim, dataset, attack, threat, seed, batch_size)),
    )
    look = Validation(attack=FGSM(), images=None, batch_size=batch_size)
    learned = harden(
        detector, pairs, None, "control", AS_THEY_ARE, how or USUAL, look=look, seed=seed, progress=progress
    )
    best = next(seen for seen in learned.outcome.history if seen.step == learned.outcome.best)
    return LearnedScreen(learned.victim, replace(told, accuracy=best.clean))


def _detector(info: ScreenInfo, seed: int, weights: Path | None = None) -> Victim:
    if info.network.partition(":")[0] not in LIBRARIES:  # a file must not name code to run
        raise InputError(f"the network of a screen is timm:… or torchvision:…, got {info.network!r}")
    model = load_model(
        info.network,
        outputs=len(CLASSES),
        channels=info.channels,
        task="classification",
        weights=weights,
        spatial_dims=info.spatial_dims,
        seed=seed,
    )
    low, high = info.bounds
    return Victim(model, Classification(len(CLASSES)), info.bounds, mean=(low + high) / 2, std=(high - low) / 2)


def _pairs(
    victim: Victim, dataset: Dataset, attack: Attack, threat: Threat, seed: int, batch_size: int
) -> Iterator[Sample]:
    """Every image as it is and attacked, each of its patient."""
    at_once = AtOnce(batch_size)
    with victim.evaluating():
        (call,) = calls_of(attack, [threat], victim, dataset, seed)
        for batch in batches(dataset, victim, batch_size, None):
            (result,) = call.on(victim, batch, seed, at_once)
            for sample, attacked in zip(batch.samples, result.adversarial.cpu(), strict=True):
                yield _labelled(sample, sample.id, sample.image, 0)
                yield _labelled(sample, f"{sample.id} attacked", attacked, 1)


def _labelled(sample: Sample, name: str, image: Tensor, label: int) -> Sample:
    patient = sample.patient or sample.id  # both images of a pair are learned from, or neither
    return Sample(name, image, torch.tensor(label), patient=patient)
