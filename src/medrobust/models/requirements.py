"""What a model must fit: the numbers that come from the data and the task, not from the model's name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from medrobust.data.dataset import TaskName
from medrobust.errors import InputError

NetworkKind = Literal["classification", "segmentation", "detection"]


@dataclass(frozen=True)
class Requirements:
    """What `load_model` asks of a source.

    Attributes:
        outputs: width of the model's answer (classes, labels, or 1 for a single logit); of a detector the number of
            classes, without a background.
        channels: image channels it must take.
        task: what its answer is for.
        spatial_dims: 2 for `(B, C, H, W)`, 3 for `(B, C, D, H, W)`.
    """

    outputs: int
    channels: int
    task: TaskName
    spatial_dims: int = 2

    def __post_init__(self) -> None:
        if self.outputs < 1 or self.channels < 1:
            raise InputError(f"a model needs at least 1 output and 1 channel, got {self.outputs} and {self.channels}")
        if self.spatial_dims not in (2, 3):
            raise InputError(f"spatial_dims must be 2 or 3, got {self.spatial_dims}")

    @property
    def kind(self) -> NetworkKind:
        """What its answer is about: the whole image, every pixel, or the objects in it."""
        if self.task in ("segmentation", "detection"):
            return self.task
        return "classification"
