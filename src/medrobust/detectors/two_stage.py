"""Faster R-CNN of torchvision: proposals from anchors, then a class and a box for each.

Ren et al., arXiv 1506.01497.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.roi_heads import fastrcnn_loss
from torchvision.models.detection.rpn import concat_box_prediction_layers

from medrobust.detectors.detector import DetectorOutputs
from medrobust.detectors.sampling import training_view
from medrobust.detectors.torchvision_family import (
    Size,
    Target,
    TorchvisionDetector,
    anchors_of,
    at_least_single,
    columns_of,
    resized_size,
)
from medrobust.model_state import in_use

FEATURES, OBJECTNESS, DELTAS = "features.", "objectness.", "deltas."


class FasterRCNNDetector(TorchvisionDetector):
    """A Faster R-CNN; of a Mask R-CNN or Keypoint R-CNN the boxes alone.

    The outputs hold the backbone's feature maps (`features.<name>`), and for each of them what the region proposal
    network gives (`objectness.<i>`, `deltas.<i>`). Proposals are in resized pixels and never differentiable, as in
    training.

    Args:
        model: the detector; only read.
        classes: number of classes without the background that there should be, or None.
        scores_per_image: at how many of its best proposals an image's class scores are compared. The number is the same
            for every image, for the mean over them not to depend on an image's neighbours.
    """

    def __init__(self, model: nn.Module, classes: int | None = None, *, scores_per_image: int = 256) -> None:
        columns = columns_of(model, "roi_heads.box_predictor.cls_score.out_features")
        super().__init__(model, columns, offset=1, classes=classes)
        self.scores_per_image = scores_per_image

    def heads(self, resized: ImageList, features: dict[str, Tensor]) -> dict[str, Tensor]:
        """Feature maps, the first stage at every cell, and its anchors."""
        maps = list(features.values())
        objectness, deltas = self.model.rpn.head(maps)
        return {
            **{FEATURES + name: one for name, one in features.items()},
            **{f"{OBJECTNESS}{level}": one for level, one in enumerate(objectness)},
            **{f"{DELTAS}{level}": one for level, one in enumerate(deltas)},
            "anchors": anchors_of(self.model.rpn.anchor_generator, resized, maps),
        }

    def loss(self, outputs: DetectorOutputs, truth: Tensor) -> Tensor:
        """Objectness, box and class losses of both stages, `(B,)`."""
        with in_use(self.model, channels_last=False):
            targets = self.targets(outputs, truth)
            rpn = training_view(self.model.rpn)
            proposals = _never_none(self.proposals(outputs, rpn), resized_size(outputs))
            return self._first_loss(outputs, targets, rpn) + self._second_loss(outputs, targets, proposals)

    def _first_loss(self, outputs: DetectorOutputs, targets: list[Target], rpn: Any) -> Tensor:
        objectness, deltas, _ = _first_stage(outputs)
        losses = []
        for place, target in enumerate(targets):
            anchors = [outputs.tensors["anchors"][place]]
            labels, boxes = rpn.assign_targets_to_anchors(anchors, [target])
            wanted = rpn.box_coder.encode(boxes, anchors)
            losses.append(sum(rpn.compute_loss(objectness[place], deltas[place], labels, wanted)))
        return torch.stack(losses)

    def _second_loss(self, outputs: DetectorOutputs, targets: list[Target], proposals: list[Tensor]) -> Tensor:
        heads = training_view(self.model.roi_heads)
        # the masks of a Mask R-CNN are asked for, but not used here
        samples = [
            heads.select_training_samples([boxes], [{**target, "masks": target["boxes"]}])
            for boxes, target in zip(proposals, targets, strict=True)
        ]
        logits, deltas = self._second_stage(outputs, [boxes for (boxes,), *_ in samples])
        losses = [
            sum(fastrcnn_loss(*scores, labels, wanted))
            for *scores, (_, _, labels, wanted) in zip(logits, deltas, samples, strict=True)
        ]
        return torch.stack(losses)

    def places(self, outputs: DetectorOutputs) -> Tensor:
        """The best proposals `(B, scores_per_image, 4)` of these outputs; where there are fewer, they come again."""
        with in_use(self.model, channels_last=False):
            proposals = _never_none(self.proposals(outputs, self.model.rpn), resized_size(outputs))
        order = torch.arange(self.scores_per_image, device=proposals[0].device)
        return torch.stack([boxes[order % len(boxes)] for boxes in proposals])

    def log_probs(self, outputs: DetectorOutputs, places: Tensor | None) -> Tensor:
        """Log-probabilities `(B, K + 1, P)` of the background and the classes; without `places`, at its own."""
        places = self.places(outputs) if places is None else places
        with in_use(self.model, channels_last=False):
            logits, _ = self._second_stage(outputs, list(places))
        return at_least_single(torch.stack(logits)).log_softmax(-1).transpose(1, 2)

    def find(self, outputs: DetectorOutputs) -> list[Target]:
        """What `postprocess_detections` finds at the proposals."""
        heads, sizes = self.model.roi_heads, [resized_size(outputs)] * len(outputs)
        proposals = self.proposals(outputs, self.model.rpn)
        logits, deltas = self._second_stage(outputs, proposals)
        boxes, scores, labels = heads.postprocess_detections(torch.cat(logits), torch.cat(deltas), proposals, sizes)
        return [
            {"boxes": one, "labels": label, "scores": score}
            for one, label, score in zip(boxes, labels, scores, strict=True)
        ]

    def proposals(self, outputs: DetectorOutputs, rpn: Any) -> list[Tensor]:
        """Proposals `(n, 4)` of each image, best first, by the numbers and the threshold of `rpn`."""
        with torch.no_grad():
            objectness, deltas, levels = _first_stage(outputs)
            boxes = rpn.box_coder.decode(deltas.flatten(0, 1), list(outputs.tensors["anchors"])).view(deltas.shape)
            kept, _ = rpn.filter_proposals(boxes, objectness, [resized_size(outputs)] * len(outputs), levels)
        found: list[Tensor] = kept
        return found

    def _second_stage(self, outputs: DetectorOutputs, boxes: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Class logits `(n, K + 1)` and box changes `(n, 4·(K + 1))` at the boxes of each image."""
        tensors = outputs.tensors
        maps = {name.removeprefix(FEATURES): one for name, one in tensors.items() if name.startswith(FEATURES)}
        heads = self.model.roi_heads
        pooled = heads.box_roi_pool(maps, boxes, [resized_size(outputs)] * len(boxes))
        # the outputs are where the images were, in single precision: the weights need not be
        weights = next(self.model.parameters())
        answers = heads.box_predictor(heads.box_head(pooled.to(weights)))
        counts = [len(one) for one in boxes]
        logits, deltas = (list(answer.to(pooled).split(counts)) for answer in answers)
        return logits, deltas


def _first_stage(outputs: DetectorOutputs) -> tuple[Tensor, Tensor, list[int]]:
    """Objectness `(B, A)`, box changes `(B, A, 4)`, and the number of anchors on each level."""
    objectness = [tensor for name, tensor in outputs.tensors.items() if name.startswith(OBJECTNESS)]
    deltas = [tensor for name, tensor in outputs.tensors.items() if name.startswith(DELTAS)]
    scores, changes = concat_box_prediction_layers(objectness, deltas)
    count = len(outputs)
    return scores.view(count, -1), changes.view(count, -1, 4), [level[0].numel() for level in objectness]


def _never_none(proposals: list[Tensor], size: Size) -> list[Tensor]:
    """The whole image, where the first stage leaves no proposal."""
    return [boxes if len(boxes) else boxes.new_tensor([[0, 0, size[1], size[0]]]) for boxes in proposals]
