"""Attacks and their parts. A new one is a file here and a line in `ATTACKS` of `catalogue.py`."""

from __future__ import annotations

from medrobust.attacks.apgd import APGD, APGDDLR, APGDT, AdaptiveWalk
from medrobust.attacks.apgd_l1 import SparseAdaptiveWalk
from medrobust.attacks.carlini_wagner import CarliniWagner
from medrobust.attacks.catalogue import ATTACKS
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
from medrobust.attacks.harm_loss import ExpectedHarm
from medrobust.attacks.hop_skip_jump import HopSkipJump
from medrobust.attacks.inputs import Diversity, LookAhead
from medrobust.attacks.iterative import IterativeAttack
from medrobust.attacks.losses import DLR, JensenShannon, Logit, Margin, SquaredScore, TargetedDLR
from medrobust.attacks.losses_catalogue import LOSSES, make_loss
from medrobust.attacks.named_ensembles import Medrobust, Standard
from medrobust.attacks.objectives import OutputObjective, TaskLoss
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
from medrobust.attacks.targets import EmptyMask, MaskFile, ShiftedMask
from medrobust.attacks.tog import TOG, DetectionGoal
from medrobust.attacks.towards import Towards
from medrobust.attacks.trajectory import Trajectory
from medrobust.attacks.transfer import Transfer
from medrobust.attacks.universal import OneChange, Universal
from medrobust.attacks.written import make_attack
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
    "ExpectedHarm",
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
    "OutputObjective",
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
