"""What a warm start of the attacks inside buys: cold and warm training at equal cost, attacked alike afterwards.

    python benchmarks/warm_start.py pneumoniamnist.npz [--seeds 3] [--epochs 10] [--images 1000] [--eps 8] [--threads 2]

A small convolutional network from random weights learns from MedMNIST images of 28 × 28 by PGD-AT as `medrobust harden`
runs it, eps in 255ths, with attacks of one or two steps, cold or warm, and of ten, cold, to compare with. Left: the
share of 200 test images that are answered right, clean and after the worse of 50 steps of APGD on the cross-entropy
and on the margin, the mean over seeds and the lowest and highest.
"""

from __future__ import annotations

import argparse
import statistics

import torch
from torch import nn

import medrobust as mr
from medrobust.attacks import APGD, Margin
from medrobust.data import Dataset, open_dataset, stack
from medrobust.data.options import DataOptions
from medrobust.models.randomness import seeded
from medrobust.training import AdversarialTraining, Training

LOSSES = (None, Margin())
# steps, step size in units of eps, warm
WAYS = (
    (1, 1.25, False),
    (1, 1.25, True),
    (1, 0.5, False),
    (1, 0.5, True),
    (2, 1.25, False),
    (2, 1.25, True),
    (2, 0.5, False),
    (2, 0.5, True),
    (10, 0.25, False),
)


def network(classes: int, channels: int, seed: int) -> nn.Module:
    """Three convolutions."""
    with seeded(seed):
        layers: list[nn.Module] = []
        for before, after in ((channels, 16), (16, 32), (32, 32)):
            layers += [nn.Conv2d(before, after, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
        return nn.Sequential(*layers, nn.Flatten(), nn.Linear(32 * 9, classes))


def left(victim: mr.Victim, data: Dataset, threat: mr.Threat) -> tuple[float, float]:
    """The share right, clean and after the worse of both attacks."""
    images, truth, ids = stack([data[place] for place in range(len(data))])
    standing = clean = ~victim.task.fooled(victim(images), truth)
    for loss in LOSSES:
        standing = (
            standing & ~APGD(steps=50, loss=loss, early_stop=True)(victim, images, truth, threat, ids=ids).success
        )
    return float(clean.double().mean()), float(standing.double().mean())


def main() -> None:
    """Train in every way, and print what is left."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", help="a MedMNIST file of one class an image")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--eps", type=float, default=8)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    limits = {"train": given.images, "val": 200, "test": 200}
    training, validation, test = (
        open_dataset(given.data, DataOptions(split=split, limit=limit)) for split, limit in limits.items()
    )
    threat, classes = mr.Threat(given.eps / 255), len(training.info.classes)
    for steps, size, warm in WAYS:
        found = []
        for seed in range(given.seeds):
            how = Training(epochs=given.epochs, learning_rate=2e-3, patience=0, warm_start=warm)
            method = AdversarialTraining(attack=mr.PGD(steps=steps, step_size=size * threat.eps))
            victim = mr.Victim(
                network(classes, training.info.channels, seed), mr.Classification(classes), mean=0.5, std=0.25
            )
            trained = mr.harden(victim, training, validation, method, threat, how, seed=seed)
            found.append(left(trained.victim, test, threat))
        told = [
            f"{name} {statistics.mean(values):.3f} ({min(values):.3f} to {max(values):.3f})"
            for name, values in zip(("clean", "attacked"), zip(*found, strict=True), strict=True)
        ]
        print(f"{steps:2} steps of {size} eps, {'warm' if warm else 'cold'}: {', '.join(told)}", flush=True)


if __name__ == "__main__":
    main()
