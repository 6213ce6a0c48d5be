"""A model in use is put back whatever happens, and never answers with old weights."""

from __future__ import annotations

import copy
import pickle
import threading
import time

import pytest
import torch
from torch import nn

from medrobust.attacks import BIM
from medrobust.tasks import Classification
from medrobust.threat import Threat
from medrobust.transforms import Smooth, defended
from medrobust.victim import Victim


def network() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 2))


IMAGES = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def by_data(model):
    model[0].weight.data.mul_(3)


def by_new_data(model):
    model[0].weight.data = torch.ones_like(model[0].weight)


def by_loading(model):
    model.load_state_dict({name: value * 2 for name, value in model.state_dict().items()})


def by_assigning(model):
    state = {name: value * 2 for name, value in model.state_dict().items()}
    model.load_state_dict(state, assign=True)


def by_precision(model):
    model.half().float()


def by_a_step(model):
    optimizer = torch.optim.SGD(model.parameters(), 0.5)
    model(IMAGES).sum().backward()
    optimizer.step()


def by_vector(model):
    vector = nn.utils.parameters_to_vector(model.parameters())
    nn.utils.vector_to_parameters(vector * 1.5, model.parameters())


@pytest.mark.parametrize("change", [by_data, by_new_data, by_loading, by_assigning, by_precision, by_a_step, by_vector])
def test_a_changed_weight_is_always_seen(change):
    model = network().eval()
    fast, plain = Victim(model, Classification(2), channels_last=True), Victim(model, Classification(2))
    before = fast(IMAGES)
    change(model)
    assert torch.allclose(fast(IMAGES), plain(IMAGES), atol=1e-4)
    assert not torch.allclose(fast(IMAGES), before) or change is by_precision


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda v: pickle.loads(pickle.dumps(v))])
def test_a_victim_can_be_copied(duplicate):
    victim = Victim(network(), Classification(2), mean=0.5, channels_last=True)
    expected = victim(IMAGES)
    twin = duplicate(victim)
    assert torch.equal(twin(IMAGES), expected)
    with torch.no_grad():
        twin.model[4].bias.add_(1)
    assert torch.equal(victim(IMAGES), expected)


class InPlace(nn.Module):
    """Normalises its input in place, as some published models do."""

    def forward(self, x):
        x.sub_(0.5).div_(0.5)
        return x.flatten(1)[:, :2]


@pytest.mark.parametrize("mean", [None, 0.25])
def test_a_model_that_works_in_place_changes_nothing_of_the_caller(mean):
    victim = Victim(InPlace(), Classification(2), mean=mean)
    images, kept = IMAGES.clone(), IMAGES.clone()
    assert torch.equal(victim(images), victim(images))
    result = BIM(steps=2)(victim, images, torch.tensor([0, 1]), Threat(eps=0.1))
    assert torch.equal(images, kept)
    assert result.zero_gradients.tolist() == [0, 0]


class Replacing(nn.Module):
    """Counts in a buffer by putting a new tensor in its place."""

    def __init__(self):
        super().__init__()
        self.register_buffer("count", torch.zeros(()))

    def forward(self, x):
        self.count = self.count + 1
        return x.flatten(1)[:, :2]


def test_a_replaced_buffer_is_put_back():
    model = Replacing()
    original = model.count
    Victim(model, Classification(2))(IMAGES)
    assert model.count is original
    assert float(model.count) == 0


def test_inside_itself_it_changes_nothing_until_the_end():
    model = network().train()
    victim = Victim(model, Classification(2), channels_last=True)
    with victim.evaluating():
        victim(IMAGES)
        assert not model.training
        assert not model[0].weight.requires_grad
        assert not model[0].weight.is_contiguous()
    assert model.training
    assert model[0].weight.requires_grad
    assert model[0].weight.is_contiguous()


def test_two_threads_do_not_disturb_each_other():
    model = network().train()
    statistics = model[1].running_mean.clone()
    victim = Victim(model, Classification(2))
    truth, threat = torch.tensor([0, 1]), Threat(eps=0.05)
    expected = BIM(steps=5)(victim, IMAGES, truth, threat).adversarial
    results = []

    def work():
        for _ in range(5):
            results.append(BIM(steps=5)(victim, IMAGES, truth, threat).adversarial)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 15
    assert all(torch.equal(result, expected) for result in results)
    assert all(module.training for module in model.modules())
    assert torch.equal(model[1].running_mean, statistics)


def test_images_with_a_graph_are_attacked_without_it():
    images = IMAGES.clone().requires_grad_()
    result = BIM(steps=1)(Victim(network(), Classification(2)), images, torch.tensor([0, 1]), Threat(eps=0.1))
    assert not result.delta.requires_grad
    assert not result.adversarial.requires_grad
    assert images.grad is None


def test_a_model_that_wraps_another_waits_for_it():
    """Whoever uses a defended model uses the weights of the plain one."""
    model = network().train()
    plain = Victim(model, Classification(2))
    wrapped = defended(plain, Smooth())
    in_use, let_go = threading.Event(), threading.Event()
    modes: list[bool] = []

    def first():
        with plain.evaluating():
            in_use.set()
            let_go.wait(5)

    def second():
        in_use.wait(5)
        let_go.set()
        with wrapped.evaluating():
            one.join(5)
            modes.append(model.training)

    one, two = threading.Thread(target=first), threading.Thread(target=second)
    one.start()
    two.start()
    two.join(10)
    assert modes == [False]
    assert all(module.training for module in model.modules())
    assert model[0].weight.requires_grad


def test_two_models_in_either_order_never_wait_for_each_other():
    first, second = (Victim(network(), Classification(2)) for _ in range(2))
    ready = threading.Barrier(2)
    done: list[int] = []

    def work(outer: Victim, inner: Victim):
        for _ in range(3):
            ready.wait(5)
            with outer.evaluating():
                time.sleep(0.02)
                inner(IMAGES)
        done.append(1)

    pairs = ((first, second), (second, first))
    threads = [threading.Thread(target=work, args=pair, daemon=True) for pair in pairs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(5)
    assert len(done) == 2
