"""Attacks, by the name that users type. A new one is a file in this folder and a line in `ATTACKS`."""

from __future__ import annotations

from collections.abc import Callable
from inspect import signature
from typing import NamedTuple

from medrobust.attacks.apgd import APGD, APGDDLR, APGDT
from medrobust.attacks.carlini_wagner import CarliniWagner
from medrobust.attacks.dag import DAG
from medrobust.attacks.ddn import DDN
from medrobust.attacks.deepfool import DeepFool
from medrobust.attacks.dense import ASMA, CosPGD, SegPGD
from medrobust.attacks.ensembles import Ensemble
from medrobust.attacks.estimated import NES, SPSA
from medrobust.attacks.fab import FAB, TargetedFAB
from medrobust.attacks.fmn import FMN
from medrobust.attacks.hop_skip_jump import HopSkipJump
from medrobust.attacks.named_ensembles import Medrobust, Standard
from medrobust.attacks.protocols import Attack
from medrobust.attacks.sea import SEA
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
from medrobust.attacks.smia import SMIA
from medrobust.attacks.smia_joined import DiverseSMIA, MomentumSMIA, TranslationSMIA, VarianceSMIA
from medrobust.attacks.square import Square
from medrobust.attacks.tog import TOG
from medrobust.attacks.universal import Universal
from medrobust.errors import unknown

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


ENSEMBLE = "ensemble"
"""What an attack is called that is made of others; it is none of the catalogue before its members are named."""
_OWN = CatalogueEntry(Ensemble, "the worst of attacks of one's own choice", "arXiv:2003.01690")


def entry_of(name: str) -> CatalogueEntry:
    """What the catalogue says of an attack, or of an ensemble of one's own.

    Raises:
        InputError: there is no such attack.
    """
    if name == ENSEMBLE:
        return _OWN
    if name not in ATTACKS:
        raise unknown("attack", name, [*ATTACKS, ENSEMBLE])
    return ATTACKS[name]


def options_of(name: str) -> dict[str, object]:
    """Option → default of an attack; "target" (see `make_target`) is an option of all that can go towards an answer.

    Raises:
        InputError: there is no such attack.
    """
    parameters = signature(entry_of(name).attack).parameters
    options = {option: parameter.default for option, parameter in parameters.items()}
    return {**options, "target": None} if "targeted" in options else options
