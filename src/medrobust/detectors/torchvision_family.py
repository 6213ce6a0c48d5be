"""What torchvision's detectors have in common: resizing inside, targets in resized pixels, detections in the image's.

The parts are torchvision's own (`transform`, `backbone`, heads, anchors, losses, post-processing), called one by one:
so a raw output, the loss of one image and its detections come from one pass through the backbone, without train mode.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.transform import resize_boxes

from medrobust.detectors.detector import Detections, DetectorOutputs, Places
from medrobust.errors import InputError
from medrobust.model_state import in_use

Target = dict[str, Tensor]
Size = tuple[int, int]


class TorchvisionDetector(ABC):
    """A torchvision detector as a `medrobust.detectors.Detector`.

    Its outputs hold, besides what a family adds, `anchors` `(B, A, 4)` in resized pixels and `resized` `(B, 2)` int64,
    the (height, width) that the model's transform gave the image.

    Args:
        model: the detector; only read.
        columns: alternatives that its classifier tells apart.
        offset: torchvision's label of class 0.
        classes: number of classes without the background that there should be, or None.

    Raises:
        InputError: the model's number of classes is another.
    """

    def __init__(self, model: nn.Module, columns: int, offset: int, classes: int | None) -> None:
        # torchvision's types are unknown to the type checker
        self.model: Any = model
        self.offset = offset
        self.classes = columns - offset
        if classes is not None and classes != self.classes:
            raise InputError(
                f"{type(model).__name__} is built for num_classes={columns}, which is {self.classes} without the "
                f"background; the data have {classes}: build it with num_classes={classes + 1}"
            )

    def forward(self, images: Tensor) -> DetectorOutputs:
        """Raw outputs for images `(B, C, H, W)`, as in `medrobust.detectors.Detector`."""
        with in_use(self.model, channels_last=False):
            resized, _ = self.model.transform(list(images))
            features = self.model.backbone(resized.tensors)
            if isinstance(features, Tensor):
                features = {"0": features}
            tensors = self.heads(resized, features)
        size = torch.tensor(resized.image_sizes[0], device=images.device).expand(len(images), 2)
        return DetectorOutputs(self, {**tensors, "resized": size}, (images.shape[-2], images.shape[-1]))

    @abstractmethod
    def heads(self, resized: ImageList, features: dict[str, Tensor]) -> dict[str, Tensor]:
        """The tensors of the outputs, from the resized images and the backbone's feature maps."""

    @abstractmethod
    def loss(self, outputs: DetectorOutputs, truth: Tensor) -> Tensor:
        """The sum of the family's training losses, `(B,)`, each as for a batch of that image alone."""

    @abstractmethod
    def places(self, outputs: DetectorOutputs) -> Places:
        """Where class scores are compared, as in `medrobust.detectors.Detector`."""

    @abstractmethod
    def log_probs(self, outputs: DetectorOutputs, places: Places) -> Tensor:
        """Log-probabilities of the class scores, as in `medrobust.detectors.Detector`."""

    @abstractmethod
    def find(self, outputs: DetectorOutputs) -> list[Target]:
        """What torchvision's post-processing leaves for each image, in resized pixels."""

    def detect(self, outputs: DetectorOutputs) -> list[Detections]:
        """What the model finds in each image: its own thresholds, its own non-maximum suppression, its own limits."""
        with torch.no_grad(), in_use(self.model, channels_last=False):
            found = self.find(outputs)
        return [self._detections(one, resized_size(outputs), outputs.image_size) for one in found]

    def targets(self, outputs: DetectorOutputs, truth: Tensor) -> list[Target]:
        """Boxes in resized pixels and torchvision's labels of each image, from truth `(B, N, 5)`."""
        anchors, resized = outputs.tensors["anchors"], resized_size(outputs)
        truth = truth.to(anchors.device, at_least_single(anchors).dtype)
        return [self._target(rows[rows[:, 4] >= 0], resized, outputs.image_size) for rows in truth]

    def _target(self, rows: Tensor, resized: Size, image_size: Size) -> Target:
        return {
            "boxes": resize_boxes(rows[:, :4], list(image_size), list(resized)),
            "labels": rows[:, 4].long() + self.offset,
        }

    def _detections(self, found: Target, resized: Size, image_size: Size) -> Detections:
        # a RetinaNet may give a score to column 0, which is no class
        known = found["labels"] >= self.offset
        boxes = resize_boxes(found["boxes"][known], list(resized), list(image_size))
        return Detections(boxes.float(), found["labels"][known] - self.offset, found["scores"][known].float())


def resized_size(outputs: DetectorOutputs) -> Size:
    """(height, width) that the model's transform gave the images of these outputs."""
    height, width = outputs.tensors["resized"][0].tolist()
    return int(height), int(width)


def anchors_of(generator: Callable[..., list[Tensor]], resized: ImageList, maps: list[Tensor]) -> Tensor:
    """The anchors `(B, A, 4)` of a batch; they are the same for every image, and in memory once."""
    (anchors,) = generator(ImageList(resized.tensors, resized.image_sizes[:1]), maps)
    return anchors.expand(len(resized.tensors), -1, -1)


def columns_of(model: nn.Module, path: str) -> int:
    """The number of columns of a model's classifier, read at the attribute path where torchvision keeps it.

    Raises:
        InputError: a head of the user's own keeps none there.
    """
    part: object = model
    for name in path.split("."):
        part = getattr(part, name, None)
    if not isinstance(part, int):
        raise InputError(f"{type(model).__name__} does not tell its number of classes: set model.{path}")
    return part


def at_least_single(tensor: Tensor) -> Tensor:
    """The same in float32 where autocast has left half precision, too coarse for corners and divergences."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def total(losses: Mapping[str, Tensor]) -> Tensor:
    """The sum of a dictionary of losses."""
    return torch.stack(list(losses.values())).sum()
