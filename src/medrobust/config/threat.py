"""The section `threat`: what the attacker may change, and how much."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import Field, field_validator, model_validator

from medrobust.budget import Budget
from medrobust.config.section import Section
from medrobust.data import DatasetInfo
from medrobust.data.class_names import class_indices
from medrobust.errors import InputError, unknown
from medrobust.region import Region
from medrobust.threat import THREATS, Threat, make_threat
from medrobust.threat.catalogue import threat_options

FIELDS = {"mask": "inside or threat.outside", "region": "inside or threat.outside", "quantum": "quantum"}
"""Options of threats that are fields of the section by themselves."""


class ThreatConfig(Section):
    """What the attacker may change."""

    norm: str = "linf"
    options: dict[str, Any] = Field(default={}, validate_default=False)
    eps: list[str | float] = Field(default=["1/255", "2/255", "4/255", "8/255"], min_length=1)
    quantum: str | float | None = None
    inside: list[str | int] | str | int | None = None
    outside: list[str | int] | str | int | None = None
    margin: int = Field(default=0, ge=0)

    @field_validator("norm")
    @classmethod
    def _in_the_catalogue(cls, value: str) -> str:
        if value not in THREATS:
            raise unknown("threat", value, THREATS)
        return value

    @model_validator(mode="after")
    def _known_options(self) -> ThreatConfig:
        known = [name for name in threat_options(self.norm) if name not in FIELDS]
        for option in self.options:
            if option in FIELDS:
                raise ValueError(f"{option} is no entry of options: write threat.{FIELDS[option]}")
            if option not in known:
                raise unknown(f"option of threat {self.norm}", option, known)
        return self

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
        """One threat per eps, for these data; `usual` budgets, of L∞ in [0, 1], are for when none were given.

        Raises:
            InputError: eps has another unit than data or threat, or is not given where there are no usual budgets;
                there is no such class, or the threat takes no region.
        """
        own, given = THREATS[self.norm], "eps" in self.model_fields_set
        if own.unit is None and info.unit != "[0, 1]" and not given:
            example = "10HU" if info.unit == "HU" else "a number in the unit of the files"
            raise InputError(
                f"{info.name!r} is not in [0, 1] but in {info.unit}: give eps, {example} (or set data.window)"
            )
        if self.norm != "linf" and not given:
            raise InputError(f"threat.norm {self.norm} has no usual budgets: give eps, e.g. {own.example}")
        of = {"unit": info.unit} if own.unit is None else {"unit": own.unit, "of": f"the threat {self.norm}"}
        budgets = [Budget.parse(eps).in_unit(**of) for eps in (self.eps if given or usual is None else usual)]
        options = dict(self.options)
        if self.quantum is not None:
            options["quantum"] = Budget.parse(self.quantum, "quantum").in_unit(info.unit)
        if (region := self._region(info)) is not None:
            options["region"] = region
        return [make_threat(self.norm, eps, **options) for eps in budgets]

    def _region(self, info: DatasetInfo) -> Region | None:
        wanted = self.inside if self.outside is None else self.outside
        if wanted is None:
            return None
        if info.task not in ("segmentation", "detection"):
            raise InputError(f"threat.inside and threat.outside need masks or boxes; {info.name!r} is for {info.task}")
        classes = class_indices(wanted, info.classes)
        return Region(classes, outside=self.outside is not None, margin=self.margin)
