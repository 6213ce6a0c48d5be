"""Every method by the name that users type. A new one is a file with its class and a line here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from medrobust.by_name import make
from medrobust.training.adversarial import (
    AdversarialTraining,
    Control,
    EnsembleTraining,
    GaussianTraining,
    SMIATraining,
    Smoothing,
)
from medrobust.training.fast import FastTraining, FreeTraining
from medrobust.training.method import Method
from medrobust.training.trades import MART, TRADES


@dataclass(frozen=True)
class MethodEntry:
    """A method of the catalogue.

    Attributes:
        make: its class.
        summary: what it does, in a line.
        source: its paper.
    """

    make: Callable[..., Method]
    summary: str
    source: str


METHODS: dict[str, MethodEntry] = {
    "control": MethodEntry(Control, "plain fine-tuning on clean images: what the others are compared with", ""),
    "pgd-at": MethodEntry(AdversarialTraining, "training on images attacked by PGD", "arXiv:1706.06083"),
    "smia-at": MethodEntry(
        SMIATraining, "SMIA inside, and its stabilization term trained into the weights", "arXiv:2103.05232"
    ),
    "trades": MethodEntry(TRADES, "the clean loss, and the distance of the attacked answer", "arXiv:1901.08573"),
    "mart": MethodEntry(MART, "as pgd-at, with more weight for images that are not sure", "ICLR 2020, rklOg6EFwS"),
    "fgsm-rs": MethodEntry(FastTraining, "a single step from a random start, watched over", "arXiv:2001.03994"),
    "free": MethodEntry(FreeTraining, "one backward pass moves weights and images alike", "arXiv:1904.12843"),
    "ensemble": MethodEntry(EnsembleTraining, "images attacked on other models, too", "arXiv:1705.07204"),
    "smoothing": MethodEntry(Smoothing, "the clean loss, and the same answer to the smoothed image", ""),
    "gaussian": MethodEntry(GaussianTraining, "the loss under Gaussian noise: to be certified", "arXiv:1902.02918"),
}


def make_method(name: str, /, **options: Any) -> Method:
    """The method of that name.

    Raises:
        InputError: there is no such name or option, an option is missing, or has no such value.
    """
    makers: Mapping[str, Callable[..., Method]] = {name: entry.make for name, entry in METHODS.items()}
    return cast("Method", make("method", makers, name, options))
