"""Attacks of this package and of other libraries as functions of a setting and a number of steps.

A library that is not installed, or an attack that the catalogue has not got, raises at the call: `peers.py` skips it.
"""

from __future__ import annotations

import logging
import sys
import types
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

import medrobust as mr
from medrobust.attacks import make_attack

Runner = Callable[["Setting", int], Tensor]
"""Attacked images, after so many steps (queries)."""


@dataclass(frozen=True)
class Setting:
    """A network, images that it answers right, and budgets.

    Attributes:
        model: from `(B, 3, H, W)` in [0, 1] to logits of `classes`, `(B, K)` or, for masks, `(B, K, H, W)`.
        truth: `(B,)` or `(B, H, W)`.
        eps: of the norms "linf", "l2" and "l1"; a step is a quarter of it.
    """

    model: nn.Module
    images: Tensor
    truth: Tensor
    classes: int
    eps: dict[str, float]

    @property
    def victim(self) -> mr.Victim:
        """The network as our attacks take it."""
        dense = self.truth.ndim > 1
        return mr.Victim(self.model, mr.Segmentation(self.classes) if dense else mr.Classification(self.classes))

    @cached_property
    def pool(self) -> Tensor:
        """Two images of different answers, so that one of them is a wrong one for whatever truth."""
        some = torch.cat([self.images, torch.zeros_like(self.images[:1]), torch.ones_like(self.images[:1])])
        with torch.no_grad():
            answers = self.model(some).argmax(1)
        return some[[0, int((answers != answers[0]).nonzero()[0])]]


@dataclass(frozen=True)
class Twins:
    """An attack and its twin.

    Attributes:
        name: of the catalogue, with what is particular.
        library: the twin's.
        goal: what our time is to be at most, of the twin's.
        long: steps (queries) of the run that is timed.
        short: steps of one that is timed besides, and taken off; 0: the whole call counts.
        wider: times the setting's eps.
        dense: on masks.
        wanted: the answers that both move towards; None: away from the truth.
    """

    name: str
    library: str
    ours: Runner
    theirs: Runner
    goal: float
    long: int
    short: int = 0
    norm: str = "linf"
    wider: float = 1.0
    dense: bool = False
    wanted: Callable[[Setting], Tensor] | None = None


def eps(setting: Setting) -> float:
    """As an option: the budget in L∞."""
    return setting.eps["linf"]


def step(setting: Setting) -> float:
    """As an option: the length of a step in L∞."""
    return setting.eps["linf"] / 4


def others(setting: Setting) -> int:
    """As an option: the number of wrong classes."""
    return setting.classes - 1


def classes(setting: Setting) -> int:
    """As an option: the number of classes."""
    return setting.classes


def count(setting: Setting) -> int:
    """As an option: the number of images."""
    return len(setting.images)


def told(setting: Setting, options: dict[str, Any]) -> dict[str, Any]:
    """Options, those that depend on the setting asked of it."""
    return {name: value(setting) if callable(value) else value for name, value in options.items()}


def ours(name: str, steps_are: str = "steps", *, norm: str = "linf", **options: object) -> Runner:
    """An attack of the catalogue; `steps_are` is what its steps are called."""

    def run(setting: Setting, steps: int) -> Tensor:
        given = told(setting, options) | ({steps_are: steps} if steps_are else {})
        attack: Any = make_attack(name, given)
        threat = mr.Threat(setting.eps[norm], norm=norm)
        found: Tensor = attack(setting.victim, setting.images, setting.truth, threat).adversarial
        return found

    return run


def torchattacks(name: str, steps_are: str = "steps", **options: object) -> Runner:
    """An attack of torchattacks."""

    def run(setting: Setting, steps: int) -> Tensor:
        given = told(setting, options) | ({steps_are: steps} if steps_are else {})
        attack = getattr(import_module("torchattacks"), name)(setting.model, **given)
        return asked(setting, attack(setting.images, setting.truth))

    return run


