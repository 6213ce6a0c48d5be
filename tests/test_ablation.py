"""The ablation of SMIA's forms: what an attack may spend, and how its rows become a table and a verdict."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from torch import Tensor, nn

import medrobust as mr

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def ablation():
    """Its modules, which are scripts and find each other by name."""
    found = {}
    sys.path.insert(0, str(BENCHMARKS))
    try:
        for name in ("ablation_attacks", "ablation_sets", "ablation_table"):
            spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
            found[name] = sys.modules[name] = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(found[name])
        yield found
    finally:
        sys.path.remove(str(BENCHMARKS))
        for name in found:
            del sys.modules[name]


class Counting(nn.Module):
    """Counts the images that go through it, and those that a gradient comes back for."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.Tanh(), nn.Conv2d(4, 2, 3, padding=1))
        self.forwards = self.backwards = 0

    def forward(self, images: Tensor) -> Tensor:
        self.forwards += len(images)
        outputs: Tensor = self.layer(images)
        if outputs.requires_grad:
            outputs.register_hook(lambda gradient: setattr(self, "backwards", self.backwards + len(gradient)))
        return outputs


def test_every_attack_spends_what_it_may(ablation):
    """A forward counts 1, a backward 2; each may look once more at what it hands in, and at the clean image."""
    budget, variants = ablation["ablation_attacks"].BUDGET, ablation["ablation_attacks"].variants(32)
    torch.manual_seed(0)
    images, truth = torch.rand(1, 1, 32, 32), torch.randint(0, 2, (1, 32, 32))
    spent = {}
    for label, variant in variants.items():
        model = Counting()
        variant.attack(mr.Victim(model, mr.Segmentation(2)), images, truth, mr.Threat(eps=0.02))
        spent[label] = model.forwards + 2 * model.backwards
        assert budget - 3 <= spent[label] <= budget + 2, label
    assert max(spent.values()) - min(spent.values()) <= 4


def rows_of(after: dict[tuple[str, str, str], list[float]], seeds: int = 1) -> pl.DataFrame:
    """(set, attack, look) → what is left of each image, of clean values of 0.8."""
    return pl.DataFrame(
        [
            {"set": name, "network": "U-Net", "seed": seed, "look": look, "attack": attack, "eps": 8.0}
            | {"index": index, "before": 0.8, "after": value, "loss_before": 0.0, "loss_after": 0.0}
            for (name, attack, look), values in after.items()
            for seed in range(seeds)
            for index, value in enumerate(values)
        ]
    )


def test_sets_weigh_the_same_however_many_images_they_have(ablation):
    """Lung: 4 points of 80 less on the one image; tissue: 8 points more on two of four. (−5 + 5)/2 = 0."""
    table = ablation["ablation_table"]
    rows = rows_of(
        {
            ("lung", "smia", "as it is"): [0.4],
            ("lung", "mse", "as it is"): [0.36],
            ("tissue", "smia", "as it is"): [0.4] * 4,
            ("tissue", "mse", "as it is"): [0.48, 0.48, 0.4, 0.4],
        },
        seeds=2,
    )
    found = table.compare(rows, "as it is", "mse", "smia")
    assert found.difference == pytest.approx((-0.04 / 0.8 + 2 * 0.08 / 4 / 0.8) / 2)
    assert (found.cells_won, found.cells_lost) == (2, 2)


@pytest.mark.parametrize(
    ("smoothed", "told"),
    [
        (0.50, "By the rule of SMIA's forms `perturbation` leaves least as it is, and is not shown to leave more"),
        (0.60, "By the rule of SMIA's forms `perturbation` leaves least as it is, and today's default stays"),
    ],
)
def test_the_rule(ablation, smoothed, told):
    """Perturbation is 8 points stronger as it is, and equal or 10 points weaker once smoothed; mse is 4 stronger."""
    noise = np.random.default_rng(0).uniform(-0.01, 0.01, (6, 12))
    base = {("smia", 0): 0.40, ("perturbation", 0): 0.32, ("mse", 0): 0.36, ("pgd", 0): 0.2}
    base |= {("smia", 1): 0.50, ("perturbation", 1): smoothed, ("mse", 1): 0.5, ("pgd", 1): 0.6}
    looks = ("as it is", "Gaussian smoothing")
    rows = rows_of(
        {
            ("lung", attack, looks[look]): (value + noise[place % 6]).tolist()
            for place, ((attack, look), value) in enumerate(base.items())
        }
    )
    text = ablation["ablation_table"].decision(rows)
    assert text.startswith(told)
    assert ("win as they are and lose nowhere: `mse`" in text) == (smoothed > 0.5)
    assert "pgd" not in text
