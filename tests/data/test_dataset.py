from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from medrobust.data import Dataset, DatasetInfo, InMemoryDataset, Sample, stack
from medrobust.errors import InputError

INFO = DatasetInfo(name="mine", task="classification", classes=("a", "b"), channels=1)


def sample(number: int, size: int = 4) -> Sample:
    return Sample(f"s{number}", torch.full((1, size, size), number / 10), torch.tensor(number % 2))


def test_in_memory_is_a_dataset() -> None:
    dataset = InMemoryDataset(INFO, [sample(1), sample(2)])
    assert isinstance(dataset, Dataset)
    assert [one.id for one in dataset] == ["s1", "s2"]
    assert len(dataset) == 2


def test_fingerprint_tells_ids_images_and_truth_apart() -> None:
    first = sample(1)
    variants = [
        first,
        replace(first, id="other"),
        replace(first, image=first.image + 0.1),
        replace(first, image=first.image.reshape(1, 2, 8)),
        replace(first, truth=torch.tensor(0)),
    ]
    prints = {InMemoryDataset(INFO, [one]).fingerprint() for one in variants}
    assert len(prints) == len(variants)
    assert InMemoryDataset(INFO, [sample(1)]).fingerprint() in prints
    assert all(len(one) == 64 for one in prints)


def test_stack() -> None:
    images, truth, ids = stack([sample(1), sample(2), sample(3)])
    assert images.shape == (3, 1, 4, 4)
    assert truth.tolist() == [1, 0, 1]
    assert ids == ("s1", "s2", "s3")


def test_stack_of_nothing_and_of_different_sizes() -> None:
    with pytest.raises(InputError, match="at least one sample"):
        stack([])
    with pytest.raises(InputError, match=r"'s1' and 's2' have different shapes, \(1, 4, 4\) and \(1, 5, 5\)"):
        stack([sample(1), sample(2, size=5)])
    masked = [replace(sample(1), truth=torch.zeros(4, 4)), replace(sample(2), truth=torch.zeros(4, 5))]
    with pytest.raises(InputError, match=r"with truth \(4, 5\): set resize"):
        stack(masked)
