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
    """Method, budget and parts of the data. Further keys are the options of `medrobust.training.Training`."""

    model_config = ConfigDict(extra="allow", frozen=True)
    method: str = "smia-at"
    options: dict[str, Any] = Field(default={})
    surrogates: list[SurrogateConfig] = Field(default=[])
    eps: str | float = "2/255"
    split: str = "train"
    validation_split: str | None = None
    validation_images: int = Field(default=64, ge=1)

    @field_validator("surrogates", mode="before")
    @classmethod
    def _by_source(cls, value: object) -> object:
        return surrogates_by_source(value)

    def check(self) -> None:
        """Raise `InputError` when method and options do not fit, before any model is loaded."""
        self.training()
        if self._of_others():
            if not self.surrogates:
                raise InputError("method ensemble attacks other models, too: give harden.surrogates, or --surrogate")
            return
        if self.surrogates:
            raise InputError(f"harden.surrogates are for the method ensemble, not for {self.method}: leave them out")
        self.build_method()

    def build_method(self, others: Sequence[Victim] = ()) -> Method:
        """The method with its options, for `ensemble` with the other models that it attacks.

        Raises:
            InputError: no such method or option, or an option has no such value.
        """
        given = {"others": others} if self._of_others() else {}
        return make_method(self.method, **self.options, **given)

    def _of_others(self) -> bool:
        return self.method in METHODS and METHODS[self.method].make is EnsembleTraining

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
        """What the model is to stand, for these data.

        Raises:
            InputError: eps has another unit than the data, or is not given where they are not in [0, 1].
        """
        if info.unit != "[0, 1]" and "eps" not in self.model_fields_set:
            raise InputError(f"{info.name!r} is not in [0, 1] but in {info.unit}: give harden.eps")
        return make_threat(norm, Budget.parse(self.eps, "harden.eps").in_unit(info.unit))
