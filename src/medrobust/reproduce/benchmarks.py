"""The paper's three benchmarks: grading of fundus images, segmentation of CT, detection in endoscopy; and small twins.

Each has a data set to test on and a model per run, trained with the run's number as seed, or given.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, cast, get_args

from torch import nn

from medrobust.data import DataOptions, Dataset, open_dataset
from medrobust.data.dataset import TaskName
from medrobust.data.embedded import EmbeddedName
from medrobust.data.options import evenly
from medrobust.data.subset import Subset, split_by_patient
from medrobust.errors import InputError
from medrobust.jobs import task_for
from medrobust.models import load_embedded_model, load_model, load_weights
from medrobust.models.networks import UNet
from medrobust.models.randomness import seeded
from medrobust.reproduce.fitting import Fitting, fit
from medrobust.reproduce.keeping import trained_once
from medrobust.victim import Victim

TRAINING_SHARE = 0.8
MEAN, STD = 0.5, 0.25  # what the models' images are normalised with
LUNG_WINDOW = (-600.0, 1500.0)  # level and width, in HU
SMALL_DICE = 0.8  # the embedded network's mean Dice is 0.9: half of that would never be "wrong"
Track = Callable[[range], Iterator[int]]
SMALL_LIMIT = 18  # images a task: one of each, attacked by all at a budget in a run, takes a core 2 seconds
SMALL_TITLES = {
    "level": "level of a brain slice, five ordered classes (embedded MNI152)",
    "tissue": "grey and white matter of brain slices (embedded MNI152)",
}


@dataclass(frozen=True)
class Benchmark:
    """One task of the experiment.

    Attributes:
        key: short name, the part of the runs.
        title: what is answered, on which data.
        test: the images that are attacked.
        model_name: for tables.
        model: seed → the trained model.
        mean, std: what the model's images are normalised with, in data units.
        success_dice: below this an image's segmentation counts as wrong.
        options: of the task, for `run.json`.
        own_models: is every run's model another one? Not when weights are given.
    """

    key: str
    title: str
    test: Dataset
    model_name: str
    model: Callable[[int], nn.Module]
    mean: float | None = None
    std: float | None = None
    success_dice: float = 0.5
    options: dict[str, object] = field(default_factory=dict)
    own_models: bool = True

    def victim(self, seed: int) -> Victim:
        """The model of a run, ready to be attacked."""
        options = {"success_dice": self.success_dice} if self.test.info.task == "segmentation" else {}
        task = task_for(self.test.info, **options)
        return Victim(self.model(seed), task, self.test.info.bounds, self.mean, self.std)

    def describe(self) -> dict[str, object]:
        """What decides the figures, for `run.json`."""
        return {"data": self.test.fingerprint(), "images": len(self.test), "model": self.model_name, **self.options}


def small_benchmarks(limit: int | None = None) -> list[Benchmark]:
    """The embedded brain slices, once for each task, `SMALL_LIMIT` of them; models are trained on first use."""
    return [
        Benchmark(
            key=name,
            title=SMALL_TITLES.get(name, f"{name} of brain slices (embedded MNI152)"),
            test=open_dataset(f"embedded:{name}", DataOptions(limit=SMALL_LIMIT if limit is None else limit)),
            model_name=f"embedded:{name}",
            model=lambda seed, name=name: load_embedded_model(name, seed),  # type: ignore[misc]
            success_dice=SMALL_DICE,
        )
        for name in cast("tuple[EmbeddedName, ...]", get_args(EmbeddedName))
    ]


@dataclass(frozen=True)
class Sources:
    """Where the paper's three data sets lie, and how the models are made.

    Attributes:
        aptos, covid_ct, ead: folders of APTOS 2019, COVID-19 CT (20 cases) and EAD; None leaves the task out.
        weights: key of a benchmark → its trained weights, instead of training.
        size: side in pixels of all images.
        limit: at most so many test images of each set.
        fitting: how models are trained.
        keep: the folder that trained models are written to, and read from; None keeps none.
    """

    aptos: Path | None = None
    covid_ct: Path | None = None
    ead: Path | None = None
    weights: dict[str, Path] = field(default_factory=dict)
    size: int = 224
    limit: int | None = None
    fitting: Fitting = field(default_factory=Fitting)
    keep: Path | None = None


GRADING, LUNG, ARTEFACTS = "grading", "lung", "artefacts"


@dataclass(frozen=True)
class _Plan:
    """A benchmark before its data are opened."""

    path: Path | None
    option: str
    task: TaskName
    title: str
    options: DataOptions
    model_name: str
    build: Callable[[Dataset, int], nn.Module]


def standard_benchmarks(sources: Sources, track: Track = iter) -> list[Benchmark]:
    """Those of the paper's benchmarks whose data are given.

    A DR grader (ResNet-50) on APTOS 2019, a lung segmenter (U-Net) on axial slices of COVID-19 CT in the lung window,
    an artefact detector (Faster R-CNN) on EAD. Models learn from four fifths of the patients (images, where patients
    are not known) and are attacked on the others.

    Raises:
        InputError: data cannot be read, weights do not fit, or are for no such benchmark.
    """
    size = sources.size
    ct = DataOptions(resize=size, slices="axial", slices_with_truth=True, window=LUNG_WINDOW)
    every = {
        GRADING: _Plan(
            sources.aptos,
            "--aptos",
            "ordinal",
            "grade of diabetic retinopathy (APTOS 2019)",
            DataOptions(resize=size),
            "torchvision:resnet50",
            _network("torchvision:resnet50"),
        ),
        LUNG: _Plan(
            sources.covid_ct,
            "--covid-ct",
            "segmentation",
            "lungs and infection in CT (COVID-19 CT, 20 cases)",
            ct,
            "U-Net",
            _unet,
        ),
        ARTEFACTS: _Plan(
            sources.ead,
            "--ead",
            "detection",
            "artefacts in endoscopy (EAD)",
            DataOptions(resize=size, channels=3),
            "torchvision:fasterrcnn_resnet50_fpn",
            _faster_rcnn(size),
        ),
    }
    plans = {key: plan for key, plan in every.items() if plan.path is not None}
    for key in sources.weights:
        if key not in plans:
            raise InputError(f"weights for {key!r}, which is no benchmark here; there are: {', '.join(plans)}")
    return [_benchmark(key, plan, sources, track) for key, plan in plans.items()]


def _network(source: str) -> Callable[[Dataset, int], nn.Module]:
    def build(data: Dataset, seed: int) -> nn.Module:
        info = data.info
        return load_model(source, outputs=len(info.classes), channels=info.channels, task=info.task, seed=seed)

    return build


def _faster_rcnn(size: int) -> Callable[[Dataset, int], nn.Module]:
    """One that sees the images at their own size: torchvision's would enlarge them to 800 pixels."""
    build_any = _network("torchvision:fasterrcnn_resnet50_fpn")

    def build(data: Dataset, seed: int) -> nn.Module:
        model = build_any(data, seed)
        transform: Any = model.transform
        transform.min_size, transform.max_size = (size,), 2 * size
        return model

    return build


