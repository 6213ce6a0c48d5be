"""Training of a benchmark's model: it learns, repeats, leaves the caller's random numbers alone, and is kept."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import medrobust as mr
from medrobust.data import stack
from medrobust.data.subset import Subset, split_by_patient
from medrobust.errors import InputError
from medrobust.models import weights_fingerprint
from medrobust.reproduce.fitting import Fitting, fit
from medrobust.reproduce.keeping import trained_once
from medrobust.tasks import Classification


def bright_or_dark(count: int = 24, patients: int | None = None) -> mr.InMemoryDataset:
    generator = torch.Generator().manual_seed(0)
    samples = [
        mr.Sample(
            f"{place}",
            0.2 * torch.rand(1, 8, 8, generator=generator) + 0.6 * (place % 2),
            torch.tensor(place % 2),
            patient=None if patients is None else f"p{place % patients}",
        )
        for place in range(count)
    ]
    return mr.InMemoryDataset(mr.DatasetInfo("light", "classification", ("dark", "bright"), 1), samples)


def network() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers = (nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        return nn.Sequential(*layers, nn.Dropout(0.1), nn.Linear(4, 2))


def trained(seed: int = 0, count: int = 24, **how: float) -> nn.Module:
    model = network()
    fit(model, Classification(2), bright_or_dark(count), Fitting(**{"epochs": 20, "batch_size": 8, **how}), seed)
    return model


def loss_of(model: nn.Module) -> float:
    data = bright_or_dark()
    images, truth, _ = stack([data[place] for place in range(len(data))])
    with torch.no_grad():
        return float(Classification(2).loss(model.eval()(images), truth).mean())


def test_the_loss_falls():
    assert loss_of(trained(epochs=40, learning_rate=0.03)) < 0.7 * loss_of(network())


def test_a_seed_gives_one_model_and_another_seed_another():
    torch.rand(3)
    one, again, other = trained(1, epochs=2), trained(1, epochs=2), trained(2, epochs=2)
    assert weights_fingerprint(one) == weights_fingerprint(again)
    assert weights_fingerprint(one) != weights_fingerprint(other)
    assert not one.training


def test_global_random_numbers_stay_where_they_were():
    before = torch.random.get_rng_state()
    trained(epochs=1)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_last_batch_of_one_image_has_a_variance():
    model = trained(count=9, epochs=2)
    assert all(bool(value.isfinite().all()) for value in model.state_dict().values())


@pytest.mark.parametrize("how", [{"epochs": 0}, {"batch_size": 0}])
def test_nothing_to_train(how: dict[str, int]):
    with pytest.raises(InputError, match=f"{next(iter(how))} must be a whole number of at least 1"):
        Fitting(**how)


def test_a_patient_is_on_one_side_whoever_else_is_there():
    few, many = bright_or_dark(40, patients=10), bright_or_dark(80, patients=20)
    sides = []
    for data in (few, many):
        first, second = split_by_patient(data, 0.6)
        assert sorted([*first.indices, *second.indices]) == list(range(len(data)))
        names = [{part[place].patient for place in range(len(part))} for part in (first, second)]
        assert not names[0] & names[1]
        assert all(names)
        sides.append(names)
    assert sides[0][0] == sides[1][0] & {f"p{number}" for number in range(10)}


def test_without_patients_images_are_split_by_about_the_share():
    first, second = split_by_patient(bright_or_dark(400), 0.8)
    assert 280 < len(first) < 360
    assert len(first) + len(second) == 400
    assert split_by_patient(bright_or_dark(400), 0.8)[0].indices == first.indices


def test_a_subset_is_told_from_another():
    data = bright_or_dark()
    part = Subset(data, [5, 2])
    assert [part[place].id for place in range(len(part))] == ["5", "2"]
    prints = {data.fingerprint(), part.fingerprint(), Subset(data, [2, 5]).fingerprint()}
    assert len(prints) == 3
    assert part.info == data.info


def test_a_trained_model_is_read_again_and_no_other(tmp_path):
    path, called = tmp_path / "weights" / "a.safetensors", []

    def fill(made_of: dict[str, object]) -> nn.Module:
        model = network()

        def train() -> None:
            called.append(made_of)
            nn.init.constant_(model[0].weight, 0.5)

        trained_once(model, train, path, made_of)
        return model

    first, second = fill({"seed": 0}), fill({"seed": 0})
    assert len(called) == 1
    assert weights_fingerprint(first) == weights_fingerprint(second)
    with pytest.raises(InputError, match=r"a\.safetensors holds a model that was trained in another way"):
        fill({"seed": 1})
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(InputError, match=r"a\.safetensors is damaged; remove it"):
        fill({"seed": 0})
