"""What is left of an attack after saving, compression, smoothing, resampling, and on another model."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import medrobust as mr
from medrobust.errors import InputError
from medrobust.evaluation import SURVIVAL, Aftercheck, another_model
from medrobust.transforms import Noise

UNIT = (0.0, 1.0)


def network(seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(64, 3))


@pytest.fixture
def dataset() -> mr.InMemoryDataset:
    generator = torch.Generator().manual_seed(0)
    samples = [
        mr.Sample(f"image {place}", torch.rand(1, 16, 16, generator=generator), torch.tensor(place % 3))
        for place in range(7)
    ]
    return mr.InMemoryDataset(mr.DatasetInfo("noise", "classification", ("a", "b", "c"), channels=1), samples)


def test_an_aftercheck_is_a_part_measured_on_the_same_attacked_images(dataset: mr.InMemoryDataset):
    victim = mr.Victim(network(0), mr.Classification(3))
    other = another_model(mr.Victim(network(1), mr.Classification(3)), victim, "second seed")
    attack, threat = mr.PGD(), mr.Threat(8 / 255)
    run = mr.evaluate(victim, dataset, {"pgd": attack}, [threat], afterchecks=[*SURVIVAL, other], batch_size=3)
    names = ["noise", *(f"noise, {check.name}" for check in (*SURVIVAL, other))]
    assert list(run.info.parts) == names
    assert run.records.group_by("part").len()["len"].to_list() == [7] * len(names)

    images, truth = torch.stack([s.image for s in dataset]), torch.stack([s.truth for s in dataset])
    attacked = attack(victim, images, truth, threat, ids=[s.id for s in dataset]).adversarial
    for check in (*SURVIVAL, other):
        seen_by = check.victim or victim
        rows = run.records.filter(part=f"noise, {check.name}").sort("index")
        for when, images_then in (("before", images), ("after", attacked)):
            outputs = seen_by(check.changed(images_then, UNIT, 0, [s.id for s in dataset]))
            assert rows[f"prediction_{when}"].list.first().to_list() == outputs.argmax(1).tolist()
            losses = seen_by.task.loss(outputs, truth).detach().double()
            torch.testing.assert_close(
                torch.tensor(rows[f"loss_{when}"].to_list(), dtype=torch.float64), losses, rtol=1e-4, atol=1e-5
            )
        assert rows["success"].to_list() == [not right for right in rows["right_after"].to_list()]
    assert run.info.parts["noise, second seed"].weights_sha256 != run.info.parts["noise"].weights_sha256


def test_a_random_aftercheck_draws_by_seed_and_id_alone_and_alike_before_and_after(dataset: mr.InMemoryDataset):
    victim = mr.Victim(network(0), mr.Classification(3))
    noisy = Aftercheck("noise", Noise(0.2))

    def losses(batch_size: int, seed: int) -> list[tuple[float, float]]:
        run = mr.evaluate(
            victim,
            dataset,
            {"pgd": mr.PGD()},
            [mr.Threat(0)],
            afterchecks=[noisy],
            batch_size=batch_size,
            seed=seed,
        )
        return run.records.filter(part="noise, noise").sort("index").select("loss_before", "loss_after").rows()

    together, alone, reseeded = losses(7, 0), losses(1, 0), losses(7, 1)
    assert torch.allclose(torch.tensor(together), torch.tensor(alone), rtol=1e-5)
    assert all(before == pytest.approx(after, rel=1e-5) for before, after in together), "nothing was changed but alike"
    assert all(one != other for one, other in zip(together, reseeded, strict=True))
    images = torch.stack([s.image for s in dataset])
    assert not torch.equal(noisy.changed(images, UNIT, 0, range(7)), images)


def test_a_run_with_afterchecks_is_saved_and_reported(dataset: mr.InMemoryDataset, tmp_path):
    victim = mr.Victim(network(0), mr.Classification(3))
    run = mr.evaluate(victim, dataset, {"pgd": mr.PGD()}, [mr.Threat(8 / 255)], afterchecks=SURVIVAL)
    run.save(tmp_path / "run")
    assert list(mr.load_run(tmp_path / "run").info.parts) == list(run.info.parts)
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert page.count('<section class="part"') == 1, "an aftercheck is a row in its part, no section"
    assert "<bdi>JPEG 75</bdi>" in page.partition("What survives")[2]


def test_another_model_needs_the_same_bounds():
    victim = mr.Victim(network(0), mr.Classification(3))
    with pytest.raises(InputError, match=r"another model has the bounds \(0.0, 2.0\), the attacked model \(0.0, 1.0\)"):
        another_model(mr.Victim(network(1), mr.Classification(3), bounds=(0, 2)), victim)


def test_an_aftercheck_that_breaks_the_model_is_told(dataset: mr.InMemoryDataset):
    victim = mr.Victim(network(0), mr.Classification(3))
    nothing = Aftercheck("not a number", lambda images, bounds, generators: images * float("nan"))
    with pytest.raises(InputError, match=r"NaN or infinite outputs for the clean \(not a number\) image"):
        mr.evaluate(victim, dataset, {"pgd": mr.PGD()}, [mr.Threat(8 / 255)], afterchecks=[nothing])
