"""The matrix of transfer: every model attacked once, its images shown to all."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import medrobust as mr
from medrobust.data import DatasetInfo, InMemoryDataset, Sample
from medrobust.errors import InputError
from medrobust.transferring import transfer_matrix

THREAT = mr.Threat(8 / 255)


def other_network(seed: int = 1) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(1, 4, 5, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(64, 5)
        )


@pytest.fixture
def surrogate(trained) -> mr.Victim:
    return mr.Victim(other_network(), trained[0].task)


def dataset(images, truth) -> InMemoryDataset:
    info = DatasetInfo("slices", "ordinal", tuple("abcde"), channels=1)
    return InMemoryDataset(info, [Sample(f"s{k}", images[k], truth[k]) for k in range(len(images))])


def test_the_matrix_is_crafted_once_a_source_and_measured_on_all(trained, surrogate):
    victim, images, truth = trained
    data, attack = dataset(images, truth), mr.PGD(steps=3)
    victims = {"level": victim, "other": surrogate}
    matrix = transfer_matrix(victims, data, attack, THREAT, seed=2, batch_size=5)
    assert matrix["source"].to_list() == ["clean", "level", "other"]
    assert matrix.columns[1:] == [f"{n}: {m}" for n in victims for m in ("accuracy", "success", "n")]
    ids = [f"s{k}" for k in range(16)]
    for place, source in enumerate(victims.values(), 1):
        made = attack(source, images, truth, THREAT, 2, ids).adversarial
        for name, target in victims.items():
            before, after = (target(x).argmax(1) == truth for x in (images, made))
            assert matrix[f"{name}: accuracy"][place] == pytest.approx(after.double().mean().item())
            assert matrix[f"{name}: n"][place] == int(before.sum())
            if before.any():
                share = (~after[before]).double().mean().item()
                assert matrix[f"{name}: success"][place] == pytest.approx(share)
    assert matrix["level: accuracy"][0] == 1.0
    assert matrix["level: success"][0] is None
    for few in ({"one": victim}, {"clean": victim, "other": surrogate}):
        with pytest.raises(InputError, match="a matrix takes two or more models"):
            transfer_matrix(few, data)
