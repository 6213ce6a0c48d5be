"""Networks that the peers' attacks and ours are run on side by side: small, trained in seconds on real brain slices."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from medrobust.data import stack
from medrobust.data.embedded import EmbeddedName, Split, open_embedded
from medrobust.tasks import Classification, Segmentation
from medrobust.tasks.task import Task
from medrobust.victim import Victim

# of a crop, averaged 4 by 4 to 25 × 25: the libraries' Square in L2 takes only sides that its tiles fit into
SIDE = 100


@dataclass(frozen=True, kw_only=True)
class OracleVictim:
    """A trained network and images it did not learn from, in [0, 1].

    Attributes:
        model: plain logits (B, K) or (B, K, H, W) of (B, 1, H, W), as the peers take it.
        task: as we take it.
        images: (N, 1, 25, 25); most are answered right, some are not.
        truth: (N,) or (N, 25, 25).
        eps: for the norms "linf", "l2", "l1" a budget that turns many of the answers, not all.
    """

    model: nn.Module
    task: Task
    images: Tensor
    truth: Tensor
    eps: dict[str, float]

    @property
    def victim(self) -> Victim:
        """The network as our attacks take it."""
        return Victim(self.model, self.task)

    def accuracy(self, images: Tensor) -> float:
        """Share of the images (or of their pixels) answered right; clean or attacked, in the order of `images`."""
        return 1 - float(self.wrong(images, self.truth).float().mean())

    def right(self, count: int) -> tuple[Tensor, Tensor]:
        """Images and truth of `count` images answered right, spread over all of them."""
        chosen = (~self.wrong(self.images, self.truth)).nonzero().flatten()
        chosen = chosen[torch.linspace(0, len(chosen) - 1, count).long()]
        return self.images[chosen], self.truth[chosen]

    def wrong(self, images: Tensor, truth: Tensor) -> Tensor:
        """(B,): which of the images, in any order, are not answered as `truth` says."""
        with torch.no_grad():
            return self.model(images).argmax(1) != truth

    def loss(self, images: Tensor, truth: Tensor) -> float:
        """Mean cross-entropy."""
        with torch.no_grad():
            return float(nn.functional.cross_entropy(self.model(images), truth))


@pytest.fixture(scope="session")
def oracle_victim() -> OracleVictim:
    """A classifier of the level of a brain slice (5 classes), with 500 crops of slices held out.

    A good attack leaves between a fifth and seven tenths of them right at `eps`, so that accuracies can differ.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Conv2d(1, 8, 5, stride=2, padding=2),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Conv2d(8, 16, 3, stride=2, padding=1),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(16 * 49, 5),
        )
        _train(model, *_crops("level", "train", 20))
        images, truth = _crops("level", "test", 14)
    return OracleVictim(
        model=model,
        task=Classification(5),
        images=images[:500],
        truth=truth[:500],
        eps={"linf": 6 / 255, "l2": 0.3, "l1": 2.0},
    )


@pytest.fixture(scope="session")
def oracle_segmenter() -> OracleVictim:
    """A segmenter of brain tissue (3 classes), with 36 crops of slices held out."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Conv2d(1, 16, 5, padding=2),
            nn.ReLU(),
            nn.Conv2d(16, 16, 5, padding=2),
            nn.ReLU(),
            nn.Conv2d(16, 3, 1),
        )
        _train(model, *_crops("tissue", "train", 4), batch=16)
        images, truth = _crops("tissue", "test", 1)
    return OracleVictim(
        model=model,
        task=Segmentation(3),
        images=images,
        truth=truth,
        eps={"linf": 24 / 255, "l2": 2.0, "l1": 32.0},
    )


@pytest.fixture
def untouched(oracle_victim: OracleVictim) -> Iterator[OracleVictim]:
    """The classifier, checked after the test: still in eval mode, and answering as before."""
    images, _ = oracle_victim.right(4)
    before = oracle_victim.model(images)
    yield oracle_victim
    assert not any(module.training for module in oracle_victim.model.modules())
    assert torch.equal(oracle_victim.model(images), before)


def _crops(name: EmbeddedName, split: Split, repeats: int) -> tuple[Tensor, Tensor]:
    """Every slice at `repeats` random places, in an order without structure."""
    dataset = open_embedded(name, split=split)
    slices, truth, _ = stack([dataset[index] for index in range(len(dataset))])
    images, labels = [], []
    for index in torch.randperm(len(slices) * repeats) % len(slices):
        top, left = (int(torch.randint(size - SIDE + 1, ())) for size in slices.shape[2:])
        place = (..., slice(top, top + SIDE), slice(left, left + SIDE))
        images.append(nn.functional.avg_pool2d(slices[index][place], 4))
        labels.append(truth[index] if truth.ndim == 1 else truth[index][place][2::4, 2::4])
    return torch.stack(images), torch.stack(labels)


def _train(model: nn.Module, images: Tensor, truth: Tensor, batch: int = 64) -> None:
    # in double precision machines that round differently end at the same float32 weights
    model.double()
    images = images.double()
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(250):
        rows = torch.randint(len(images), (batch,))
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images[rows]), truth[rows]).backward()
        optimizer.step()
    model.float().eval()
    model.requires_grad_(False)
