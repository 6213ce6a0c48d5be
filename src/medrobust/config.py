"""A run described in a file or on a command line: what may be typed, and what is wrong with what was."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pydantic
import yaml
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from torch import nn

from medrobust.attacks import ATTACKS, Attack, make_attack
from medrobust.budget import Budget
from medrobust.data import DataOptions, DatasetInfo
from medrobust.data.class_names import class_indices
from medrobust.errors import InputError, unknown
from medrobust.models import OverSlices, SlidingWindow
from medrobust.region import Region
from medrobust.threat import Norm, Threat

EMBEDDED = "embedded"


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DataConfig(_Section):
    """Where the images are. Further keys are the options of `DataOptions`."""

    model_config = ConfigDict(extra="allow", frozen=True)
    path: str = EMBEDDED

    def options(self, skip_bad: bool) -> DataOptions:
        """The other keys, for data of which bad samples are to be skipped or not.

        Raises:
            InputError: there is no such option, or it has no such value.
        """
        known = DataOptions.__dataclass_fields__
        given: dict[str, Any] = self.model_extra or {}
        for name in given:
            if name not in known:
                raise unknown("option of data", name, known)
        return DataOptions(**{"skip_bad": skip_bad, **given})


class ModelConfig(_Section):
    """Where the model is from, how it wants its images, and what counts as a right answer of it."""

    source: str = EMBEDDED
    weights: Path | None = None
    outputs: int | None = Field(default=None, ge=1)
    mean: list[float] | float | None = None
    std: list[float] | float | None = None
    bounds: tuple[float, float] | None = None
    success_dice: float | None = None
    surface_tolerance: float | None = None
    lesion_classes: list[str | int] | None = None
    score: float | None = None
    iou: float | None = None
    success_f1: float | None = None
    window: list[int] | None = None
    overlap: float = 0.25
    over_slices: int | str | None = None
    probabilities: bool = False

    @model_validator(mode="after")
    def _one_wrapper(self) -> ModelConfig:
        if self.window is not None and self.over_slices is not None:
            raise ValueError("window and over_slices cannot both be given: the first is for a model of volumes")
        return self

    def task_options(self) -> dict[str, Any]:
        """The options of the task that were given."""
        names = ("success_dice", "surface_tolerance", "lesion_classes", "score", "iou", "success_f1")
        return {name: value for name in names if (value := getattr(self, name)) is not None}

    def wrapped(self, model: nn.Module) -> nn.Module:
        """The model, to be run window by window or slice by slice if that is configured.

        Raises:
            InputError: an option has no such value.
        """
        if self.window is not None:
            return SlidingWindow(model, self.window, self.overlap)
        return model if self.over_slices is None else OverSlices(model, self.over_slices)


class ThreatConfig(_Section):
    """What the attacker may change."""

    norm: Norm = "linf"
    eps: list[str | float] = Field(default=["1/255", "2/255", "4/255", "8/255"], min_length=1)
    quantum: str | float | None = None
    inside: list[str | int] | str | int | None = None
    outside: list[str | int] | str | int | None = None
    margin: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _one_region(self) -> ThreatConfig:
        if self.inside is not None and self.outside is not None:
            raise ValueError("inside and outside cannot both be given")
        if self.margin and self.inside is None and self.outside is None:
            raise ValueError("margin extends the classes of inside or outside: give one of them")
        return self

    @field_validator("eps", mode="before")
    @classmethod
    def _one_or_more(cls, value: object) -> object:
        return value if isinstance(value, list) else [value]

    @field_validator("eps")
    @classmethod
    def _readable(cls, value: list[str | float]) -> list[str | float]:
        for eps in value:
            Budget.parse(eps)
        return value

    def threats(self, info: DatasetInfo, usual: Sequence[str | float] | None = None) -> list[Threat]:
        """One threat per eps, for these data; `usual` budgets, in [0, 1], are for when none were given.

        Raises:
            InputError: eps has another unit than the data, or is not given for data in a unit; there is no such class.
        """
        given = "eps" in self.model_fields_set
        unit, region = info.unit, self._region(info)
        if unit != "[0, 1]" and not given:
            example = "10HU" if unit == "HU" else "a number in the unit of the files"
            raise InputError(f"{info.name!r} is not in [0, 1] but in {unit}: give eps, {example} (or set data.window)")
        quantum = None if self.quantum is None else Budget.parse(self.quantum).in_unit(unit)
        budgets = [Budget.parse(eps).in_unit(unit) for eps in (self.eps if given or usual is None else usual)]
        return [Threat(eps, self.norm, quantum=quantum, region=region) for eps in budgets]

    def _region(self, info: DatasetInfo) -> Region | None:
        wanted = self.inside if self.outside is None else self.outside
        if wanted is None:
            return None
        if info.task not in ("segmentation", "detection"):
            raise InputError(f"threat.inside and threat.outside need masks or boxes; {info.name!r} is for {info.task}")
        classes = class_indices(wanted, info.classes)
        return Region(classes, outside=self.outside is not None, margin=self.margin)


class RunConfig(_Section):
    """A whole run, as `medrobust init` writes it."""

    name: str | None = None
    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    attacks: dict[str, dict[str, Any]] = Field(default={"fgsm": {}, "pgd": {}, "smia": {}}, min_length=1)
    threat: ThreatConfig = ThreatConfig()
    seed: int = 0
    batch_size: int = Field(default=16, ge=1)
    device: str = "auto"
    gallery: int = Field(default=6, ge=0)
    skip_bad: bool = False
    survive: bool = False
    out: Path | None = None

    @field_validator("data", mode="before")
    @classmethod
    def _data_by_path(cls, value: object) -> object:
        return {"path": value} if isinstance(value, str) else value

    @field_validator("model", mode="before")
    @classmethod
    def _model_by_source(cls, value: object) -> object:
        return {"source": value} if isinstance(value, str) else value

    @field_validator("attacks", mode="before")
    @classmethod
    def _attacks_by_name(cls, value: object) -> object:
        if isinstance(value, str):
            value = [name.strip() for name in value.split(",")]
        if isinstance(value, list):
            for name in value:
                if value.count(name) > 1:
                    raise ValueError(f"{name!r} is given twice; give each its own label: label: {{attack: {name}}}")
            return {name: {} for name in value}
        if isinstance(value, dict):
            return {label: {} if options is None else options for label, options in value.items()}
        return value

    @property
    def label(self) -> str:
        """A short name, for the folder of a run."""
        return self.name or Path(self.data.path).stem.replace(":", "-") or "run"

    def build_attacks(self) -> dict[str, Attack]:
        """Label → attack; the label names the attack unless its options do.

        Raises:
            InputError: no such attack, or no such option of it.
        """
        return {label: self.build_attack(label) for label in self.attacks}

    def check_attacks(self, info: DatasetInfo) -> None:
        """Raise `InputError` when an attack is not for the task of these data."""
        for label, options in self.attacks.items():
            entry = ATTACKS.get(str((options or {}).get("attack", label)))
            if entry is not None and entry.tasks and info.task not in entry.tasks:
                raise InputError(
                    f"attack {label!r} is for {' or '.join(entry.tasks)}; {info.name!r} is for {info.task}"
                )

    def build_attack(self, label: str) -> Attack:
        """The attack of that label; one that the configuration does not list is the catalogue's, with its defaults.

        Raises:
            InputError: no such attack, or no such option of it.
        """
        options = dict(self.attacks.get(label, {}))
        if isinstance(options.get("step_size"), str):
            options["step_size"] = Budget.parse(options["step_size"]).eps
        return make_attack(str(options.pop("attack", label)), options)


def read_config(path: Path | None, overrides: Mapping[str, object]) -> RunConfig:
    """Read a YAML file (or none), put `overrides` over it (dotted keys, None left out) and check all.

    Raises:
        InputError: the file cannot be read, or a field has no such name or value; the message names file and field.
    """
    fields = {} if path is None else _read_yaml(path)
    for dotted, value in overrides.items():
        if value is not None:
            _put(fields, dotted.split("."), value)
    try:
        return RunConfig.model_validate(fields)
    except pydantic.ValidationError as error:
        where = "" if path is None else f"{path}: "
        raise InputError(where + _describe(error)) from error


def read_settings(texts: Sequence[str]) -> dict[str, object]:
    """Fields typed as `data.bounds=[-1300,3500]`, by dotted name; values are YAML.

    Raises:
        InputError: a text has another form.
    """
    found: dict[str, object] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise InputError(f"--set {text!r}: write <field>=<value>, e.g. data.bounds=[-1300,3500]")
        try:
            found[name.strip()] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise InputError(f"--set {text!r}: the value is not YAML: {getattr(error, 'problem', error)}") from error
    return found


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not a UTF-8 text file") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise InputError(f"{path}{line}: not YAML: {getattr(error, 'problem', error)}") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected fields (name: value), found a {type(content).__name__}")
    return content


def _put(fields: dict[str, Any], keys: Sequence[str], value: object) -> None:
    """Set a dotted field; a section written in its short form becomes a mapping first."""
    if len(keys) == 1:
        fields[keys[0]] = value
        return
    short = {"data": "path", "model": "source"}
    section = fields.get(keys[0]) or {}
    if not isinstance(section, dict):
        section = {short.get(keys[0], ""): section}
    section = dict(section)
    _put(section, keys[1:], value)
    fields[keys[0]] = section


def _describe(error: pydantic.ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    field = ".".join(str(key) for key in first["loc"])
    if first["type"] == "extra_forbidden":
        parent = RunConfig
        for key in first["loc"][:-1]:
            parent = parent.model_fields[str(key)].annotation  # type: ignore[assignment]
        return str(unknown("field", field, (".".join([*map(str, first["loc"][:-1]), n]) for n in parent.model_fields)))
    if first["type"] == "value_error":
        return f"{field}: {first['ctx']['error']}"
    return f"{field}: {first['msg']}, got {first['input']!r}"
