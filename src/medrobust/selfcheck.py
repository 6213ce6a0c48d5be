"""What `medrobust doctor` looks at: versions, device, extras, and whether attacks do here what they promise."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import nn

from medrobust.attacks import BIM, PGD, SMIA
from medrobust.data.embedded import cache_folder
from medrobust.run import installed_versions
from medrobust.tasks import Classification
from medrobust.threat import Threat
from medrobust.victim import Victim

EXTRAS = {"smp": "segmentation_models_pytorch", "dicom": "highdicom", "medmnist": "medmnist", "onnx": "onnxruntime"}


class Finding(NamedTuple):
    """One line: what was looked at, whether it is well, and what was seen."""

    name: str
    well: bool
    seen: str


def findings() -> Iterator[Finding]:
    """All of them; the last take a few seconds."""
    for package, version in installed_versions().items():
        yield Finding(package, True, version)
    yield Finding("device", True, _device())
    yield Finding("cache folder", True, str(cache_folder()))
    for extra, module in EXTRAS.items():
        there = importlib.util.find_spec(module) is not None
        yield Finding(
            f"extra {extra}",
            True,
            "installed" if there else f"not installed: pip install 'medrobust[{extra}]'",
        )
    yield from _self_check()


def _device() -> str:
    if torch.cuda.is_available():
        return f"cuda: {torch.cuda.get_device_name()}"
    return f"cpu, {torch.get_num_threads()} threads"


def _self_check() -> Iterator[Finding]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        convolution = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU())
        model = nn.Sequential(*convolution, nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(128, 3))
        images = torch.rand(8, 1, 24, 24)
    victim = Victim(model, Classification(3))
    truth = victim(images).argmax(1)
    eps = 8 / 255
    threat = Threat(eps)
    clean_loss = victim.task.loss(victim(images), truth)
    for name, attack in {"PGD": PGD(), "SMIA": SMIA()}.items():
        result = attack(victim, images, truth, threat)
        largest = float(result.delta.abs().max())
        inside = largest <= eps + 1e-6 and 0 <= float(result.adversarial.min()) <= float(result.adversarial.max()) <= 1
        rose = float((result.loss - clean_loss).mean())
        yield Finding(f"{name} stays in the ball", inside, f"largest change {largest:.6f}, eps {eps:.6f}")
        yield Finding(f"{name} raises the loss", rose > 0, f"by {rose:.4f} on average")
    without = SMIA(a2=0, step_size=0.005)(victim, images, truth, threat).adversarial
    bim = BIM(step_size=0.005)(victim, images, truth, threat).adversarial
    same = torch.equal(without, bim)
    yield Finding("SMIA with a2=0 equals BIM", same, "bit for bit" if same else "it differs")
