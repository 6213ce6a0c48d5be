"""medrobust: adversarial robustness of medical-image models.

Attack a model, measure what is left, say how sure that figure is, and look at the images.

The names are imported when first used: the command line must not wait for PyTorch to say what it can do.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from medrobust._version import __version__

if TYPE_CHECKING:
    from medrobust.attacks import (
        ASMA,
        BIM,
        DAG,
        DIFGSM,
        FGSM,
        MIFGSM,
        PGD,
        SMIA,
        TOG,
        AttackResult,
        CosPGD,
        EmptyMask,
        MaskFile,
        SegPGD,
        ShiftedMask,
        Stabilized,
        Towards,
        make_attack,
    )
    from medrobust.data import DataOptions, Dataset, DatasetInfo, InMemoryDataset, Sample, open_dataset, pad_boxes
    from medrobust.errors import InputError, MedrobustError
    from medrobust.models import OverSlices, SlidingWindow, load_model, load_weights
    from medrobust.region import Region
    from medrobust.run import Run, evaluate, load_run
    from medrobust.tasks import Classification, Detection, Segmentation, Task
    from medrobust.threat import Threat
    from medrobust.victim import Victim

__all__ = [
    "ASMA",
    "BIM",
    "DAG",
    "DIFGSM",
    "FGSM",
    "MIFGSM",
    "PGD",
    "SMIA",
    "TOG",
    "AttackResult",
    "Classification",
    "CosPGD",
    "DataOptions",
    "Dataset",
    "DatasetInfo",
    "Detection",
    "EmptyMask",
    "InMemoryDataset",
    "InputError",
    "MaskFile",
    "MedrobustError",
    "OverSlices",
    "Region",
    "Run",
    "Sample",
    "SegPGD",
    "Segmentation",
    "ShiftedMask",
    "SlidingWindow",
    "Stabilized",
    "Task",
    "Threat",
    "Towards",
    "Victim",
    "__version__",
    "evaluate",
    "load_model",
    "load_run",
    "load_weights",
    "make_attack",
    "open_dataset",
    "pad_boxes",
]

_HOMES = {
    "attacks": (
        "ASMA",
        "BIM",
        "DAG",
        "DIFGSM",
        "FGSM",
        "MIFGSM",
        "PGD",
        "SMIA",
        "TOG",
        "AttackResult",
        "CosPGD",
        "EmptyMask",
        "MaskFile",
        "SegPGD",
        "ShiftedMask",
        "Stabilized",
        "Towards",
        "make_attack",
    ),
    "data": ("DataOptions", "Dataset", "DatasetInfo", "InMemoryDataset", "Sample", "open_dataset", "pad_boxes"),
    "errors": ("InputError", "MedrobustError"),
    "models": ("OverSlices", "SlidingWindow", "load_model", "load_weights"),
    "region": ("Region",),
    "run": ("Run", "evaluate", "load_run"),
    "tasks": ("Classification", "Detection", "Segmentation", "Task"),
    "threat": ("Threat",),
    "victim": ("Victim",),
}


def __getattr__(name: str) -> object:
    for module, names in _HOMES.items():
        if name in names:
            value = globals()[name] = getattr(import_module(f"medrobust.{module}"), name)
            return value
    raise AttributeError(f"module 'medrobust' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
