"""The section `harden`: how a model is made to hold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import ConfigDict, Field, field_validator

from medrobust.budget import Budget
from medrobust.config.model import SurrogateConfig, surrogates_by_source
from medrobust.config.section import Section
from medrobust.data import DatasetInfo
from medrobust.errors import InputError, unknown
from medrobust.threat import Threat, make_threat
from medrobust.training import METHODS, Method, Training, make_method
from medrobust.training.adversarial import EnsembleTraining
from medrobust.victim import Victim


class HardenConfig(Section):
    """Methods, budgets and parts of the data. Further keys are the options of `medrobust.training.Training`."""

    model_config = ConfigDict(extra="allow", frozen=True)
    method: list[str] = Field(default=["smia-at"], min_length=1)
    options: dict[str, Any] = Field(default={})
    surrogates: list[SurrogateConfig] = Field(default=[])
    eps: list[str | float] = Field(default=["2/255"], min_length=1)
    split: str = "train"
    validation_split: str | None = None
    validation_images: int = Field(default=64, ge=1)

    @field_validator("method", "eps", mode="before")
    @classmethod
    def _one_or_more(cls, value: object) -> object:
        listed = [one.strip() for one in value.split(",")] if isinstance(value, str) else value
        listed = listed if isinstance(listed, list) else [listed]
        for one in listed:
            if listed.count(one) > 1:
                raise ValueError(f"{one!r} is given twice")
        return listed

    @field_validator("eps")
    @classmethod
    def _readable(cls, value: list[str | float]) -> list[str | float]:
        for eps in value:
            Budget.parse(eps, "harden.eps")
        return value

    @field_validator("method")
    @classmethod
    def _in_the_catalogue(cls, value: list[str]) -> list[str]:
        for name in value:
            if name not in METHODS:
                raise unknown("method", name, METHODS)
        return value

    @property
    def label(self) -> str:
        """A short name of the only method, at the only budget, for a folder: "smia-at"."""
        return self.method[0] if len(self.method) == 1 else "methods"

    def each(self) -> dict[str, HardenConfig]:
        """Name → one method at one budget; the name tells the budget where there are several: "smia-at 2/255"."""
        found = {}
        for method in self.method:
            own = {name: value for name, value in self.options.items() if name not in METHODS or name == method}
            alone = {"method": [method], "options": own} | ({} if _of_others(method) else {"surrogates": []})
            if len(self.eps) == 1:
                found[method] = self.model_copy(update=alone)
                continue
            for eps in self.eps:
                found[f"{method} {eps}"] = self.model_copy(update={**alone, "eps": [eps]})
        return found

    @field_validator("surrogates", mode="before")
    @classmethod
    def _by_source(cls, value: object) -> object:
        return surrogates_by_source(value)

    def check(self) -> None:
        """Raise `InputError` when methods and options do not fit, before any model is loaded."""
        self.training()
        of_others = any(_of_others(name) for name in self.method)
        if of_others and not self.surrogates:
            raise InputError("method ensemble attacks other models, too: give harden.surrogates, or --surrogate")
        if self.surrogates and not of_others:
            methods = " or ".join(self.method)
            raise InputError(f"harden.surrogates are for the method ensemble, not for {methods}: leave them out")
        for name in METHODS:
            if name in self.options and name not in self.method:
                raise InputError(f"harden.options.{name} is of a method that is not trained: leave it out")
            if not isinstance(self.options.get(name, {}), dict):
                raise InputError(f"harden.options.{name} are the options of that method, as in {{beta: 3}}")
        for one in self.each().values():
            if not _of_others(one.method[0]):
                one.build_method()

    def build_method(self, others: Sequence[Victim] = ()) -> Method:
        """The only method with its options, for `ensemble` with the other models that it attacks.

        Options under a method's name are its own.

        Raises:
            InputError: no such method or option, or an option has no such value.
        """
        (name,) = self.method
        shared = {option: value for option, value in self.options.items() if option not in METHODS}  # of all methods
        given = {"others": others} if _of_others(name) else {}
        return make_method(name, **shared, **self.options.get(name, {}), **given)

    def training(self) -> Training:
        """The other keys.

        Raises:
            InputError: there is no such option, or it has no such value.
        """
        given: dict[str, Any] = self.model_extra or {}
        for name in given:
            if name not in Training.__dataclass_fields__:
                raise unknown("option of harden", name, Training.__dataclass_fields__)
        return Training(**given)

    def threat(self, norm: str, info: DatasetInfo) -> Threat:
        """What the model is to stand by the only budget, for these data.

        Raises:
            InputError: eps has another unit than the data, or is not given where they are not in [0, 1].
        """
        if info.unit != "[0, 1]" and "eps" not in self.model_fields_set:
            raise InputError(f"{info.name!r} is not in [0, 1] but in {info.unit}: give harden.eps")
        return make_threat(norm, Budget.parse(self.eps[0], "harden.eps").in_unit(info.unit))


def _of_others(method: str) -> bool:
    return METHODS[method].make is EnsembleTraining
