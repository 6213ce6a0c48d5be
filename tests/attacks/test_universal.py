"""One change for many images: made of some, put on others, of a data set as of its images, on any objective."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from victims import Greedy

from medrobust.attacks import SMIA, Ensemble, OneChange, Stabilized, Transfer, Universal
from medrobust.attacks.objectives import TaskLoss
from medrobust.black_box import BlackBox
from medrobust.data import Sample
from medrobust.errors import InputError
from medrobust.tasks import Classification
from medrobust.threat import Threat
from medrobust.victim import Victim


class Samples:
    """A data set as far as a universal change looks at it."""

    def __init__(self, images: Tensor, truth: Tensor) -> None:
        self.samples = [
            Sample(str(place), image, answer) for place, (image, answer) in enumerate(zip(images, truth, strict=True))
        ]

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, place: int) -> Sample:
        return self.samples[place]


def linear(*weights: list[float]) -> Victim:
    """A linear network over four values."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, len(weights), bias=False))
    with torch.no_grad():
        network[1].weight.copy_(torch.tensor(weights))
    return Victim(network, Classification(len(weights)))


@pytest.fixture
def separable() -> tuple[Victim, Tensor, Tensor]:
    """Two classes by the sign of the first value less the second; all images are of class 0, nearly on the border."""
    images = 0.4 + 0.2 * torch.rand(12, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    images[:, 0, 0, 0] = images[:, 0, 0, 1] + 0.05
    return linear([1.0, -1.0, 0.0, 0.0], [-1.0, 1.0, 0.0, 0.0]), images, torch.zeros(12, dtype=torch.int64)


def test_on_a_linear_model_it_is_the_one_sign_that_all_share(separable):
    """The gradient of every image points to (−1, 1, 0, 0): ten steps of eps/10 are the corner of the ball."""
    victim, images, truth = separable
    change = Universal(epochs=10, batch_size=12).fit(victim, images, truth, Threat(0.1)).change
    assert change.flatten().tolist() == pytest.approx([-0.1, 0.1, 0, 0], abs=1e-6)
    half = Universal(epochs=5, batch_size=12).fit(victim, images, truth, Threat(0.1)).change
    assert half.flatten().tolist() == pytest.approx([-0.05, 0.05, 0, 0], abs=1e-6)
    in_l2 = Universal(epochs=10, batch_size=12).fit(victim, images, truth, Threat(0.1, norm="l2")).change
    assert in_l2.flatten().tolist() == pytest.approx([-0.1 / 2**0.5, 0.1 / 2**0.5, 0, 0], abs=1e-6)


def test_every_image_has_one_voice():
    """Two images that the model is unsure of against one that it is very sure of, and so hardly pulls: still a third.

    Of the mean of gradients, each over its mean size, (1, −1)·2, (1, −1)·2 and (−1, 1)·2: the many have it, though the
    one's gradient, wrong by far, is a hundred times as large.
    """
    victim = linear([30.0, -30.0, 0.0, 0.0], [-30.0, 30.0, 0.0, 0.0])
    images = torch.full((3, 1, 2, 2), 0.5)
    images[:2, 0, 0, 0], images[2, 0, 0, 0] = 0.6, 0.9
    truth = torch.tensor([0, 0, 1])
    with torch.enable_grad():
        leaf = images.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(victim.task.loss(victim.model(leaf), truth).sum(), leaf)
    sizes = gradient.flatten(1).abs().mean(1)
    assert float(sizes[2]) > 100 * float(sizes[:2].sum())
    change = Universal(epochs=1, batch_size=3).fit(victim, images, truth, Threat(0.1)).change
    assert change.flatten().tolist() == pytest.approx([-0.01, 0.01, 0, 0], abs=1e-6)


def test_made_of_some_it_fools_others(separable):
    victim, images, truth = separable
    attack = Universal(epochs=4).fit(victim, images[:4], truth[:4], Threat(0.1))
    assert isinstance(attack, OneChange)
    result = attack(victim, images[4:], truth[4:], Threat(0.1))
    assert bool(result.success.all())
    # one change: the same for every image, as no bound is near
    torch.testing.assert_close(result.delta, result.delta[:1].expand_as(result.delta), rtol=0, atol=1e-6)
    alone = attack(victim, images[7:8], truth[7:8], Threat(0.1))
    assert torch.equal(alone.adversarial[0], result.adversarial[3])


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_it_stays_within_ball_and_bounds(separable, norm):
    victim, images, truth = separable
    images = images.clone()
    images[0] = 0
    images[1] = 1
    attack = Universal(epochs=10).fit(victim, images, truth, Threat(0.3, norm=norm))
    power = {"linf": float("inf"), "l2": 2.0, "l1": 1.0}[norm]
    assert 0.25 < float(attack.change.flatten().norm(power)) <= 0.3 + 1e-6
    smaller = attack(victim, images, truth, Threat(0.2, norm=norm))
    assert float(smaller.delta.flatten(1).norm(power, dim=1).max()) <= 0.2 + 1e-6
    assert float(smaller.adversarial.min()) >= 0
    assert float(smaller.adversarial.max()) <= 1


def test_of_a_data_set_it_is_that_of_its_images(separable):
    victim, images, truth = separable
    attack = Universal(epochs=3, batch_size=5)
    of_set = attack.prepared(victim, Samples(images, truth), Threat(0.1), seed=3)
    assert torch.equal(of_set.change, attack.fit(victim, images, truth, Threat(0.1), seed=3).change)
    in_place = attack(victim, images, truth, Threat(0.1), seed=3)
    assert torch.equal(in_place.adversarial, of_set(victim, images, truth, Threat(0.1)).adversarial)
    assert in_place.steps_used.tolist() == [3] * 12


def test_images_of_different_sizes_are_told(separable):
    victim, images, truth = separable
    attack = Universal(epochs=1).fit(victim, images, truth, Threat(0.1))
    with pytest.raises(InputError, match=r"of shape \(1, 2, 2\), the images \(1, 1, 4\): they must be of one size"):
        attack(victim, images.reshape(-1, 1, 1, 4), truth, Threat(0.1))
    mixed = Samples(images, truth)
    mixed.samples[1] = Sample("odd", images[1].reshape(1, 1, 4), truth[1])
    for size in (1, 4):  # in one batch, and from one batch to the next
        with pytest.raises(InputError, match="a universal change is for images of one size: give resize"):
            Universal(batch_size=size).prepared(victim, mixed, Threat(0.1), seed=0)


@pytest.mark.parametrize("a2", [0.0, 0.5, 3.0])
def test_on_smias_objective(a2):
    """Made of one image, it is SMIA on this image: the same steps on the same objective, from no change at all."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(4 * 36, 3))
    victim = Victim(network, Classification(3))
    image = 0.4 + 0.2 * torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    truth, threat = victim(image).argmax(1), Threat(0.1)
    one = Universal(epochs=14, loss=Stabilized(TaskLoss(), a2=a2)).fit(victim, image, truth, threat)
    smia = SMIA(steps=14, step_size=0.01, a2=a2, random_start=False)(victim, image, truth, threat)
    torch.testing.assert_close(one.change, smia.delta[0], rtol=0, atol=1e-5)
    plain = Universal(epochs=14).fit(victim, image, truth, threat)
    assert torch.equal(one.change, plain.change) == (a2 == 0)


def test_towards_a_target():
    victim = linear([1.0, 0, 0, 0], [0, 1.0, 0, 0], [0, 0, 1.0, 0])
    images = 0.4 + 0.1 * torch.rand(8, 1, 2, 2, generator=torch.Generator().manual_seed(2))
    wanted = torch.full((8,), 2)
    attack = Universal(targeted=True).fit(victim, images, wanted, Threat(0.2))
    change = attack.change.flatten()
    assert float(change[2]) == pytest.approx(0.2, abs=1e-6)
    assert float(change[:2].max()) < 0
    moved = (images + attack.change).clamp(0, 1)
    assert bool((victim(moved).argmax(1) == 2).all())
    result = Universal(targeted=True)(victim, images, wanted, Threat(0.2))
    assert bool(result.success.all())


def test_attacking_with_a_made_one_keeps_its_goal():
    """A change that was made towards a target succeeds where the target is reached."""
    victim = linear([1.0, 0, 0, 0], [0, 1.0, 0, 0], [0, 0, 1.0, 0])
    images = 0.4 + 0.1 * torch.rand(8, 1, 2, 2, generator=torch.Generator().manual_seed(2))
    wanted = torch.full((8,), 2)
    attack = Universal(targeted=True).fit(victim, images, wanted, Threat(0.2))
    result = attack(victim, images, wanted, Threat(0.2))
    assert bool(result.success.all())
    prepared = Universal(targeted=True).prepared(victim, Samples(images, wanted), Threat(0.2), seed=0)
    assert bool(prepared(victim, images, wanted, Threat(0.2)).success.all())


@pytest.mark.parametrize(
    "threat",
    [
        Threat(torch.full((12,), 0.1)),
        Threat(0.1, mask=torch.ones(1, 2, 2)),
    ],
    ids=["a radius for each", "masked"],
)
def test_a_threat_of_single_images_is_told(separable, threat):
    victim, images, truth = separable
    with pytest.raises(InputError, match="it needs linf, l2 or l1 without a mask or region"):
        Universal().fit(victim, images, truth, threat)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "epochs must be a whole number of at least 1"),
        ({"batch_size": 0}, "batch_size must be a whole number of at least 1"),
        ({"step_size": 0.0}, "step_size must be a finite number above 0"),
        ({"targeted": "yes"}, "targeted must be true or false"),
        ({"loss": "nonsense"}, "nonsense"),
    ],
)
def test_options(options, message):
    with pytest.raises(InputError, match=message):
        Universal(**options)


def test_of_no_images_there_is_none(separable):
    victim, images, truth = separable
    with pytest.raises(InputError, match="a universal change needs images to be made of"):
        Universal().fit(victim, images[:0], truth[:0], Threat(0.1))


def test_of_a_black_box_it_cannot_be_made(separable):
    victim, images, truth = separable
    box = BlackBox(victim.model, victim.task)
    for make in (
        lambda: Universal().fit(box, images, truth, Threat(0.1)),
        lambda: Universal().prepared(box, Samples(images, truth), Threat(0.1), seed=0),
    ):
        with pytest.raises(InputError, match="Universal needs gradients, and a black box gives none"):
            make()


@pytest.mark.filterwarnings("ignore::medrobust.errors.MedrobustWarning")
@pytest.mark.parametrize("inside", ["alone", "transfer"])
def test_where_memory_runs_out_it_is_still_one_change(separable, inside):
    """Steps of all twelve images, whose gradients are taken five at a time."""
    victim, images, truth = separable
    images = images + 0.02 * torch.rand(images.shape, generator=torch.Generator().manual_seed(1))
    small = Victim(Greedy(victim.model, 5, MemoryError()), victim.task)
    attack = Universal(epochs=3, batch_size=12)
    wrapped = attack if inside == "alone" else Transfer(attack, small, "itself")
    whole, halved = attack(victim, images, truth, Threat(0.02)), wrapped(small, images, truth, Threat(0.02))
    assert torch.allclose(halved.delta, whole.delta, atol=1e-6)
    assert float(halved.delta.std(0).max()) < 1e-6
    assert halved.steps_used.tolist() == [3] * 12


def test_an_ensemble_is_not_halved_around_it(separable):
    """Else every half would have a change of its own."""
    victim, images, truth = separable
    small = Victim(Greedy(victim.model, 5, MemoryError()), victim.task)
    with pytest.raises(MemoryError):
        Ensemble(members=[("universal", Universal())])(small, images, truth, Threat(0.1))


@pytest.mark.filterwarnings("ignore::medrobust.errors.MedrobustWarning")
def test_of_a_data_set_it_is_made_in_the_memory_there_is(separable):
    victim, images, truth = separable
    small = Victim(Greedy(victim.model, 5, MemoryError()), victim.task)
    changes = [
        Universal(epochs=2, batch_size=12).prepared(one, Samples(images, truth), Threat(0.1), 0).change
        for one in (victim, small)
    ]
    assert torch.allclose(*changes, atol=1e-6)
