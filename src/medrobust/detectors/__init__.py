"""Detectors: families of models that find objects, opened up so that an attack sees inside. One module a family."""

from collections.abc import Callable

from torch import nn

from medrobust.detectors.detector import Detections, Detector, DetectorOutputs, Places
from medrobust.errors import InputError

__all__ = ["Detections", "Detector", "DetectorOutputs", "Places", "detector_of"]

PARTS = ("forward", "loss", "places", "log_probs", "detect", "classes")


def detector_of(model: nn.Module, classes: int | None = None) -> Detector:
    """The family that a model belongs to.

    Args:
        model: a detector of torchvision (RetinaNet, FCOS, SSD, SSDlite, Faster R-CNN, or a subclass, whose own losses
            and post-processing are used), or a module that has the methods of `Detector` itself and is taken as it is.
        classes: number of classes without the background, if known, to compare with the model's. RetinaNet and FCOS
            are usually built for one class more than there are (column 0 is never a label); with as many columns as
            `classes`, column 0 is the first class.

    Raises:
        InputError: the model is of no known family, or has another number of classes.
    """
    if isinstance(model, Detector):
        if classes is not None and model.classes != classes:
            raise InputError(f"{type(model).__name__} detects {model.classes} classes, the data have {classes}")
        return model
    for kind, family in _families():
        if isinstance(model, kind):
            return family(model, classes)
    missing = ", ".join(part for part in PARTS if not hasattr(model, part))
    raise InputError(
        f"{type(model).__name__} is no detector of a known family (RetinaNet, FCOS, SSD, Faster R-CNN of torchvision): "
        f"wrap it in a module with the methods of medrobust.detectors.Detector, as examples/own_detector.py shows; "
        f"it lacks {missing}"
    )


def _families() -> tuple[tuple[type[nn.Module], Callable[[nn.Module, int | None], Detector]], ...]:
    from torchvision.models import detection

    from medrobust.detectors.one_stage import FCOSDetector, RetinaNetDetector, SSDDetector
    from medrobust.detectors.two_stage import FasterRCNNDetector

    return (
        (detection.RetinaNet, RetinaNetDetector),
        (detection.FCOS, FCOSDetector),
        (detection.ssd.SSD, SSDDetector),
        (detection.FasterRCNN, FasterRCNNDetector),
    )
