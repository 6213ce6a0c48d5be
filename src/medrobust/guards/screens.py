"""Screens: what tells from an image, and from a model's answer to it, how suspicious it is of having been attacked."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from medrobust.attacks.per_image import rows_of
from medrobust.errors import InputError
from medrobust.tasks import Task, position_mean
from medrobust.transforms import BitDepth, MedianFilter, Smooth, Transform, make_transform
from medrobust.victim import Victim


class Screen(ABC):
    """Detects attacked images. A figure against attacks that do not know it is worth nothing on its own.

    Carlini, Wagner: Adversarial Examples Are Not Easily Detected, AISec 2017, arXiv 1705.07263, broke ten detectors;
    Tramèr, Carlini, Brendel, Mądry: On Adaptive Attacks to Adversarial Example Defenses, NeurIPS 2020, arXiv
    2002.08347, thirteen defences. So `medrobust.screen` attacks each screen by an attack that knows it.
    """

    @abstractmethod
    def __call__(self, victim: Victim, images: Tensor, outputs: Any) -> Tensor:
        """Suspicion of each image, `(B,)`, higher where it is more suspicious; differentiable in the images.

        Args:
            victim: the model that the images are for, in use (`evaluating()`).
            images: `(B, C, *spatial)` in data units.
            outputs: the model's for these images.
        """

    @abstractmethod
    def describe(self) -> dict[str, object]:
        """Name ("screen") and options, for records and reports."""


@dataclass(frozen=True)
class Squeezing(Screen):
    """How far the model's answer moves when what an attack may have hidden is squeezed out of the image.

    Xu, Evans, Qi: Feature Squeezing, NDSS 2018, arXiv 1704.01155, section V: the largest L1 distance of the predicted
    probabilities, over the squeezers; in [0, 2]. Of several labels, masks and boxes, the mean over labels, pixels and
    places. Their squeezers are bit depth, a median and non-local means, in the place of which a Gaussian stands here.

    Args:
        squeezers: transforms that do not draw, or what a configuration writes for them: "median", {"bit_depth":
            {"bits": 4}}.

    Raises:
        InputError: there is none, or one is random.
    """

    squeezers: Sequence[Transform] = (BitDepth(5), MedianFilter(3), Smooth())

    def __post_init__(self) -> None:
        made = tuple(make_transform(one) for one in self.squeezers)
        if not made:
            raise InputError("squeezing needs at least one squeezer, e.g. median")
        for one in made:
            if one.random:
                raise InputError(f"a squeezer must do the same each time, {type(one).__name__} draws")
        object.__setattr__(self, "squeezers", made)

    def __call__(self, victim: Victim, images: Tensor, outputs: Any) -> Tensor:
        """See `Screen`: all squeezed images go through the model in one batch."""
        count = len(images)
        squeezed = victim.forward(torch.cat([squeeze(images, victim.bounds) for squeeze in self.squeezers]))
        each = [rows_of(squeezed, place * count + torch.arange(count)) for place in range(len(self.squeezers))]
        return torch.stack([_l1(victim.task, outputs, others) for others in each]).amax(0)

    def describe(self) -> dict[str, object]:
        """The squeezers."""
        return {"screen": "squeezing", "squeezers": [told for one in self.squeezers for told in one.describe()]}


def _l1(task: Task, outputs: Any, others: Any) -> Tensor:
    """Σ|p − q| of two predictions, `(B,)`, the mean over positions."""
    places = task.places(outputs)
    log_p, log_q = task.log_probs_at(outputs, places), task.log_probs_at(others, places)
    return position_mean((log_p.exp() - log_q.exp()).abs().sum(1), task.used_by_both(log_p, log_q, None))
