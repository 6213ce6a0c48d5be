"""RetinaNet, FCOS and SSD (SSDlite) of torchvision: class scores and boxes at anchors, in one pass.

RetinaNet: Lin et al., arXiv 1708.02002; FCOS: Tian et al., arXiv 2006.09214; SSD: Liu et al., arXiv 1512.02325.
"""

from __future__ import annotations

from abc import abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import box_iou

from medrobust.detectors.detector import DetectorOutputs
from medrobust.detectors.torchvision_family import (
    Target,
    TorchvisionDetector,
    anchors_of,
    at_least_single,
    columns_of,
    resized_size,
    total,
)

NOT_OF_THE_HEAD = ("anchors", "levels", "resized")


class OneStageDetector(TorchvisionDetector):
    """Anchors and a head. The outputs hold what the head gives, name → `(B, A, …)`."""

    def heads(self, resized: ImageList, features: dict[str, Tensor]) -> dict[str, Tensor]:
        """The head's tensors, and the anchors."""
        maps = list(features.values())
        return {**self.model.head(maps), "anchors": anchors_of(self.model.anchor_generator, resized, maps)}

    def loss(self, outputs: DetectorOutputs, truth: Tensor) -> Tensor:
        """The sum of the training losses, `(B,)`."""
        targets = self.targets(outputs, truth)
        return torch.stack([self.image_loss(_image(outputs, place), one) for place, one in enumerate(targets)])

    @abstractmethod
    def image_loss(self, outputs: DetectorOutputs, target: Target) -> Tensor:
        """The sum of torchvision's training losses for outputs of one image."""

    def places(self, outputs: DetectorOutputs) -> None:
        """None: anchors are fixed."""


class SigmoidDetector(OneStageDetector):
    """Yes or no for every class at every anchor.

    Torchvision's training scripts number classes from 1 and build these models for one class more than there are, so
    that column 0 is never a label: its score counts in the loss alone. A model with as many columns as `classes` is
    taken to number them from 0.
    """

    def __init__(self, model: nn.Module, classes: int | None = None) -> None:
        columns = columns_of(model, "head.classification_head.num_classes")
        super().__init__(model, columns, offset=0 if classes == columns else 1, classes=classes)

    def heads(self, resized: ImageList, features: dict[str, Tensor]) -> dict[str, Tensor]:
        """As for one stage, and `levels` `(B, L)` int64: the number of anchors on each level of the pyramid."""
        tensors = super().heads(resized, features)
        cells = [level.shape[-2] * level.shape[-1] for level in features.values()]
        images, anchors = tensors["anchors"].shape[:2]
        levels = torch.tensor(cells, device=tensors["anchors"].device) * (anchors // sum(cells))
        return {**tensors, "levels": levels.expand(images, -1)}

    def log_probs(self, outputs: DetectorOutputs, places: Tensor | None = None) -> Tensor:
        """Log-probabilities `(B, 2, A·K)` of no and yes, for every class at every anchor.

        They are those of the class scores alone: FCOS's centre-ness, which ranks its detections, is left out.
        """
        logits = at_least_single(outputs.tensors["cls_logits"][..., self.offset :].flatten(1))
        return torch.stack([F.logsigmoid(-logits), F.logsigmoid(logits)], 1)

    def find(self, outputs: DetectorOutputs) -> list[Target]:
        """What `postprocess_detections` finds, given the levels one by one."""
        levels = level_sizes(outputs)
        heads = {name: torch.split(tensor, levels, 1) for name, tensor in _head(outputs).items()}
        anchors = [torch.split(anchors, levels) for anchors in outputs.tensors["anchors"]]
        found: list[Target] = self.model.postprocess_detections(heads, anchors, [resized_size(outputs)] * len(outputs))
        return found


class RetinaNetDetector(SigmoidDetector):
    """RetinaNet: focal loss of the classes, L1 (in torchvision's v2, GIoU) loss of the boxes."""

    def image_loss(self, outputs: DetectorOutputs, target: Target) -> Tensor:
        """`RetinaNet.compute_loss` of one image."""
        return total(self.model.compute_loss([target], _head(outputs), list(outputs.tensors["anchors"])))


class FCOSDetector(SigmoidDetector):
    """FCOS: focal loss of the classes, GIoU loss of the boxes, cross-entropy of the centre-ness."""

    def image_loss(self, outputs: DetectorOutputs, target: Target) -> Tensor:
        """`FCOS.compute_loss` of one image."""
        anchors = list(outputs.tensors["anchors"])
        return total(self.model.compute_loss([target], _head(outputs), anchors, level_sizes(outputs)))


class SSDDetector(OneStageDetector):
    """SSD, SSDlite: one class or the background at every anchor; smooth L1 loss of the boxes.

    torchvision's loss counts objects, and three background anchors for each: of an image without objects it is 0
    whatever the image, which no attack can climb. Here it is then the cross-entropy of the background summed over all
    anchors, which is what torchvision's RetinaNet has for such an image, but for the focal weight.
    """

    def __init__(self, model: nn.Module, classes: int | None = None) -> None:
        columns = columns_of(model, "head.classification_head.num_columns")
        super().__init__(model, columns, offset=1, classes=classes)

    def image_loss(self, outputs: DetectorOutputs, target: Target) -> Tensor:
        """`SSD.compute_loss` of one image, with the matching of `SSD.forward`."""
        if not len(target["boxes"]):
            return -self.log_probs(outputs)[:, 0].sum()
        anchors = outputs.tensors["anchors"][0]
        matched = self.model.proposal_matcher(box_iou(target["boxes"], anchors))
        return total(self.model.compute_loss([target], _head(outputs), [anchors], [matched]))

    def log_probs(self, outputs: DetectorOutputs, places: Tensor | None = None) -> Tensor:
        """Log-probabilities `(B, K + 1, A)` of the background and the classes, at every anchor."""
        return at_least_single(outputs.tensors["cls_logits"]).log_softmax(-1).transpose(1, 2)

    def find(self, outputs: DetectorOutputs) -> list[Target]:
        """What `postprocess_detections` finds."""
        sizes = [resized_size(outputs)] * len(outputs)
        found: list[Target] = self.model.postprocess_detections(_head(outputs), list(outputs.tensors["anchors"]), sizes)
        return found


def level_sizes(outputs: DetectorOutputs) -> list[int]:
    """The number of anchors on each level."""
    return [int(size) for size in outputs.tensors["levels"][0].tolist()]


def _head(outputs: DetectorOutputs) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in outputs.tensors.items() if name not in NOT_OF_THE_HEAD}


def _image(outputs: DetectorOutputs, place: int) -> DetectorOutputs:
    return outputs.map(lambda tensor: tensor[place : place + 1])
