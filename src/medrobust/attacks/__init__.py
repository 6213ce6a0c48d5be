"""Attacks, by the name that users type. A new one is a file here and a line in `ATTACKS`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from inspect import signature
from typing import NamedTuple

from medrobust.attacks.attack import Attack
from medrobust.attacks.dag import DAG
from medrobust.attacks.dense import ASMA, CosPGD, SegPGD
from medrobust.attacks.iterative import IterativeAttack
from medrobust.attacks.objectives import TaskLoss
from medrobust.attacks.result import AttackResult
from medrobust.attacks.sign import BIM, DIFGSM, FGSM, MIFGSM, PGD
from medrobust.attacks.sizes import ListResult
from medrobust.attacks.smia import SMIA
from medrobust.attacks.stabilized import Stabilized
from medrobust.attacks.targets import EmptyMask, MaskFile, ShiftedMask, make_target
from medrobust.attacks.tog import TOG, DetectionGoal
from medrobust.attacks.towards import Towards
from medrobust.attacks.trajectory import Trajectory
from medrobust.errors import InputError, unknown
from medrobust.transforms import GaussianSmoothing

__all__ = [
    "ASMA",
    "ATTACKS",
    "BIM",
    "DAG",
    "DIFGSM",
    "FGSM",
    "MIFGSM",
    "PGD",
    "SMIA",
    "TOG",
    "Attack",
    "AttackResult",
    "CosPGD",
    "DetectionGoal",
    "EmptyMask",
    "GaussianSmoothing",
    "IterativeAttack",
    "ListResult",
    "MaskFile",
    "SegPGD",
    "ShiftedMask",
    "Stabilized",
    "TaskLoss",
    "Towards",
    "Trajectory",
    "make_attack",
]


class CatalogueEntry(NamedTuple):
    """An attack, what it does in a line, where it is from, and the tasks it is for (none named: every task)."""

    attack: Callable[..., Attack]
    summary: str
    reference: str
    tasks: tuple[str, ...] = ()


ATTACKS: dict[str, CatalogueEntry] = {
    "fgsm": CatalogueEntry(FGSM, "one gradient-sign step of the whole budget", "arXiv:1412.6572"),
    "bim": CatalogueEntry(BIM, "small gradient-sign steps from the clean image", "arXiv:1607.02533"),
    "pgd": CatalogueEntry(PGD, "small gradient-sign steps from a random start", "arXiv:1706.06083"),
    "mi": CatalogueEntry(MIFGSM, "gradient-sign steps along a momentum (MI-FGSM)", "arXiv:1710.06081"),
    "di": CatalogueEntry(
        DIFGSM, "gradient-sign steps on randomly shrunk and moved images (DI-FGSM)", "arXiv:1803.06978"
    ),
    "smia": CatalogueEntry(SMIA, "loss deviation and loss stabilization", "arXiv:2103.05232"),
    "tog": CatalogueEntry(
        TOG,
        "against detectors: away from objects, vanishing, fabrication, mislabelling",
        "arXiv:2004.04320",
        ("detection",),
    ),
    "segpgd": CatalogueEntry(SegPGD, "right pixels first, then all (SegPGD)", "arXiv:2207.12391", ("segmentation",)),
    "cospgd": CatalogueEntry(
        CosPGD, "pixels by their agreement with the truth (CosPGD)", "arXiv:2302.02213", ("segmentation",)
    ),
    "dag": CatalogueEntry(
        DAG,
        "logits of the pixels still right, the objects still seen (DAG)",
        "arXiv:1703.08603",
        ("segmentation", "detection"),
    ),
    "asma": CatalogueEntry(ASMA, "to a chosen mask, by adaptive steps (ASMA)", "arXiv:1907.13124", ("segmentation",)),
}


def option_names(name: str) -> list[str]:
    """The options of an attack of the catalogue."""
    return list(signature(ATTACKS[name].attack).parameters)


def make_attack(name: str, options: Mapping[str, object] | None = None) -> Attack:
    """An attack from its catalogue name and options, as a configuration file gives them.

    The option "target" is no attack's own: it makes the attack go `Towards` a mask, see `make_target`.

    Raises:
        InputError: no such attack, no such option of it, or an option has no such value.
    """
    if name not in ATTACKS:
        raise unknown("attack", name, ATTACKS)
    kind = ATTACKS[name].attack
    known = option_names(name)
    for option in options or {}:
        if option not in known and option != "target":
            raise unknown(f"option of attack {name}", option, known)
    given = dict(options or {})
    target = given.pop("target", None)
    if target is not None:
        given["targeted"] = True
    try:
        attack = kind(**given)
        return attack if target is None else Towards(attack, make_target(target))
    except InputError as error:
        raise InputError(f"attack {name}: {error}") from error
