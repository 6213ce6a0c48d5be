"""A defended model is the undefended one on transformed images, and can be attacked through its defence."""

from __future__ import annotations

import pytest
import torch
from tiny_detectors import fcos, retinanet
from torch import nn

import medrobust as mr
from medrobust.data import DatasetInfo, InMemoryDataset, Sample
from medrobust.errors import InputError
from medrobust.transforms import JPEG, BitDepth, Chain, Noise, Preprocessed, Resize, Smooth, Transform, defended

HU = (-1024.0, 3071.0)


class Echo(nn.Module):
    """Gives back what it is given."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images


def images_of(count: int = 4, bounds: tuple[float, float] = (0.0, 1.0), channels: int = 1) -> torch.Tensor:
    noise = torch.rand(count, channels, 16, 16, generator=torch.Generator().manual_seed(3))
    return bounds[0] + noise * (bounds[1] - bounds[0])


def test_the_transform_is_before_the_normalisation():
    images = images_of(2, HU, 3)
    model = Preprocessed(Echo(), BitDepth(2), HU, mean=[10.0, 20.0, 30.0], std=500)
    wanted = (BitDepth(2)(images, HU) - torch.tensor([10.0, 20, 30]).view(1, 3, 1, 1)) / 500
    torch.testing.assert_close(model(images), wanted)
    volumes = images.unsqueeze(2)
    torch.testing.assert_close(model(volumes), wanted.unsqueeze(2))


@pytest.mark.parametrize("transform", [JPEG(40), Smooth(), Chain([Resize(), BitDepth(3)])], ids=str)
def test_a_defended_victim_answers_as_the_undefended_one_on_transformed_images(trained, transform: Transform):
    victim, images, _ = trained
    shielded = defended(victim, transform)
    assert shielded.bounds == victim.bounds
    torch.testing.assert_close(shielded(images), victim(transform(images, victim.bounds)))
    assert not torch.allclose(shielded(images), victim(images))


def test_a_normalising_victim_is_defended_before_its_normalisation():
    victim = mr.Victim(nn.Sequential(nn.Flatten(), nn.Linear(256, 2)), mr.Classification(2), HU, mean=40, std=400)
    shielded = defended(victim, BitDepth(3))
    images = images_of(3, HU)
    torch.testing.assert_close(shielded(images), victim(BitDepth(3)(images, HU)))
    assert shielded.mean is None
    assert shielded.std is None


def test_a_defence_is_told_beside_the_same_weights(trained):
    """Runs with and without it are told apart by how the model is called, not by its weights."""
    victim, images, truth = trained
    shielded = defended(victim, JPEG(40), seed=3)
    info = DatasetInfo("slices", "ordinal", tuple("abcde"), channels=1)
    data = InMemoryDataset(info, [Sample(f"s{k}", images[k], truth[k]) for k in range(2)])
    bare, behind = (
        mr.evaluate(one, data, {"fgsm": mr.FGSM()}, [mr.Threat(1 / 255)]).info.parts["slices"]
        for one in (victim, shielded)
    )
    assert bare.weights_sha256 == behind.weights_sha256
    assert "defence" not in bare.victim
    assert behind.victim["defence"] == JPEG(40).describe()
    assert behind.victim["defence_seed"] == 3


def test_a_defence_is_told_however_the_victim_is_made():
    model = Preprocessed(Echo(), BitDepth(3), HU, mean=40, std=400, seed=2)
    by_hand = mr.Victim(model, mr.Segmentation(2), HU).describe()
    assert by_hand == defended(mr.Victim(Echo(), mr.Segmentation(2), HU, mean=40, std=400), BitDepth(3), 2).describe()
    assert (by_hand["defence"], by_hand["mean"], by_hand["std"]) == (BitDepth(3).describe(), [40.0], [400.0])


def test_an_attack_sees_through_a_defence_that_has_no_gradient(trained):
    """Without the straight-through gradient every pixel's gradient is zero, and steps are random signs."""
    victim, images, truth = trained
    shielded = defended(victim, Chain([JPEG(75), BitDepth(5)]))
    result = mr.PGD(steps=5)(shielded, images, truth, mr.Threat(8 / 255))
    assert int(result.zero_gradients.sum()) == 0
    right = ~victim.task.fooled(shielded(images), truth)
    noise = mr.Threat(8 / 255).space(images, victim.bounds).random_start(generators(len(images)))
    by_chance = victim.task.fooled(shielded(noise), truth)[right].double().mean()
    assert float(result.success[right].double().mean()) > float(by_chance) + 0.2


def generators(count: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(place) for place in range(count)]


