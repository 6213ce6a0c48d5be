"""Objectives by the name that users type, as a configuration file writes them. A new one is a line in `LOSSES`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from inspect import signature
from typing import Any, cast

from medrobust.attacks.dag_loss import DAGLoss
from medrobust.attacks.dense_losses import (
    ASMALoss,
    BalancedMaskedCrossEntropy,
    CosPGDLoss,
    DiceLoss,
    MaskedCrossEntropy,
    SegPGDLoss,
)
from medrobust.attacks.losses import DLR, JensenShannon, Logit, Margin, SquaredScore
from medrobust.attacks.objectives import Objective, TaskLoss
from medrobust.attacks.stabilized import Stabilized
from medrobust.errors import InputError, unknown
from medrobust.transforms import GaussianSmoothing

LOSSES: dict[str, Callable[..., Objective]] = {
    "cross_entropy": TaskLoss,
    "margin": Margin,
    "dlr": DLR,
    "logit": Logit,
    "squared": SquaredScore,
    "js": JensenShannon,
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
    if isinstance(written, str):
        return _made(written, {})
    if isinstance(written, Mapping) and len(written) == 1:
        ((name, options),) = written.items()
        if options is None or isinstance(options, Mapping):
            return _made(str(name), dict(options or {}))
    if callable(written) and hasattr(written, "begin") and not isinstance(written, type):
        return cast("Objective", written)
    raise InputError(f"loss must be a name, {{margin: {{confidence: 5}}}} or an objective, got {written!r}")


def _made(name: str, options: dict[str, Any]) -> Objective:
    if name not in LOSSES:
        raise unknown("loss", name, LOSSES)
    _check_names(f"loss {name}", options, list(signature(LOSSES[name]).parameters))
    try:
        if "inner" in options:
            options["inner"] = make_loss(options["inner"])
        if isinstance(options.get("smoothing"), Mapping):
            known = [field.name for field in fields(GaussianSmoothing)]
            _check_names("smoothing", options["smoothing"], known)
            options["smoothing"] = GaussianSmoothing(**options["smoothing"])
        return LOSSES[name](**options)
    except InputError as error:
        raise InputError(f"loss {name}: {error}") from error


def _check_names(owner: str, options: Mapping[str, object], known: list[str]) -> None:
    for option in options:
        if not known:
            raise InputError(f"{owner} takes no options, got {option!r}")
        if option not in known:
            raise unknown(f"option of {owner}", str(option), known)
