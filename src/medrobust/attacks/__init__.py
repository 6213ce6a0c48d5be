"""Attacks, by the name that users type. A new one is a file here and a line in `ATTACKS`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from inspect import signature
from typing import NamedTuple

from medrobust.attacks.apgd import APGD, APGDDLR, APGDT, AdaptiveWalk
from medrobust.attacks.apgd_l1 import SparseAdaptiveWalk
from medrobust.attacks.carlini_wagner import CarliniWagner
from medrobust.attacks.copies import Expectation, Mixing, Scales
from medrobust.attacks.dag import DAG
from medrobust.attacks.dag_loss import DAGLoss
from medrobust.attacks.ddn import DDN
from medrobust.attacks.deepfool import DeepFool
from medrobust.attacks.dense import ASMA, CosPGD, SegPGD
from medrobust.attacks.dense_losses import (
    ASMALoss,
    BalancedMaskedCrossEntropy,
    CosPGDLoss,
    DiceLoss,
    MaskedCrossEntropy,
    SegPGDLoss,
)
from medrobust.attacks.ensembles import Ensemble
from medrobust.attacks.estimated import NES, SPSA
from medrobust.attacks.estimates import NaturalEvolution, SimultaneousPerturbation
from medrobust.attacks.fab import FAB, TargetedFAB
from medrobust.attacks.fmn import FMN
from medrobust.attacks.gradients import (
    LowFrequency,
    Momentum,
    Normalisation,
    TranslationInvariance,
    VarianceTuning,
)
from medrobust.attacks.hop_skip_jump import HopSkipJump
from medrobust.attacks.inputs import Diversity, LookAhead
from medrobust.attacks.iterative import IterativeAttack
from medrobust.attacks.losses import DLR, JensenShannon, Logit, Margin, SquaredScore, TargetedDLR
from medrobust.attacks.losses_catalogue import LOSSES, make_loss
from medrobust.attacks.named_ensembles import Medrobust, Standard
from medrobust.attacks.objectives import TaskLoss
from medrobust.attacks.patches import PatchWise
from medrobust.attacks.protocols import Attack, Preparable
from medrobust.attacks.result import AttackResult
from medrobust.attacks.sea import SEA, ShrinkingAPGD
from medrobust.attacks.sign import (
    BIM,
    DIFGSM,
    FGSM,
    MIFGSM,
    NIFGSM,
    PGD,
    PIFGSM,
    SINIFGSM,
    TIFGSM,
    VMIFGSM,
    VNIFGSM,
)
from medrobust.attacks.sizes import ListResult
from medrobust.attacks.smia import SMIA
from medrobust.attacks.smia_joined import DiverseSMIA, MomentumSMIA, TranslationSMIA, VarianceSMIA
from medrobust.attacks.square import Square
from medrobust.attacks.stabilized import Stabilized
from medrobust.attacks.steps import Adam, Walk
from medrobust.attacks.targets import EmptyMask, MaskFile, ShiftedMask, make_target
from medrobust.attacks.tog import TOG, DetectionGoal
from medrobust.attacks.towards import Towards
from medrobust.attacks.trajectory import Trajectory
from medrobust.attacks.transfer import Transfer
from medrobust.attacks.universal import OneChange, Universal
from medrobust.errors import InputError, unknown
from medrobust.transforms import GaussianSmoothing

__all__ = [
    "APGD",
    "APGDDLR",
    "APGDT",
    "ASMA",
    "ATTACKS",
    "BIM",
    "DAG",
    "DDN",
    "DIFGSM",
    "DLR",
    "FAB",
    "FGSM",
    "FMN",
    "LOSSES",
    "MIFGSM",
    "NES",
    "NIFGSM",
    "PGD",
    "PIFGSM",
    "SEA",
    "SINIFGSM",
    "SMIA",
    "SPSA",
    "TIFGSM",
    "TOG",
    "VMIFGSM",
    "VNIFGSM",
    "ASMALoss",
    "Adam",
    "AdaptiveWalk",
    "Attack",
    "AttackResult",
    "BalancedMaskedCrossEntropy",
    "CarliniWagner",
    "CosPGD",
    "CosPGDLoss",
    "DAGLoss",
    "DeepFool",
    "DetectionGoal",
    "DiceLoss",
    "DiverseSMIA",
    "Diversity",
    "EmptyMask",
    "Ensemble",
    "Expectation",
    "GaussianSmoothing",
    "HopSkipJump",
    "IterativeAttack",
    "JensenShannon",
    "ListResult",
    "Logit",
    "LookAhead",
    "LowFrequency",
    "Margin",
    "MaskFile",
    "MaskedCrossEntropy",
    "Medrobust",
    "Mixing",
    "Momentum",
    "MomentumSMIA",
    "NaturalEvolution",
    "Normalisation",
    "OneChange",
    "PatchWise",
    "Preparable",
    "Scales",
    "SegPGD",
    "SegPGDLoss",
    "ShiftedMask",
    "ShrinkingAPGD",
    "SimultaneousPerturbation",
    "SparseAdaptiveWalk",
    "Square",
    "SquaredScore",
    "Stabilized",
    "Standard",
    "TargetedDLR",
    "TargetedFAB",
    "TaskLoss",
    "Towards",
    "Trajectory",
    "Transfer",
    "TranslationInvariance",
    "TranslationSMIA",
    "Universal",
    "VarianceSMIA",
    "VarianceTuning",
    "Walk",
    "make_attack",
    "make_loss",
]


ONE_ANSWER = ("classification", "ordinal", "multilabel")
EVERY_POSITION = ("classification", "ordinal", "multilabel", "segmentation")


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
    "ni": CatalogueEntry(NIFGSM, "MI-FGSM with a look-ahead (NI-FGSM)", "arXiv:1908.06281"),
    "sini": CatalogueEntry(SINIFGSM, "NI-FGSM on copies of falling brightness (SI-NI-FGSM)", "arXiv:1908.06281"),
    "di": CatalogueEntry(
        DIFGSM, "gradient-sign steps on randomly shrunk and moved images (DI-FGSM)", "arXiv:1803.06978"
    ),
    "ti": CatalogueEntry(TIFGSM, "gradient-sign steps along a smoothed gradient (TI-FGSM)", "arXiv:1904.02884"),
    "vmi": CatalogueEntry(VMIFGSM, "MI-FGSM tuned by the gradients of neighbours (VMI-FGSM)", "arXiv:2103.15571"),
    "vni": CatalogueEntry(VNIFGSM, "NI-FGSM tuned by the gradients of neighbours (VNI-FGSM)", "arXiv:2103.15571"),
    "pi": CatalogueEntry(PIFGSM, "steps too long, their excess passed on to neighbours (PI-FGSM)", "arXiv:2007.06891"),
    "apgd": CatalogueEntry(APGD, "PGD that finds its step size, on the cross-entropy (APGD-CE)", "arXiv:2003.01690"),
    "apgd-dlr": CatalogueEntry(
        APGDDLR, "the same on the difference of logits ratio (APGD-DLR)", "arXiv:2003.01690", EVERY_POSITION
    ),
    "apgd-t": CatalogueEntry(
        APGDT, "the same towards one class after the other (APGD-T)", "arXiv:2003.01690", EVERY_POSITION
    ),
    "fab": CatalogueEntry(FAB, "the nearest image beyond a decision boundary (FAB)", "arXiv:1907.02044", ONE_ANSWER),
    "fab-t": CatalogueEntry(
        TargetedFAB, "the same towards one class after the other (FAB-T)", "arXiv:1907.02044", ONE_ANSWER
    ),
    "deepfool": CatalogueEntry(
        DeepFool, "the nearest decision boundary, made straight (DeepFool)", "arXiv:1511.04599", ONE_ANSWER
    ),
    "cw": CatalogueEntry(
        CarliniWagner, "distance and margin together, by Adam (Carlini-Wagner L2)", "arXiv:1608.04644", EVERY_POSITION
    ),
    "ddn": CatalogueEntry(DDN, "direction and norm by turns, nearest image (DDN)", "arXiv:1811.09600", EVERY_POSITION),
    "fmn": CatalogueEntry(FMN, "a ball that closes in on the nearest image (FMN)", "arXiv:2102.12827", EVERY_POSITION),
    "square": CatalogueEntry(
        Square, "random squares, by the scores alone (Square)", "arXiv:1912.00049", EVERY_POSITION
    ),
    "nes": CatalogueEntry(
        NES, "gradient-sign steps on a gradient estimated from scores", "arXiv:1804.08598", EVERY_POSITION
    ),
    "spsa": CatalogueEntry(SPSA, "Adam on a gradient estimated from scores", "arXiv:1802.05666", EVERY_POSITION),
    "hopskipjump": CatalogueEntry(
        HopSkipJump, "along the decision boundary, by yes and no alone", "arXiv:1904.02144", EVERY_POSITION
    ),
    "smia": CatalogueEntry(SMIA, "loss deviation and loss stabilization", "arXiv:2103.05232"),
    "smia-mi": CatalogueEntry(MomentumSMIA, "SMIA along a momentum", "arXiv:2103.05232"),
    "smia-di": CatalogueEntry(DiverseSMIA, "SMIA on randomly shrunk and moved images", "arXiv:2103.05232"),
    "smia-ti": CatalogueEntry(TranslationSMIA, "SMIA along a smoothed gradient", "arXiv:2103.05232"),
    "smia-vmi": CatalogueEntry(VarianceSMIA, "SMIA tuned by the gradients of neighbours", "arXiv:2103.05232"),
    "standard": CatalogueEntry(
        Standard, "AutoAttack's ensemble: apgd, apgd-t, fab-t, square", "arXiv:2003.01690", EVERY_POSITION
    ),
    "medrobust": CatalogueEntry(
        Medrobust, "the same with SMIA and the attacks of each task: the worst case", "arXiv:2103.05232"
    ),
    "universal": CatalogueEntry(Universal, "one change for all images of a data set", "arXiv:1811.11304"),
    "segpgd": CatalogueEntry(SegPGD, "right pixels first, then all (SegPGD)", "arXiv:2207.12391", ("segmentation",)),
    "cospgd": CatalogueEntry(
        CosPGD, "pixels by their agreement with the truth (CosPGD)", "arXiv:2302.02213", ("segmentation",)
    ),
    "sea": CatalogueEntry(
        SEA, "the worst of three losses of pixels, in a ball that shrinks (SEA)", "arXiv:2306.12941", ("segmentation",)
    ),
    "dag": CatalogueEntry(
        DAG,
        "logits of the pixels still right, the objects still seen (DAG)",
        "arXiv:1703.08603",
        ("segmentation", "detection"),
    ),
    "asma": CatalogueEntry(ASMA, "to a chosen mask, by adaptive steps (ASMA)", "arXiv:1907.13124", ("segmentation",)),
    "tog": CatalogueEntry(
        TOG,
        "against detectors: away from objects, vanishing, fabrication, mislabelling",
        "arXiv:2004.04320",
        ("detection",),
    ),
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
