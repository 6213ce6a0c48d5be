"""The sections `model` and `surrogates`: where a model is from, and how it wants its images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field, field_validator, model_validator
from torch import nn

from medrobust.config.data import EMBEDDED
from medrobust.config.section import Section
from medrobust.models import OverSlices, SlidingWindow
from medrobust.transforms import make_transform


class ModelConfig(Section):
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
    defence: Any = None
    channels_last: bool | None = None
    compile: bool | None = None
    autocast: str | None = None

    @field_validator("defence")
    @classmethod
    def _a_transform(cls, value: object) -> object:
        if value is not None:
            make_transform(value)
        return value

    @model_validator(mode="after")
    def _one_wrapper(self) -> ModelConfig:
        if self.window is not None and self.over_slices is not None:
            raise ValueError("window and over_slices cannot both be given: the first is for a model of volumes")
        return self

    def task_options(self) -> dict[str, Any]:
        """The options of the task that were given."""
        names = ("success_dice", "surface_tolerance", "lesion_classes", "score", "iou", "success_f1")
        return {name: value for name in names if (value := getattr(self, name)) is not None}

    def victim_options(self) -> dict[str, Any]:
        """How the model is run, where that was given."""
        names = ("channels_last", "compile", "autocast")
        return {name: value for name in names if (value := getattr(self, name)) is not None}

    def wrapped(self, model: nn.Module) -> nn.Module:
        """The model, to be run window by window or slice by slice if that is configured.

        Raises:
            InputError: an option has no such value.
        """
        if self.window is not None:
            return SlidingWindow(model, self.window, self.overlap)
        return model if self.over_slices is None else OverSlices(model, self.over_slices)


class SurrogateConfig(Section):
    """Another model, on which images are made that are then shown to the attacked one."""

    source: str
    name: str | None = Field(default=None, min_length=1)
    weights: Path | None = None
    outputs: int | None = Field(default=None, ge=1)
    mean: list[float] | float | None = None
    std: list[float] | float | None = None

    @property
    def label(self) -> str:
        """Its name in the labels of attacks: that of its source when it has none of its own."""
        return self.name or self.source.rpartition(":")[2]


def surrogates_by_source(value: object) -> object:
    """A list of surrogates as a file may write it: one alone, or by their sources alone."""
    listed = value if isinstance(value, list) else [value]
    return [{"source": one} if isinstance(one, str) else one for one in listed]