def test_a_random_defence_draws_by_seed_and_image_alone():
    images = images_of(5)
    model = Preprocessed(Echo(), Noise(0.1))
    together = model(images)
    before = torch.get_rng_state()
    assert torch.equal(model(images), together), "not by the number of the call"
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(model(images.flip(0)), together.flip(0))
    assert torch.equal(model(images[2:3])[0], together[2])
    last = images.expand(5, 3, 16, 16).contiguous(memory_format=torch.channels_last)
    assert torch.equal(model(last), model(last.contiguous()))
    noise = together - images
    assert not torch.equal(noise[0], noise[1])
    nudged = images.clone()
    nudged[0, 0, 0, 0] += 1e-6
    assert not torch.allclose(model(nudged)[0], together[0], atol=1e-2), "the slightest change has a fresh draw"
    assert torch.equal(model(nudged)[1:], together[1:])
    assert not torch.allclose(Preprocessed(Echo(), Noise(0.1), seed=1)(images), together, atol=1e-2)


def test_a_step_against_a_random_defence_does_not_depend_on_the_batch(trained):
    victim, images, truth = trained
    shielded, attack, threat = defended(victim, Noise(0.05)), mr.PGD(steps=1), mr.Threat(4 / 255)
    together = attack(shielded, images[:4], truth[:4], threat, ids=range(4))
    alone = attack(shielded, images[2:3], truth[2:3], threat, ids=[2])
    assert torch.equal(together.adversarial[2], alone.adversarial[0])


def test_a_mistaken_normalisation_outside_is_told():
    network = nn.Sequential(nn.Flatten(), nn.Linear(256, 2))
    mistaken = mr.Victim(Preprocessed(network, Smooth()), mr.Classification(2), mean=0.5, std=0.2)
    with pytest.raises(InputError, match=r"outside the bounds .* of Preprocessed: .* give mean and std to it"):
        mr.PGD(steps=2)(mistaken, images_of(2), torch.tensor([0, 1]), mr.Threat(1 / 255))
    fine = mr.Victim(Preprocessed(network, Smooth(), mean=0.5, std=0.2), mr.Classification(2))
    mr.PGD(steps=2)(fine, images_of(2), torch.tensor([0, 1]), mr.Threat(1 / 255))


@pytest.mark.parametrize("family", [fcos, retinanet])
def test_a_detector_is_defended(family):
    task = mr.Detection(3)
    victim = mr.Victim(family(), task)
    shielded = defended(victim, BitDepth(2))
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    truth = torch.tensor([[[4.0, 4, 30, 30, 1]], [[10.0, 12, 40, 50, 2]]])
    wanted = task.loss(victim(BitDepth(2)(images, (0.0, 1.0))), truth)
    torch.testing.assert_close(task.loss(shielded(images), truth), wanted)
    result = mr.PGD(steps=2)(shielded, images, truth, mr.Threat(4 / 255))
    assert bool((result.adversarial != images).any())
    assert int(result.zero_gradients.sum()) == 0


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((Echo(), "smooth"), "transform must be a medrobust.transforms.Transform, got str"),
        ((lambda x: x, Smooth()), "model must be a torch.nn.Module, got function"),
        ((Echo(), Smooth(), (1.0, 0.0)), "bounds must be finite and ascending"),
        ((Echo(), Smooth(), (0.0, 1.0), 0.5, 0.0), "std must be positive"),
    ],
)
def test_refuses(arguments, told):
    with pytest.raises(InputError, match=told):
        Preprocessed(*arguments)


def test_a_run_says_of_images_that_were_made_without_the_defence_what_they_are_worth(trained):
    victim, images, truth = trained
    names = tuple("abcde")
    data = InMemoryDataset(DatasetInfo("set", "ordinal", names, 1), [Sample("a", images[0], truth[0])])
    shielded, attacks, threats = defended(victim, Smooth()), {"fgsm": mr.FGSM()}, [mr.Threat(2 / 255)]
    for model, others, told in (
        (shielded, {"bare": victim}, True),
        (shielded, {"same": defended(victim, Smooth())}, False),
        (shielded, {}, False),
        (victim, {"bare": victim}, False),
    ):
        run = mr.evaluate(model, data, attacks, threats, surrogates=others, gallery=0)
        notes = " ".join(run.info.parts["set"].dataset.notes)
        assert ("worth nothing on its own" in notes) is told
        assert ("fgsm via bare did not know" in notes) is told
    averaged = mr.Transfer(mr.PGD(steps=1, inputs=[mr.Expectation(Smooth(), samples=1)]), victim, "bare")
    run = mr.evaluate(shielded, data, {"averaged": averaged}, threats, gallery=0)
    assert "worth nothing" not in " ".join(run.info.parts["set"].dataset.notes)
