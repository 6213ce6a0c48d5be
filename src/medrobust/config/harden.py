"""The section `harden`: how a model is made to hold."""

from __future__ import annotations

from typing import Any

from pydantic import ConfigDict, Field

from medrobust.budget import Budget
from medrobust.config.section import Section
from medrobust.data import DatasetInfo
from medrobust.errors import InputError, unknown
from medrobust.threat import Threat, make_threat
from medrobust.training import Method, Training, make_method


class HardenConfig(Section):
    """Method, budget and parts of the data. Further keys are the options of `medrobust.training.Training`."""

    model_config = ConfigDict(extra="allow", frozen=True)
    method: str = "smia-at"
    options: dict[str, Any] = Field(default={})
    eps: str | float = "2/255"
    split: str = "train"
    validation_split: str | None = None
    validation_images: int = Field(default=64, ge=1)

    def build_method(self) -> Method:
        """The method with its options.

        Raises:
            InputError: no such method or option, or an option has no such value.
        """
        return make_method(self.method, **self.options)

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
