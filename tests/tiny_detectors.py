"""Small detectors of torchvision's families, with random weights that find many things in 64-pixel images."""

from __future__ import annotations

from collections import OrderedDict
from functools import partial

import torch
from torch import Tensor, nn
from torchvision.models.detection import FCOS, FasterRCNN, RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator, DefaultBoxGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNConvFCHead, FastRCNNPredictor
from torchvision.models.detection.retinanet import RetinaNetHead
from torchvision.models.detection.ssd import SSD
from torchvision.models.detection.ssdlite import SSDLiteHead
from torchvision.ops import MultiScaleRoIAlign

CLASSES = 3
CHANNELS = 32
SIZES = {"min_size": 64, "max_size": 96}


class Pyramid(nn.Module):
    """Feature maps at strides 8 and 16."""

    def __init__(self, out_channels: int | list[int] = CHANNELS) -> None:
        super().__init__()
        self.out_channels = out_channels
        self.stem = nn.Sequential(
            nn.Conv2d(3, 16, 5, stride=4, padding=2),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.Conv2d(16, CHANNELS, 3, stride=2, padding=1),
            nn.BatchNorm2d(CHANNELS),
        )
        self.deeper = nn.Conv2d(CHANNELS, CHANNELS, 3, stride=2, padding=1)

    def forward(self, images: Tensor) -> OrderedDict[str, Tensor]:
        fine = self.stem(images)
        return OrderedDict([("0", fine), ("1", self.deeper(fine.relu()))])


def anchors(ratios: tuple[float, ...] = (0.5, 1.0, 2.0)) -> AnchorGenerator:
    return AnchorGenerator(((16,), (32,)), (ratios,) * 2)


def retinanet(**options: object) -> nn.Module:
    options = {"num_classes": CLASSES + 1, **SIZES, **options}
    return RetinaNet(Pyramid(), anchor_generator=anchors(), **options)


def retinanet_giou() -> nn.Module:
    head = RetinaNetHead(CHANNELS, 3, CLASSES + 1, norm_layer=partial(nn.GroupNorm, 8))
    head.regression_head._loss_type = "giou"
    return retinanet(head=head)


def fcos(**options: object) -> nn.Module:
    options = {"num_classes": CLASSES + 1, **SIZES, **options}
    return FCOS(Pyramid(), anchor_generator=AnchorGenerator(((8,), (16,)), ((1.0,),) * 2), **options)


def ssdlite() -> nn.Module:
    boxes = DefaultBoxGenerator([[2], [2]], min_ratio=0.2, max_ratio=0.6)
    head = SSDLiteHead(
        [CHANNELS] * 2, boxes.num_anchors_per_location(), CLASSES + 1, partial(nn.BatchNorm2d, eps=0.001)
    )
    return SSD(Pyramid([CHANNELS] * 2), boxes, (64, 80), CLASSES + 1, head=head)


def ssd() -> nn.Module:
    boxes = DefaultBoxGenerator([[2], [2, 3]], min_ratio=0.2, max_ratio=0.6)
    return SSD(Pyramid([CHANNELS] * 2), boxes, (64, 64), CLASSES + 1)


def faster_rcnn(**options: object) -> nn.Module:
    return FasterRCNN(
        Pyramid(),
        num_classes=None if "box_predictor" in options else CLASSES + 1,
        rpn_anchor_generator=anchors(),
        box_roi_pool=MultiScaleRoIAlign(["0", "1"], output_size=3, sampling_ratio=2),
        rpn_pre_nms_top_n_train=90,
        rpn_post_nms_top_n_train=60,
        rpn_pre_nms_top_n_test=50,
        rpn_post_nms_top_n_test=40,
        rpn_batch_size_per_image=24,
        box_batch_size_per_image=16,
        **SIZES,
        **options,
    )


def faster_rcnn_norm() -> nn.Module:
    """With BatchNorm in the second stage, as in torchvision's v2."""
    head = FastRCNNConvFCHead((CHANNELS, 3, 3), [16], [32], norm_layer=nn.BatchNorm2d)
    return faster_rcnn(box_head=head, box_predictor=FastRCNNPredictor(32, CLASSES + 1))


FAMILIES = {
    build.__name__: build for build in (retinanet, retinanet_giou, fcos, ssd, ssdlite, faster_rcnn, faster_rcnn_norm)
}


def tiny_detector(family: str, seed: int = 0) -> nn.Module:
    """A detector of a family in eval mode, with weights, BatchNorm statistics and scores that vary."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = FAMILIES[family]()
        for module in model.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight)
                if module.bias is not None:
                    nn.init.normal_(module.bias, std=0.1)
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.running_mean, -0.5, 0.5)
                nn.init.uniform_(module.running_var, 0.5, 2)
    return model.eval()
