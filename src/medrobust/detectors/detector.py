"""What a family of detectors must tell: raw outputs, their loss against a truth, scores at fixed places, detections.

A detector's own `forward` hides all of this behind post-processing, or behind train mode, which changes BatchNorm and
gives the mean over a batch. A new family (a YOLO, a DETR) is one class in one file: an `nn.Module` with the methods of
`Detector`, around the network or instead of it; examples/own_detector.py is one. It is used as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

Places = Tensor | None
"""Where scores are compared: proposals `(B, P, 4)` of a two-stage family; None where anchors or queries are fixed."""


@dataclass(frozen=True)
class Detections:
    """What a detector finds in one image, best first.

    Attributes:
        boxes: `(n, 4)` float32, x1, y1, x2, y2 in pixels of the image as it was given.
        labels: `(n,)` int64, class counted from 0, without a background.
        scores: `(n,)` float32 in [0, 1], descending.
    """

    boxes: Tensor
    labels: Tensor
    scores: Tensor

    def where(self, chosen: Tensor) -> Detections:
        """Those for which `chosen` `(n,)` is True."""
        return Detections(self.boxes[chosen], self.labels[chosen], self.scores[chosen])


@dataclass(frozen=True)
class DetectorOutputs:
    """Raw outputs for a batch of images of one size, before any post-processing, differentiable in the images.

    Attributes:
        detector: the family that made them, and knows how to read them.
        tensors: name → `(B, …)`: head outputs per anchor (query), and what a second stage needs.
        image_size: (height, width) of the images as they were given.
    """

    detector: Detector
    tensors: Mapping[str, Tensor]
    image_size: tuple[int, int]

    def __len__(self) -> int:
        return len(next(iter(self.tensors.values())))

    @cached_property
    def detections(self) -> list[Detections]:
        """What the detector finds in each image, without a graph; computed once."""
        with torch.no_grad():
            return self.detector.detect(self.map(Tensor.detach))

    def map(self, function: Callable[[Tensor], Tensor]) -> DetectorOutputs:
        """The same with every tensor changed."""
        tensors = {name: function(tensor) for name, tensor in self.tensors.items()}
        return DetectorOutputs(self.detector, tensors, self.image_size)


@runtime_checkable
class Detector(Protocol):
    """A model that finds objects of `classes` kinds. Everything is per image: no image's figures depend on another's.

    It never leaves eval mode and never touches a parameter, a buffer or the global random state: a loss that samples
    anchors or proposals draws them for every image from a generator started afresh from a fixed seed.
    """

    @property
    def classes(self) -> int:
        """Number of classes, without the background."""
        ...

    def forward(self, images: Tensor) -> DetectorOutputs:
        """Raw outputs for images `(B, C, H, W)`; the model's own resizing and normalisation are inside."""
        ...

    def loss(self, outputs: DetectorOutputs, truth: Tensor) -> Tensor:
        """The family's training loss of each image, `(B,)`, as for a batch of that image alone.

        Args:
            outputs: of `forward`.
            truth: `(B, N, 5)` float32: x1, y1, x2, y2 in pixels of the image as it was given, class from 0; rows of
                class −1 only fill up. An image may have no object.
        """
        ...

    def places(self, outputs: DetectorOutputs) -> Places:
        """Where the class scores of these outputs are to be compared with those of others (detached)."""
        ...

    def log_probs(self, outputs: DetectorOutputs, places: Places) -> Tensor:
        """Log-probabilities `(B, K, *positions)` of the class scores at anchors, queries or `places`, differentiable.

        K is the number of classes and a background for a softmax, 2 for yes/no scores, one position for each class.
        Alternative 0 means that there is no object.
        """
        ...

    def detect(self, outputs: DetectorOutputs) -> list[Detections]:
        """What the model finds in each image, by its own thresholds and non-maximum suppression."""
        ...
