"""Small things to learn, and models that learn them at once."""

from __future__ import annotations

import torch
from torch import nn

import medrobust as mr
from medrobust.data import DatasetInfo, Sample
from medrobust.training import Course, Method, Training, Validation


class Bars:
    """Two classes of 8 × 8 images: a strong bar that a small change erases from the weak side on."""

    def __init__(self, count: int = 32, seed: int = 0, *, masks: bool = False) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.grades = torch.randint(0, 2, (count,), generator=generator)
        bar = torch.zeros(8, 8)
        bar[:4], bar[4:] = 0.12, 0.01
        signs = (2 * self.grades - 1)[:, None, None, None]
        self.images = (0.5 + 0.1 * torch.randn(count, 1, 8, 8, generator=generator) + signs * bar).clamp(0, 1)
        self.masks = masks
        self.info = DatasetInfo(
            name="bars",
            task="segmentation" if masks else "classification",
            classes=("down", "up"),
            channels=1,
            bounds=(0.0, 1.0),
            unit="[0, 1]",
            spatial_dims=2,
            source="bars",
        )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Sample:
        truth = (self.images[index, 0] > 0.5).long() if self.masks else self.grades[index]
        return Sample(str(index), self.images[index], truth)

    def fingerprint(self) -> str:
        return f"bars {len(self)} {self.masks}"


def network(*, masks: bool = False, norm: bool = True, dropout: float = 0.1) -> nn.Module:
    torch.manual_seed(1)
    first = [nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm2d(6) if norm else nn.Identity(), nn.ReLU()]
    if masks:
        return nn.Sequential(*first, nn.Conv2d(6, 2, 3, padding=1))
    return nn.Sequential(*first, nn.Dropout(dropout), nn.Flatten(), nn.Linear(6 * 64, 2))


def victim_of(model: nn.Module, *, masks: bool = False) -> mr.Victim:
    task = mr.Segmentation(2) if masks else mr.Classification(2)
    return mr.Victim(model, task, mean=0.5, std=0.25)


def course(method: Method, victim: mr.Victim | None = None, *, masks: bool = False, seed: int = 0, **how) -> Course:
    usual = {"epochs": 2, "batch_size": 8, "learning_rate": 1e-3, "normalisation": "batch"}
    return Course(
        victim or victim_of(network(masks=masks), masks=masks),
        Bars(masks=masks),
        Bars(16, seed=1, masks=masks),
        method,
        mr.Threat(eps=16 / 255),
        Training(**{**usual, **how}),
        Validation(),
        seed,
    )