def _unet(data: Dataset, seed: int) -> nn.Module:
    with seeded(seed):
        return UNet(data.info.channels, len(data.info.classes))


def _benchmark(key: str, plan: _Plan, sources: Sources, track: Track) -> Benchmark:
    whole = _opened(plan)
    training, rest = split_by_patient(whole, TRAINING_SHARE)
    if not len(training) or not len(rest):
        raise InputError(f"{plan.path}: {len(whole)} images of too few patients to train on some and test on others")
    test = Subset(whole, [rest.indices[place] for place in evenly(range(len(rest)), sources.limit)])
    detection = plan.task == "detection"  # torchvision's detectors normalise inside
    weights = sources.weights.get(key)
    made_of: dict[str, object] = {
        "training": training.fingerprint(),
        "fitting": asdict(sources.fitting),
        "model": plan.model_name,
    }
    if weights is None:
        model, options = _trained(key, plan, whole, training, sources, made_of, track), made_of
    else:
        network = plan.build(whole, 0)
        load_weights(network, weights)
        model = _given(network.eval())
        options = {"training": training.fingerprint(), "weights": hashlib.sha256(weights.read_bytes()).hexdigest()}
    return Benchmark(
        key=key,
        title=plan.title,
        test=test,
        model_name=plan.model_name,
        model=model,
        mean=None if detection else MEAN,
        std=None if detection else STD,
        options=dict(options),
        own_models=weights is None,
    )


def _opened(plan: _Plan) -> Dataset:
    assert plan.path is not None
    if not plan.path.is_dir():
        raise InputError(f"{plan.option} {plan.path}: there is no such folder; check the path")
    data = open_dataset(plan.path, plan.options)
    if data.info.task != plan.task:
        raise InputError(
            f"{plan.option} {plan.path}: these data are for {data.info.task}, not {plan.task}: {plan.title}"
        )
    return data


def _given(network: nn.Module) -> Callable[[int], nn.Module]:
    return lambda seed: network  # noqa: ARG005


def _trained(
    key: str,
    plan: _Plan,
    whole: Dataset,
    training: Dataset,
    sources: Sources,
    made_of: Mapping[str, object],
    track: Track,
) -> Callable[[int], nn.Module]:
    task = task_for(whole.info)
    inside = plan.task == "detection"

    @cache
    def model(seed: int) -> nn.Module:
        network = plan.build(whole, seed)

        def train() -> None:
            normalise = (lambda images: images) if inside else (lambda images: (images - MEAN) / STD)
            fit(network, task, training, sources.fitting, seed, normalise, track)

        if sources.keep is None:
            train()
        else:
            trained_once(network, train, sources.keep / f"{key}-run{seed}.safetensors", {**made_of, "seed": seed})
        return network.eval()

    return model
