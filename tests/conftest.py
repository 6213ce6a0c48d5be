"""Fixtures of the whole suite: a network trained on real brain slices, and where real data lie."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from medrobust.data import stack
from medrobust.data.embedded import open_embedded
from medrobust.tasks import Classification
from medrobust.victim import Victim

SHARED = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="session", autouse=True)
def _few_threads():
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))


@pytest.fixture(scope="session", autouse=True)
def shared_cache(tmp_path_factory) -> Iterator[str]:
    """One cache of slices and embedded models for a whole test run, not the user's; `MEDROBUST_CACHE` names another."""
    given = os.environ.get("MEDROBUST_CACHE")
    folder = given or str(tmp_path_factory.mktemp("cache"))
    os.environ["MEDROBUST_CACHE"] = folder
    yield folder
    if given is None:
        del os.environ["MEDROBUST_CACHE"]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real medical images beside the project; see SOURCES.md there."""
    if not SHARED.is_dir():
        pytest.skip(f"the shared data sets are not there ({SHARED.name} beside the project)")
    return SHARED


def level_network() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 8, 5, stride=2, padding=2),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3, stride=2, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(4),
        nn.Flatten(),
        nn.Linear(256, 5),
    )


@pytest.fixture(scope="session")
def trained() -> tuple[Victim, torch.Tensor, torch.Tensor]:
    """A small network that tells the level of a brain slice, with 16 real slices that it answers right."""
    dataset = open_embedded("level", split="train")
    images, truth, _ = stack([dataset[index] for index in range(len(dataset))])
    images = nn.functional.avg_pool2d(images, 2)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        # in double precision machines that round differently end at the same float32 weights
        network = level_network().double()
        optimizer = torch.optim.Adam(network.parameters(), 3e-3)
        for _ in range(60):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(images.double()), truth).backward()
            optimizer.step()
    network.float().eval()
    network.requires_grad_(False)
    victim = Victim(network, Classification(5, ordinal=True))
    right = (victim(images).argmax(1) == truth).nonzero().flatten()
    assert len(right) >= 32, f"the network learned nothing: {len(right)} of {len(truth)} right"
    chosen = right[torch.linspace(0, len(right) - 1, 16).long()]
    return victim, images[chosen], truth[chosen]
