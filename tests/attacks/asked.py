"""Victims of every kind that are right before the attack, and functions that count what they are asked."""

from __future__ import annotations

import torch
from attacks.test_contract import CASES, build
from torch import Tensor

from medrobust.black_box import BlackBox
from medrobust.threat import Threat
from medrobust.victim import Victim

# kinds of victims that differ in what an attack without gradients must cope with
KINDS = (
    "3 channels",
    "3-D",
    "two classes",
    "one logit, no axis",
    "multi-label unknown",
    "ordinal cumulative",
    "HU",
    "float16 images",
    "non-contiguous",
    "segmentation ignored",
    "segmentation multi-label",
    "flat volume",
)


def right(kind: str) -> tuple[Victim, Tensor, Tensor]:
    """A victim with images that it answers as `truth` says."""
    victim, images, truth = build(CASES[kind])
    with torch.no_grad():
        answer = victim.task.predict(victim(images))
    ignore = getattr(victim.task, "ignore_index", None)
    return victim, images, answer if ignore is None else torch.where(truth == ignore, truth, answer)


class Counting:
    """A black box over a victim's model; `asked` counts by the first value of an image, which nothing may change."""

    def __init__(self, victim: Victim) -> None:
        self.inner, self.asked, self.least, self.most = victim, 0, torch.inf, -torch.inf

    def __call__(self, images: Tensor) -> Tensor:
        self.asked += len(images)
        self.least, self.most = min(self.least, float(images.min())), max(self.most, float(images.max()))
        return self.inner(images)

    @property
    def victim(self) -> BlackBox:
        return BlackBox(self, self.inner.task, self.inner.bounds)


def threat(kind: str, norm: str, **options) -> Threat:
    return Threat(CASES[kind].eps * (1 if norm == "linf" else 3), norm=norm, **options)


def sizes(delta: Tensor, norm: str) -> Tensor:
    flat = delta.double().flatten(1)
    return flat.abs().amax(1) if norm == "linf" else flat.norm(dim=1)
