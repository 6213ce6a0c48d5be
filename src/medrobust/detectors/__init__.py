"""Detectors: families of models that find objects, opened up so that an attack sees inside. One module a family."""

from medrobust.detectors.detector import Detections, Detector, DetectorOutputs, Places

__all__ = ["Detections", "Detector", "DetectorOutputs", "Places"]
