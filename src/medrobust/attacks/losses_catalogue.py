"""Objectives by the name that users type, as a configuration file writes them. A new one is a line in `LOSSES`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from inspect import signature
from typing import cast

from medrobust.attacks.dag_loss import DAGLoss
from medrobust.attacks.dense_losses import (
    ASMALoss,
    BalancedMaskedCrossEntropy,
    CosPGDLoss,
    DiceLoss,
    MaskedCrossEntropy,
    SegPGDLoss,
)
from medrobust.attacks.harm_loss import ExpectedHarm
from medrobust.attacks.losses import DLR, JensenShannon, Logit, Margin, SquaredScore
from medrobust.attacks.objectives import Objective, TaskLoss
from medrobust.attacks.stabilized import Stabilized
from medrobust.by_name import check_options, make, split
from medrobust.transforms import GaussianSmoothing

LOSSES: dict[str, Callable[..., Objective]] = {
    "cross_entropy": TaskLoss,
    "margin": Margin,
    "dlr": DLR,
    "logit": Logit,
    "squared": SquaredScore,
    "js": JensenShannon,
    "harm": ExpectedHarm,
    "masked_ce": MaskedCrossEntropy,
    "balanced_masked_ce": BalancedMaskedCrossEntropy,
    "dice": DiceLoss,
    "segpgd": SegPGDLoss,
    "cospgd": CosPGDLoss,
    "dag": DAGLoss,
    "asma": ASMALoss,
    "stabilized": Stabilized,
}


def make_loss(written: object) -> Objective:
    """An objective as a configuration writes it: "margin", {"margin": {"confidence": 5}}, or one that is there already.

    "stabilized" takes its `inner` in any of these forms, and `smoothing` as its options, {"kernel_size": 5}.

    Raises:
        InputError: no such objective, no such option of it, or an option has no such value.
    """
    if callable(written) and hasattr(written, "begin") and not isinstance(written, type):
        return cast("Objective", written)
    name, options = split("loss", written, "{margin: {confidence: 5}} (or an objective itself)")
    if "inner" in options:
        options["inner"] = make_loss(options["inner"])
    if isinstance(options.get("smoothing"), Mapping):
        check_options("smoothing", options["smoothing"], signature(GaussianSmoothing).parameters)
        options["smoothing"] = GaussianSmoothing(**options["smoothing"])
    made: Objective = make("loss", LOSSES, name, options)
    return made
