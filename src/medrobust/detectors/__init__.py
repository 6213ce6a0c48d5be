"""Detectors: families of models that find objects, opened up so that an attack sees inside. One module a family."""

from torch import nn

from medrobust.detectors.detector import Detections, Detector, DetectorOutputs, Places
from medrobust.errors import InputError

__all__ = ["Detections", "Detector", "DetectorOutputs", "Places", "detector_of"]


def detector_of(model: nn.Module, classes: int) -> Detector:
    raise InputError(f"{type(model).__name__} is no detector")
