"""What a configuration asks for, done: data opened, models loaded, runs made, images written."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from torch import nn

from medrobust.attacks.transfer import with_surrogates
from medrobust.black_box import BlackBox
from medrobust.config import EMBEDDED, DataConfig, ModelConfig, RunConfig, SurrogateConfig
from medrobust.data import Dataset, DatasetInfo, open_dataset
from medrobust.data.class_names import class_indices
from medrobust.errors import InputError, MedrobustWarning
from medrobust.evaluation import SURVIVAL, Skipped, check_output_folder, export_adversarial
from medrobust.evaluation.export import folder_name
from medrobust.harm import Costs, read_harm
from medrobust.models import load_model
from medrobust.progress import Listen, progress_bar
from medrobust.run import Run, evaluate
from medrobust.tasks import Classification, Detection, Segmentation, Task
from medrobust.transforms import defended, make_transform
from medrobust.victim import Victim, gives_gradients

EMBEDDED_PARTS = ("embedded:tissue", "embedded:level")
EMBEDDED_SUCCESS_DICE = 0.8  # the embedded network's mean is 0.9: half of that would never be "wrong"
UNTRAINED = ("timm", "torchvision", "smp")
USUAL_EXPORT = ("4/255",)  # the budget of images that are written, where none is given
LIBRARIES = (EMBEDDED, *UNTRAINED)


@dataclass(frozen=True)
class Part:
    """A data set with the model that is to answer it."""

    dataset: Dataset
    victim: Victim
    model_name: str
    surrogates: dict[str, Victim]


def build_parts(config: RunConfig) -> Iterator[Part]:
    """Open the data and load the model of each part of a run; the embedded default has two.

    Raises:
        InputError: they cannot be read, or do not fit each other.
    """
    own_data, own_model = config.data.path != EMBEDDED, config.model.source != EMBEDDED
    if own_model and not own_data:
        raise InputError("give the data of this model with --data (embedded:tissue or embedded:level are brain slices)")
    if own_data and not own_model and not config.data.path.startswith(EMBEDDED):
        raise InputError("give the model of these data with --model, e.g. timm:resnet18 (see `medrobust models`)")
    for path in (config.data.path,) if own_data else EMBEDDED_PARTS:
        dataset = open_dataset(path, config.data.options(config.skip_bad))
        config.check_attacks(dataset.info)
        source = config.model.source if own_model else path
        victim = _victim(dataset.info, config, source)
        yield Part(dataset, victim, source, load_surrogates(dataset.info, config, victim, config.surrogates))


def open_split(config: RunConfig, split: str) -> Dataset:
    """Another split of the configured data, whole: `limit` is of the images that are measured alone.

    Raises:
        InputError: there is no such split, or it cannot be read.
    """
    options = {**(config.data.model_extra or {}), "split": split, "limit": None}
    return open_dataset(config.data.path, DataConfig(path=config.data.path, **options).options(config.skip_bad))


def run_config(config: RunConfig, *, progress: bool = False, listen: Listen | None = None) -> Run:
    """Do the main job as configured; `progress` and `listen` as in `evaluate`.

    Raises:
        InputError: anything in the configuration cannot be used.
    """
    if config.expect_accuracy is not None and config.data.path == EMBEDDED:  # before models are trained in vain
        raise InputError("expect_accuracy is of one data set, and the embedded default has two: give one with --data")
    attacks = config.build_attacks()
    whole: Run | None = None
    parts = list(build_parts(config))
    for part in parts:
        name = config.name
        if name is not None and len(parts) > 1:
            name = f"{name}: {part.dataset.info.name}"
        run = evaluate(
            part.victim,
            part.dataset,
            attacks,
            config.threat.threats(part.dataset.info),
            seed=config.seed,
            batch_size=config.batch_size,
            gallery=config.gallery,
            skip_bad=config.skip_bad,
            name=name,
            model_name=part.model_name,
            config=config.written(),
            progress=progress,
            listen=listen,
            afterchecks=SURVIVAL if config.survive else (),
            surrogates=part.surrogates,
            probes=config.trust,
            expect=config.expect_accuracy,
        )
        whole = run if whole is None else whole.joined(run)
    assert whole is not None
    return whole


def export_config(
    config: RunConfig, attack_name: str, folder: Path, *, deidentify: bool = True, progress: bool = False
) -> Iterator[tuple[Path, list[dict[str, object]], list[Skipped]]]:
    """Write adversarial images as configured: per folder its manifest's rows and what was skipped.

    The attack takes its options from the configuration's attack of that label, if there is one. With surrogates it is
    also made on each of them, as `with_surrogates` says; then every label has a folder of its own in the part's.
    `deidentify` leaves out of the images' headers what may name a patient.

    Raises:
        InputError: anything in the configuration cannot be used.
    """
    attack = config.build_attack(attack_name)
    given = "eps" in config.threat.model_fields_set
    if given and len(config.threat.eps) != 1:
        raise InputError(f"images are written for one budget, got {len(config.threat.eps)}: give one --eps")
    check_output_folder(folder)
    parts = list(build_parts(config))
    for part in parts:
        (threat,) = config.threat.threats(part.dataset.info, USUAL_EXPORT)
        place = folder if len(parts) == 1 else folder / part.dataset.info.name
        attacks = with_surrogates({attack_name: attack}, part.surrogates, part.victim)
        for label, one in attacks.items():
            into = place if len(attacks) == 1 else place / folder_name(label)
            skipped: list[Skipped] = []
            with progress_bar(f"{part.dataset.info.name} by {label}", len(part.dataset), progress) as advance:
                rows = export_adversarial(
                    part.victim,
                    part.dataset,
                    one,
                    threat,
                    into,
                    seed=config.seed,
                    batch_size=config.batch_size,
                    deidentify=deidentify,
                    on_bad=skipped.append if config.skip_bad else None,
                    on_progress=advance,
                )
            yield into, rows, skipped


def task_for(info: DatasetInfo, **options: Any) -> Task:
    """The task that reads the outputs of a model for these data.

    Args:
        info: of the data.
        options: of `Segmentation` or `Detection`; `lesion_classes` may be given by name.

    Raises:
        InputError: an option has no such value, or is another task's.
    """
    classes = len(info.classes)
    kind: Callable[..., Task] = Classification
    if info.task == "segmentation":
        kind, options = Segmentation, {"ignore_index": info.ignore_index, **options}
        if "lesion_classes" in options:
            options["lesion_classes"] = class_indices(options["lesion_classes"], info.classes)
    elif info.task == "detection":
        kind = Detection
    else:
        options |= {
            "multilabel": info.task == "multilabel",
            "ordinal": info.task == "ordinal",
            "ignore_index": info.ignore_index,
        }
    known = signature(kind).parameters
    for name in options:
        if name not in known:
            raise InputError(f"model.{name} has no meaning for {info.task}, the task of {info.name!r}; leave it out")
    return kind(classes, **options)


def load_surrogates(
    info: DatasetInfo, config: RunConfig, victim: Victim, listed: Sequence[SurrogateConfig]
) -> dict[str, Victim]:
    """Other models of the victim's task and data, by name; two of the same name are numbered.

    Raises:
        InputError: one cannot be loaded.
    """
    found: dict[str, Victim] = {}
    for place, one in enumerate(listed):
        same = sum(other.label == one.label for other in listed[:place])
        model = _model(info, config, one.source, one).to(_device(config.device))
        mean, std = (
            getattr(config.model, name) if getattr(one, name) is None else getattr(one, name)
            for name in ("mean", "std")
        )
        channels_last = _in_library(info, one.source)
        name = f"{one.label} {same + 1}" if same else one.label
        found[name] = Victim(model, victim.task, victim.bounds, mean, std, channels_last=channels_last)
    return found


def _victim(info: DatasetInfo, config: RunConfig, source: str) -> Victim:
    device = _device(config.device)  # before a model is trained in vain
    settings = config.model
    costs = {} if config.harm is None else {"costs": _costs(info, config.harm)}
    if settings.over_slices is not None and info.spatial_dims != 3:
        raise InputError(f"model.over_slices is for volumes; the images of {info.name!r} have no third axis")
    model = _model(info, config, source, settings).to(device)
    bounds = info.bounds if settings.bounds is None else settings.bounds
    options = settings.task_options() | costs
    if info.source.startswith(EMBEDDED) and info.task == "segmentation":
        options = {"success_dice": EMBEDDED_SUCCESS_DICE, **options}
    task = task_for(info, **options)
    if not gives_gradients(model):
        return _black_box(model, task, bounds, settings)
    if settings.probabilities:
        raise InputError(
            f"model.probabilities is for black boxes (onnx:, or a python: function); {source} is a network"
        )
    how = {"channels_last": _in_library(info, source), **settings.victim_options()}
    victim = Victim(model, task, bounds, settings.mean, settings.std, **how)
    return victim if settings.defence is None else defended(victim, make_transform(settings.defence), config.seed)


def _costs(info: DatasetInfo, harm: object) -> Costs:
    if info.task not in ("classification", "ordinal"):
        raise InputError(f"harm is for one answer among classes; {info.name!r} is for {info.task}, leave it out")
    return read_harm(harm, info.classes, info.task == "ordinal")


def _black_box(model: nn.Module, task: Task, bounds: tuple[float, float], settings: ModelConfig) -> Victim:
    for name in ("defence", *settings.victim_options()):
        if getattr(settings, name) is not None:
            raise InputError(f"model.{name} is for networks; a black box runs as it is, leave it out")
    mean, std = settings.mean, settings.std
    if getattr(model, "in_data_units", False) and (mean is not None or std is not None):
        mean = std = None
        told = f"{settings.source} has its normalisation inside, as medrobust exported it: mean and std are left out"
        warnings.warn(told, MedrobustWarning, stacklevel=2)
    return BlackBox(model, task, bounds, mean, std, probabilities=settings.probabilities)


def _model(info: DatasetInfo, config: RunConfig, source: str, of: ModelConfig | SurrogateConfig) -> nn.Module:
    """The model of a source, run window by window or slice by slice if the configuration says so."""
    model = load_model(
        source,
        outputs=of.outputs or len(info.classes),
        channels=info.channels,
        task=info.task,
        weights=of.weights,
        spatial_dims=info.spatial_dims if config.model.over_slices is None else 2,
    )
    if of.weights is None and source.partition(":")[0] in UNTRAINED:
        warnings.warn(
            f"{source} without --weights is untrained: its figures say nothing",
            MedrobustWarning,
            stacklevel=2,
        )
    return config.model.wrapped(model)


def _in_library(info: DatasetInfo, source: str) -> bool:
    """Is it a 2-D network of a library, which runs in channels_last?"""
    return info.spatial_dims == 2 and source.partition(":")[0] in LIBRARIES


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"device {name!r} cannot be used: {str(error).splitlines()[0][:120]}") from error
    return device
