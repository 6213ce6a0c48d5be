"""A whole run, as a file or a command line describes it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator

from medrobust.attacks import Attack, make_attack
from medrobust.attacks.catalogue import ENSEMBLE, entry_of
from medrobust.attacks.written import attack_at, members_at, named
from medrobust.config.data import DataConfig
from medrobust.config.harden import HardenConfig
from medrobust.config.model import ModelConfig, SurrogateConfig, surrogates_by_source
from medrobust.config.section import Section
from medrobust.config.threat import ThreatConfig
from medrobust.data import DatasetInfo
from medrobust.errors import InputError


class RunConfig(Section):
    """A whole run, as `medrobust init` writes it."""

    name: str | None = None
    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    surrogates: list[SurrogateConfig] = Field(default=[])
    attacks: dict[str, dict[str, Any]] = Field(default={"fgsm": {}, "pgd": {}, "smia": {}}, min_length=1)
    threat: ThreatConfig = ThreatConfig()
    harden: HardenConfig = HardenConfig()
    harm: Any = None
    seed: int = 0
    batch_size: int = Field(default=16, ge=1)
    device: str = "auto"
    gallery: int = Field(default=6, ge=0)
    skip_bad: bool = False
    survive: bool = False
    trust: int = Field(default=16, ge=0)
    expect_accuracy: float | None = None
    out: Path | None = None

    @field_validator("data", mode="before")
    @classmethod
    def _data_by_path(cls, value: object) -> object:
        return {"path": value} if isinstance(value, str) else value

    @field_validator("model", mode="before")
    @classmethod
    def _model_by_source(cls, value: object) -> object:
        return {"source": value} if isinstance(value, str) else value

    @field_validator("surrogates", mode="before")
    @classmethod
    def _surrogates_by_source(cls, value: object) -> object:
        return surrogates_by_source(value)

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

    def written(self) -> dict[str, Any]:
        """As JSON holds it, for the records of a run; how a model is hardened is no part of one."""
        return self.model_dump(mode="json", exclude={"harden"})

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
        """Raise `InputError` when an attack, or one of an ensemble, is not for the task of these data."""
        for label, options in self.attacks.items():
            _check_task(f"attacks.{label}", label, options, info)

    def build_attack(self, label: str) -> Attack:
        """The attack of that label; one that the configuration does not list is the catalogue's, with its defaults.

        Raises:
            InputError: no such attack, or no such option of it; the message names the place.
        """
        if label not in self.attacks:
            return make_attack(label)
        return attack_at(f"attacks.{label}", label, self.attacks[label])


def _check_task(place: str, label: str, options: Mapping[str, Any], info: DatasetInfo) -> None:
    name = named(label, options)
    if name == ENSEMBLE:
        for member, written in members_at(f"{place}.members", options.get("members")).items():
            if isinstance(written, Mapping):
                _check_task(f"{place}.members.{member}", member, written, info)
    tasks = entry_of(name).tasks
    if tasks and info.task not in tasks:
        raise InputError(f"{place}: attack {name!r} is for {' or '.join(tasks)}; {info.name!r} is for {info.task}")
