"""Attacks of this package beside their twins in other libraries, with the same steps, step size and budget.

A library that is not installed, or an attack that the catalogue has not got, raises at the call: `peers.py` skips it.
"""

from __future__ import annotations

import logging
import sys
import types
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

import medrobust as mr
from medrobust.attacks import make_attack

INFINITY = float("inf")
Runner = Callable[["Setting", int], Tensor]
"""Attacked images, after so many steps (queries)."""


@dataclass(frozen=True)
class Setting:
    """A network, images that it answers right, and budgets.

    Attributes:
        model: from `(B, 3, H, H)` in [0, 1] to logits of `classes`.
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
        return mr.Victim(self.model, mr.Classification(self.classes))


@dataclass(frozen=True)
class Twins:
    """An attack and its twin.

    Attributes:
        name: of the catalogue, with what is particular.
        library: the twin's.
        goal: what our time is to be at most, of the twin's.
        long: steps (queries) of the run that is timed.
        short: steps of one that is timed besides, and taken off; 0: the whole call counts.
    """

    name: str
    library: str
    ours: Runner
    theirs: Runner
    goal: float
    long: int
    short: int = 0
    norm: str = "linf"


def ours(name: str, count: str = "steps", *, norm: str = "linf", sized: bool = False, **options: object) -> Runner:
    """An attack of the catalogue; `count` is what its steps are called, `sized`: it takes a step size."""

    def run(setting: Setting, steps: int) -> Tensor:
        given: dict[str, object] = {count: steps, **options} if count else dict(options)
        if sized:
            given["step_size"] = setting.eps[norm] / 4
        for option in ("targets", "candidates"):
            if option in given:
                given[option] = setting.classes - 1
        attack: Any = make_attack(name, given)
        threat = mr.Threat(setting.eps[norm], norm=norm)
        found: Tensor = attack(setting.victim, setting.images, setting.truth, threat).adversarial
        return found

    return run


def torchattacks(name: str, count: str = "steps", *, sized: bool = True, **options: object) -> Runner:
    """An attack of torchattacks, in L∞."""

    def run(setting: Setting, steps: int) -> Tensor:
        eps, given = setting.eps["linf"], dict(options)
        if count:
            given[count] = steps
        if sized:
            given["alpha"] = eps / 4
        if "n_classes" in given:
            given["n_classes"] = setting.classes
        if name != "DeepFool":
            given["max_epsilon" if name == "PIFGSM" else "eps"] = eps
        attack = getattr(import_module("torchattacks"), name)(setting.model, **given)
        return _asked(setting, attack(setting.images, setting.truth))

    return run


def foolbox(name: str, norm: str = "linf", *, sized: bool = False, **options: object) -> Runner:
    """An attack of foolbox."""

    def run(setting: Setting, steps: int) -> Tensor:
        library: Any = import_module("foolbox")
        given = {"abs_stepsize": setting.eps[norm] / 4, "random_start": False} if sized else {}
        attack = getattr(library.attacks, name)(steps=steps, **given, **options)
        model = library.PyTorchModel(setting.model, bounds=(0, 1), device=setting.images.device)
        found: Tensor = attack(model, setting.images, setting.truth, epsilons=setting.eps[norm])[1]
        return found

    return run


def art(name: str, **options: object) -> Runner:
    """An attack of the Adversarial Robustness Toolbox, in L∞; `eps` and `eps_step` of 1 stand for eps and a step."""

    def run(setting: Setting, steps: int) -> Tensor:
        evasion: Any = import_module("art.attacks.evasion")
        estimators: Any = import_module("art.estimators.classification")
        images, truth = setting.images.cpu().numpy(), setting.truth.cpu().numpy()
        kind = "cpu" if setting.images.device.type == "cpu" else "gpu"
        classifier = estimators.PyTorchClassifier(
            setting.model,
            nn.CrossEntropyLoss(),
            images.shape[1:],
            setting.classes,
            clip_values=(0.0, 1.0),
            device_type=kind,
        )
        attack = getattr(evasion, name)(classifier, max_iter=steps, verbose=False, **_scaled(setting, options))
        return _asked(setting, torch.from_numpy(attack.generate(images, y=truth)).to(setting.images))

    return run


def adv_lib(name: str, count: str, **options: object) -> Runner:
    """An attack of adv-lib, in L∞ where a step or eps is asked for, as of `art`."""

    def run(setting: Setting, steps: int) -> Tensor:
        # its logger imports a plotting server that only a callback uses
        sys.modules.setdefault("visdom", types.ModuleType("visdom"))
        attack = getattr(import_module("adv_lib.attacks"), name)
        given = {count: steps, **_scaled(setting, options)}
        return _asked(setting, attack(setting.model, setting.images, setting.truth, **given))

    return run


@torch.no_grad()
def _asked(setting: Setting, attacked: Tensor) -> Tensor:
    """The images, after a look at what the model answers: ours and foolbox's attacks tell it, the others do not."""
    setting.model(attacked)
    return attacked


def _scaled(setting: Setting, options: dict[str, Any]) -> dict[str, Any]:
    """Options with eps, a step or the number of images for a 1."""
    eps = setting.eps["linf"]
    units = {
        "eps": eps,
        "ε": eps,
        "eps_step": eps / 4,
        "absolute_step_size": eps / 4,
        "batch_size": len(setting.images),
    }
    return {name: value * units[name] if name in units else value for name, value in options.items()}


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


