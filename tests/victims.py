"""Every kind of victim that an attack must cope with, each with images and truth for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from medrobust.tasks import Classification, Segmentation, Task
from medrobust.victim import Victim


@dataclass(frozen=True)
class Case:
    """A kind of victim with images and truth for it."""

    task: Task
    model: Callable[[], nn.Module]
    shape: tuple[int, ...]  # (B, C, *spatial)
    outputs: tuple[int, ...]  # of the truth, behind B
    classes: int
    bounds: tuple[float, float] = (0.0, 1.0)
    eps: float = 0.03
    dtype: torch.dtype = torch.float32
    contiguous: bool = True


def classifier(channels: int, outputs: int, dims: int = 2) -> Callable[[], nn.Module]:
    conv, norm, pool = (
        (nn.Conv2d, nn.BatchNorm2d, nn.AdaptiveAvgPool2d)
        if dims == 2
        else (nn.Conv3d, nn.BatchNorm3d, nn.AdaptiveAvgPool3d)
    )
    return lambda: nn.Sequential(
        conv(channels, 6, 3, padding=1),
        norm(6),
        nn.Tanh(),
        pool(2),
        nn.Flatten(),
        nn.Linear(6 * 2**dims, outputs),
    )


def segmenter(channels: int, outputs: int, dims: int = 2) -> Callable[[], nn.Module]:
    conv, norm = (nn.Conv2d, nn.BatchNorm2d) if dims == 2 else (nn.Conv3d, nn.BatchNorm3d)
    return lambda: nn.Sequential(conv(channels, 6, 3, padding=1), norm(6), nn.Tanh(), conv(6, outputs, 3, padding=1))


class HounsfieldScaled(nn.Module):
    """A model that reads HU, as a radiology model's first layer does."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x / 500)


CASES = {
    "1 channel": Case(Classification(4), classifier(1, 4), (4, 1, 9, 8), (), 4),
    "3 channels": Case(Classification(4), classifier(3, 4), (4, 3, 8, 9), (), 4),
    "5 channels": Case(Classification(3), classifier(5, 3), (2, 5, 8, 8), (), 3),
    "3-D": Case(Classification(3), classifier(1, 3, 3), (3, 1, 5, 6, 7), (), 3),
    "two classes": Case(Classification(2), classifier(1, 2), (4, 1, 8, 8), (), 2),
    "one logit": Case(Classification(2), classifier(1, 1), (4, 1, 8, 8), (), 2),
    "one logit, no axis": Case(
        Classification(2), lambda: nn.Sequential(classifier(1, 1)(), nn.Flatten(0)), (4, 1, 8, 8), (), 2
    ),
    "multi-label": Case(Classification(3, multilabel=True), classifier(1, 3), (4, 1, 8, 8), (3,), 2),
    "multi-label unknown": Case(
        Classification(3, multilabel=True, ignore_index=-1), classifier(1, 3), (4, 1, 8, 8), (3,), 2
    ),
    "ordinal": Case(Classification(5, ordinal=True), classifier(1, 5), (4, 1, 8, 8), (), 5),
    "ordinal cumulative": Case(Classification(5, ordinal=True), classifier(1, 4), (4, 1, 8, 8), (), 5),
    "HU": Case(
        Classification(3),
        lambda: HounsfieldScaled(classifier(1, 3)()),
        (3, 1, 8, 8),
        (),
        3,
        (-1024.0, 3071.0),
        20.0,
    ),
    "float64": Case(Classification(3), lambda: classifier(1, 3)().double(), (3, 1, 8, 8), (), 3, dtype=torch.float64),
    "float64 images, float32 model": Case(
        Classification(3), classifier(1, 3), (3, 1, 8, 8), (), 3, dtype=torch.float64
    ),
    "float16 images": Case(Classification(3), classifier(1, 3), (3, 1, 8, 8), (), 3, dtype=torch.float16),
    "non-contiguous": Case(Classification(3), classifier(3, 3), (3, 3, 8, 8), (), 3, contiguous=False),
    "segmentation": Case(Segmentation(3), segmenter(1, 3), (3, 1, 8, 9), (8, 9), 3),
    "segmentation ignored": Case(Segmentation(3, ignore_index=255), segmenter(1, 3), (3, 1, 8, 9), (8, 9), 3),
    "segmentation one logit": Case(Segmentation(2), segmenter(3, 1), (3, 3, 8, 9), (8, 9), 2),
    "segmentation multi-label": Case(Segmentation(2, multilabel=True), segmenter(1, 2), (3, 1, 8, 9), (2, 8, 9), 2),
    "segmentation 3-D": Case(Segmentation(3), segmenter(1, 3, 3), (2, 1, 5, 6, 7), (5, 6, 7), 3),
    "flat volume": Case(Segmentation(2), segmenter(1, 2, 3), (2, 1, 1, 6, 7), (1, 6, 7), 2),
}


def build(case: Case) -> tuple[Victim, Tensor, Tensor]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = case.model()
        model.train()  # a victim must cope, and put it back
        low, high = case.bounds
        images = low + (high - low) * torch.rand(case.shape, dtype=torch.float32)
        truth = torch.randint(0, case.classes, (case.shape[0], *case.outputs))
    images = images.to(case.dtype)
    if not case.contiguous:
        images = images.permute(0, 1, 3, 2)
        assert not images.is_contiguous()
    ignore = getattr(case.task, "ignore_index", None)
    if ignore is not None:
        truth.view(-1)[::3] = ignore
    return Victim(model, case.task, case.bounds), images, truth


def state(model: nn.Module) -> dict[str, object]:
    return {
        **{name: tensor.clone() for name, tensor in model.state_dict().items()},
        **{f"{name} training": module.training for name, module in model.named_modules()},
        **{f"{name} grad": parameter.grad for name, parameter in model.named_parameters()},
        **{f"{name} requires_grad": parameter.requires_grad for name, parameter in model.named_parameters()},
    }


def assert_same_state(before: dict[str, object], after: dict[str, object]) -> None:
    assert before.keys() == after.keys()
    for name, value in before.items():
        same = torch.equal(value, after[name]) if isinstance(value, Tensor) else value == after[name]
        assert same, f"{name} changed"


class Greedy(nn.Module):
    """Has memory for so many images at once."""

    def __init__(self, inner: nn.Module, most: int, error: Exception) -> None:
        super().__init__()
        self.inner, self.most, self.error = inner, most, error

    def forward(self, x: Tensor) -> Tensor:
        if len(x) > self.most:
            raise self.error
        return self.inner(x)
