"""The cost of one SMIA step against the bare passes it must do, for each task.

    python benchmarks/tasks.py [--rounds 7] [--threads 2] [--cpu-time]

Bare is what nobody can do without: the model forward on x' and on S(x') in one batch of 2B, its loss, and backward to
the input. For a detector it is torchvision's own forward in train mode (BatchNorm frozen) on the same 2B images, which
matches anchors and targets for all of them. Random weights: they do not change the cost of the passes. Timed as in
`step_cost.py`: differences of a long and a short run, ratios round by round. `--cpu-time` counts the processor's
seconds instead of the clock's, for a machine that others use too (with one thread they are the same on a quiet one).
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from step_cost import Runner, step_seconds
from timm import create_model
from torch import Tensor, nn
from torchvision.models import detection

import medrobust as mr
from medrobust.attacks import GaussianSmoothing
from medrobust.models.networks import UNet

EPS, STEP = 4 / 255, 1 / 255
GOALS = {"classification": 1.03, "segmentation": 1.05, "SSDlite": 1.10, "RetinaNet": 1.10, "Faster R-CNN": 1.10}


@dataclass(frozen=True)
class Case:
    """A task with a model, images, truth, and the loss of a bare pass on 2B images."""

    victim: mr.Victim
    images: Tensor
    truth: Tensor
    loss: Callable[[Tensor], Tensor]


def bare(case: Case) -> Runner:
    """Forward on x' and S(x'), loss, backward to x'."""
    smoothing = GaussianSmoothing()

    def run(steps: int) -> None:
        x = case.images.clone()
        for _ in range(steps):
            x = x.detach().requires_grad_()
            torch.autograd.grad(case.loss(torch.cat([x, smoothing(x)])), x)

    return run


def smia(case: Case) -> Runner:
    """The attack."""
    threat = mr.Threat(eps=EPS)
    return lambda steps: mr.SMIA(steps=steps, step_size=STEP)(case.victim, case.images, case.truth, threat)


def classification() -> Case:
    """ResNet-18, 8 × 3 × 128 × 128."""
    model = create_model("resnet18", num_classes=5).eval()
    images, truth = torch.rand(8, 3, 128, 128), torch.randint(0, 5, (8,))

    def loss(both: Tensor) -> Tensor:
        return nn.functional.cross_entropy(model(both), truth.repeat(2), reduction="sum")

    return Case(mr.Victim(model, mr.Classification(5)), images, truth, loss)


def segmentation() -> Case:
    """The embedded U-Net's architecture, 8 × 1 × 120 × 104."""
    model = UNet(1, 3).eval()
    images, truth = torch.rand(8, 1, 120, 104), torch.randint(0, 3, (8, 120, 104))

    def loss(both: Tensor) -> Tensor:
        return nn.functional.cross_entropy(model(both), truth.repeat(2, 1, 1), reduction="sum")

    return Case(mr.Victim(model, mr.Segmentation(3)), images, truth, loss)


def detector(build: Callable[..., nn.Module], side: int, **options: object) -> Case:
    """A torchvision detector, 2 × 3 × side × side, three objects an image."""
    model = build(weights=None, weights_backbone=None, num_classes=4, **options).eval()
    for weight in model.parameters():
        weight.requires_grad_(False)
    images = torch.rand(2, 3, side, side)
    corner = torch.rand(2, 3, 2) * side / 2
    boxes = torch.cat([corner, corner + side / 8 + torch.rand(2, 3, 2) * side / 3], 2)
    labels = torch.randint(0, 3, (2, 3, 1)).float()
    targets = [{"boxes": b, "labels": c.squeeze(1).long() + 1} for b, c in zip(boxes, labels, strict=True)] * 2

    def loss(both: Tensor) -> Tensor:
        model.train()
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        losses = model(list(both), targets)
        model.eval()
        return torch.stack(list(losses.values())).sum()

    return Case(mr.Victim(model, mr.Detection(3)), images, torch.cat([boxes, labels], 2), loss)


def main() -> None:
    """Time, and print the ratios with what they are to reach."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--cpu-time", action="store_true")
    options = parser.parse_args()
    clock = time.process_time if options.cpu_time else time.perf_counter
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    warnings.simplefilter("ignore")
    cases = {
        "classification": classification(),
        "segmentation": segmentation(),
        "SSDlite": detector(detection.ssdlite320_mobilenet_v3_large, 320),
        "RetinaNet": detector(detection.retinanet_resnet50_fpn, 96, min_size=96, max_size=96),
        "Faster R-CNN": detector(detection.fasterrcnn_mobilenet_v3_large_320_fpn, 320),
    }
    print(f"torch {torch.__version__}, {options.threads} threads, {options.rounds} rounds")
    for name, case in cases.items():
        seconds = step_seconds({"bare": bare(case), "SMIA": smia(case)}, options.rounds, clock)
        ratios = sorted(a / b for a, b in zip(seconds["SMIA"], seconds["bare"], strict=True))
        middle = statistics.median(ratios)
        milliseconds = 1e3 * statistics.median(seconds["SMIA"])
        verdict = "reached" if middle <= GOALS[name] else "missed"
        print(
            f"{name:15} {milliseconds:8.1f} ms a step, SMIA / bare {middle:.3f} "
            f"(rounds {ratios[0]:.3f} to {ratios[-1]:.3f}), goal {GOALS[name]:.2f}: {verdict}"
        )


if __name__ == "__main__":
    main()