def foolbox(name: str, norm: str = "linf", *, starts: bool = False, **options: object) -> Runner:
    """An attack of foolbox; `starts`: from images of the pool."""

    def run(setting: Setting, steps: int) -> Tensor:
        library: Any = import_module("foolbox")
        attack = getattr(library.attacks, name)(steps=steps, **told(setting, options))
        model = library.PyTorchModel(setting.model, bounds=(0, 1), device=setting.images.device)
        given = {"starting_points": _wrong_ones(setting)} if starts else {}
        found: Tensor = attack(model, setting.images, setting.truth, epsilons=setting.eps[norm], **given)[1]
        return found

    return run


def art(name: str, steps_are: str = "max_iter", *, starts: bool = False, **options: object) -> Runner:
    """An attack of the Adversarial Robustness Toolbox; `starts`: from images of the pool."""

    def run(setting: Setting, steps: int) -> Tensor:
        evasion: Any = import_module("art.attacks.evasion")
        estimators: Any = import_module("art.estimators.classification")
        images, truth = setting.images.cpu().numpy(), setting.truth.cpu().numpy()
        kind = "cpu" if setting.images.device.type == "cpu" else "gpu"
        classifier = estimators.PyTorchClassifier(
            _Single(setting.model).eval(),
            nn.CrossEntropyLoss(),
            images.shape[1:],
            setting.classes,
            clip_values=(0.0, 1.0),
            device_type=kind,
        )
        # a universal change's steps are those of the attack that it is made by
        inner = {"max_iter": steps, "verbose": False}
        given = {"attacker_params": inner} if steps_are == "attacker_params" else {steps_are: steps}
        attack = getattr(evasion, name)(classifier, verbose=False, **given, **told(setting, options))
        first = {"x_adv_init": _wrong_ones(setting).cpu().numpy()} if starts else {}
        return asked(setting, torch.from_numpy(attack.generate(images, y=truth, **first)).to(setting.images))

    return run


def adv_lib(name: str, steps_are: str, **options: object) -> Runner:
    """An attack of adv-lib."""

    def run(setting: Setting, steps: int) -> Tensor:
        attack = getattr(adv_lib_module("attacks"), name)
        given = {steps_are: steps, **told(setting, options)}
        return asked(setting, attack(setting.model, setting.images, setting.truth, **given))

    return run


def adv_lib_module(name: str) -> Any:
    """A module of adv-lib, whose logger imports a plotting server that only a callback uses."""
    sys.modules.setdefault("visdom", types.ModuleType("visdom"))
    return import_module(f"adv_lib.{name}")


class _Single(nn.Module):
    """The network for images in double precision, in which some of ART's attacks compute."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        """Logits of any images."""
        logits: Tensor = self.model(images.float())
        return logits


@torch.no_grad()
def asked(setting: Setting, attacked: Tensor) -> Tensor:
    """The images, after a look at what the model answers: ours and foolbox's attacks tell it, the others do not."""
    setting.model(attacked)
    return attacked


def _wrong_ones(setting: Setting) -> Tensor:
    """For each image the first of the pool that is answered otherwise."""
    with torch.no_grad():
        answers = setting.model(setting.pool).argmax(1)
    return setting.pool[(answers[0] == setting.truth).long()]


def autoattack(setting: Setting, steps: int) -> Tensor:
    """The standard version of pyautoattack, with so many steps, and 5 queries for each."""
    library: Any = import_module("pyautoattack")
    logging.getLogger("pyautoattack").setLevel(logging.ERROR)
    ensemble = library.AutoAttack(
        setting.model, eps=setting.eps["linf"], norm="Linf", seed=0, device=setting.images.device
    )
    ensemble.apgd.n_iter = ensemble.apgd_targeted.n_iter = ensemble.fab.n_iter = steps
    ensemble.square.n_queries = 5 * steps
    for part in (ensemble.apgd_targeted, ensemble.fab):
        part.n_target_classes = min(part.n_target_classes, setting.classes - 1)
    found: Tensor = ensemble.run_standard_evaluation(setting.images, setting.truth, batch_size=len(setting.images))[0]
    return found


def our_standard(setting: Setting, steps: int) -> Tensor:
    """The same of ours."""
    targets = min(9, setting.classes - 1)
    return ours("standard", queries=5 * steps, targets=targets)(setting, steps)