def twins() -> list[Twins]:
    """All pairs. 1.00: never slower; 0.67 of libraries that do needless passes or copies."""
    step, whole = {"long": 9, "short": 1}, {"long": 20}

    def torch_attack(name: str, twin: str, goal: float = 1.0, ours_too: dict[str, object] | None = None, **options):
        return Twins(
            name,
            "torchattacks",
            ours(name, sized=True, **(ours_too or {})),
            torchattacks(twin, **options),
            goal,
            **step,
        )

    still = {"random_start": False}
    unrefined = {"refine": 0}  # theirs leave the image where they found it
    pgd = ours("pgd", sized=True, random_start=False)

    return [
        Twins("fgsm", "torchattacks", ours("fgsm", ""), torchattacks("FGSM", "", sized=False), 1.0, long=1),
        torch_attack("bim", "BIM"),
        torch_attack("pgd", "PGD", ours_too=still, **still),
        Twins("pgd", "foolbox", pgd, foolbox("LinfPGD", sized=True), 0.67, **step),
        Twins("pgd", "ART", pgd, art("ProjectedGradientDescent", eps=1, eps_step=1, batch_size=1), 0.67, **step),
        Twins(
            "pgd",
            "adv-lib",
            pgd,
            adv_lib("pgd_linf", "steps", ε=1, absolute_step_size=1, random_init=False),
            1.0,
            **step,
        ),
        Twins(
            "pgd early_stop",
            "torchattacks",
            ours("pgd", sized=True, early_stop=True, **still),
            torchattacks("PGD", **still),
            0.5,
            **whole,
        ),
        torch_attack("mi", "MIFGSM"),
        torch_attack("ni", "NIFGSM"),
        torch_attack("sini", "SINIFGSM", 0.8),
        torch_attack("di", "DIFGSM"),
        torch_attack("ti", "TIFGSM", diversity_prob=0.0),
        torch_attack("vmi", "VMIFGSM", 0.8),
        torch_attack("vni", "VNIFGSM", 0.8),
        Twins("pi", "torchattacks", ours("pi"), torchattacks("PIFGSM", "num_iter_set", sized=False), 1.0, **step),
        Twins("apgd", "torchattacks", ours("apgd"), torchattacks("APGD", sized=False), 1.0, **whole),
        Twins(
            "apgd",
            "adv-lib",
            ours("apgd"),
            adv_lib("apgd", "n_iter", eps=1, norm=INFINITY, loss_function="ce"),
            1.0,
            **whole,
        ),
        Twins(
            "apgd",
            "ART",
            ours("apgd"),
            art("AutoProjectedGradientDescent", eps=1, eps_step=8, batch_size=1),
            0.67,
            **whole,
        ),
        Twins(
            "apgd-t",
            "torchattacks",
            ours("apgd-t", targets=0),
            torchattacks("APGDT", sized=False, n_classes=0),
            1.0,
            **whole,
        ),
        Twins(
            "fab", "torchattacks", ours("fab", **unrefined), torchattacks("FAB", sized=False, n_classes=0), 1.0, **whole
        ),
        Twins("fab", "adv-lib", ours("fab", **unrefined), adv_lib("fab", "n_iter", norm=INFINITY), 1.0, **whole),
        Twins(
            "square",
            "torchattacks",
            ours("square", "queries"),
            torchattacks("Square", "n_queries", sized=False),
            1.0,
            100,
        ),
        Twins("square", "ART", ours("square", "queries"), art("SquareAttack", eps=1), 0.67, 100),
        # torchattacks' gives up after 4 of 20 steps, and cannot be told not to: no twin
        Twins(
            "cw",
            "adv-lib",
            ours("cw", norm="l2", searches=2, **unrefined),
            adv_lib("carlini_wagner_l2", "max_iterations", binary_search_steps=2, abort_early=False),
            1.0,
            20,
            norm="l2",
        ),
        Twins(
            "cw",
            "foolbox",
            ours("cw", norm="l2", searches=2, **unrefined),
            foolbox("L2CarliniWagnerAttack", "l2", binary_search_steps=2, abort_early=False),
            0.67,
            20,
            norm="l2",
        ),
        Twins(
            "deepfool",
            "torchattacks",
            ours("deepfool", norm="l2", candidates=0, **unrefined),
            torchattacks("DeepFool", sized=False),
            1.0,
            20,
            norm="l2",
        ),
        Twins(
            "deepfool",
            "foolbox",
            ours("deepfool", norm="l2", candidates=0, **unrefined),
            foolbox("L2DeepFoolAttack", "l2", candidates=None),
            0.67,
            20,
            norm="l2",
        ),
        Twins("ddn", "foolbox", ours("ddn", norm="l2", **unrefined), foolbox("DDNAttack", "l2"), 0.67, 20, norm="l2"),
        Twins(
            "ddn",
            "adv-lib",
            ours("ddn", norm="l2", **unrefined),
            adv_lib("ddn", "steps", levels=None),
            1.0,
            20,
            norm="l2",
        ),
        Twins(
            "fmn",
            "foolbox",
            ours("fmn", max_step=0.05, **unrefined),
            foolbox("LInfFMNAttack", max_stepsize=0.05),
            0.67,
            20,
        ),
        Twins(
            "fmn",
            "adv-lib",
            ours("fmn", max_step=0.05, **unrefined),
            adv_lib("fmn", "steps", norm=INFINITY, α_init=0.05),
            1.0,
            20,
        ),
        Twins("standard", "pyautoattack", our_standard, autoattack, 0.9, **whole),
    ]
