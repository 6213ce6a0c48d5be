"""The victim: preprocessing inside, data units outside, the model as it was."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from medrobust.errors import InputError
from medrobust.tasks import Classification
from medrobust.victim import Victim


class Echo(nn.Module):
    """Returns what it was given, flattened."""

    def forward(self, x):
        return x.flatten(1)


def victim(model=None, **options) -> Victim:
    return Victim(model or Echo(), Classification(2), **options)


def test_normalises_per_channel_in_data_units():
    images = torch.tensor([0.5, 0.2]).reshape(1, 2, 1, 1)
    out = victim(mean=[0.1, 0.2], std=[0.2, 0.5])(images)
    assert out.tolist() == [pytest.approx([2.0, 0.0])]
    out = victim(mean=0.1, std=0.5)(images)
    assert out.tolist() == [pytest.approx([0.8, 0.2])]


def test_the_gradient_is_in_data_units():
    images = torch.full((1, 1, 1, 2), 0.5, requires_grad=True)
    (gradient,) = torch.autograd.grad(victim(std=0.25)(images).sum(), images)
    assert gradient.flatten().tolist() == [4.0, 4.0]


class Counting(nn.Module):
    """Counts its calls in a buffer, as some models do."""

    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(1))
        self.norm = nn.BatchNorm2d(1)
        self.dropout = nn.Dropout(0.5)

    def forward(self, x):
        self.calls += 1
        return self.dropout(self.norm(x)).flatten(1)


def test_leaves_modes_and_buffers_as_they_were():
    model = Counting().train()
    model.norm.eval()
    images = torch.rand(4, 1, 2, 2)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert torch.equal(victim(model)(images), victim(model)(images)), "dropout was on"
    assert model.training
    assert model.dropout.training
    assert not model.norm.training
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_does_not_break_a_graph_that_the_caller_is_building():
    """An untouched buffer must not be written: the caller's own backward would refuse."""
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.Flatten()).train()
    loss = model(torch.rand(4, 1, 2, 2)).sum()
    Victim(model, Classification(8))(torch.rand(4, 1, 2, 2))
    loss.backward()


@pytest.mark.parametrize(
    "wrap", [lambda y: {"out": y}, lambda y: {"logits": y}, lambda y: type("Output", (), {"logits": y})]
)
def test_understands_the_usual_wrappings(wrap):
    class Wrapped(nn.Module):
        def forward(self, x):
            return wrap(x.flatten(1))

    images = torch.rand(2, 1, 1, 2)
    assert torch.equal(victim(Wrapped())(images), images.flatten(1))


def test_refuses_an_output_that_is_no_tensor():
    class Tuple(nn.Module):
        def forward(self, x):
            return x, x

    with pytest.raises(InputError, match="returned a tuple"):
        victim(Tuple())(torch.rand(1, 1, 2, 2))


@pytest.mark.parametrize(
    ("images", "bounds", "message"),
    [
        (
            torch.tensor([[[[0.0, 200.0]]]]),
            (0, 1),
            r"range from 0 to 200, outside the bounds \[0, 1\].*8-bit",
        ),
        (torch.tensor([[[[-2.1, 2.6]]]]), (0, 1), "looks normalised"),
        (torch.tensor([[[[-0.5, 0.49]]]]), (0, 1), "looks normalised"),
        (torch.tensor([[[[-1024.0, 1500.0]]]]), (0, 1), "Hounsfield"),
        (torch.tensor([[[[-1024.0, 5000.0]]]]), (-1024, 3071), r"outside the bounds \[-1024, 3071\]"),
        (torch.tensor([[[[0.5, torch.nan]]]]), (0, 1), "NaN or infinite"),
        (torch.zeros(1, 1, 2, 2, dtype=torch.uint8), (0, 1), "float tensor"),
        (torch.zeros(3, 2, 2), (0, 1), r"\(B, C, H, W\)"),
    ],
)
def test_tells_what_is_wrong_with_the_images(images, bounds, message):
    with pytest.raises(InputError, match=message):
        victim(bounds=bounds).check_images(images)


def test_rounding_at_the_bounds_is_no_error():
    victim().check_images(torch.tensor([[[[-3e-8, 1 + 1e-7]]]]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bounds": (1, 0)}, "ascending"),
        ({"bounds": (0, float("inf"))}, "finite"),
        ({"std": [0.2, 0.0]}, "positive"),
    ],
)
def test_refuses_options(options, message):
    with pytest.raises(InputError, match=message):
        victim(**options)


def test_mean_of_another_channel_count():
    with pytest.raises(InputError, match=r"mean has 3 values, the images have 1 channel"):
        victim(mean=[0.1, 0.2, 0.3]).check_images(torch.rand(1, 1, 2, 2))


def test_autocast_gives_float32_outputs():
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(8, 2))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert victim(model)(torch.rand(2, 1, 4, 4)).dtype == torch.float32
    assert victim(model.bfloat16())(torch.rand(2, 1, 4, 4)).dtype == torch.float32


def test_channels_last_answers_the_same_and_leaves_the_layout():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 2))
        images = torch.rand(2, 3, 8, 8)
    pointers = [weight.data_ptr() for weight in model.parameters()]
    layouts = []
    model[0].register_forward_pre_hook(
        lambda module, inputs: layouts.append([t.is_contiguous() for t in (inputs[0], module.weight)])
    )
    fast = victim(model, channels_last=True)
    assert torch.allclose(fast(images), victim(model)(images), atol=1e-6)
    assert layouts == [[False, False], [True, True]]
    assert [weight.data_ptr() for weight in model.parameters()] == pointers
    # a changed weight is noticed: the next answer is the new model's
    with torch.no_grad():
        model[0].weight.mul_(2)
    assert torch.allclose(fast(images), victim(model)(images), atol=1e-6)


def test_weights_are_frozen_only_for_the_call():
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    model[1].bias.requires_grad_(False)
    needed = []
    model.register_forward_pre_hook(lambda module, inputs: needed.append(module[1].weight.requires_grad))
    victim(model)(torch.rand(1, 1, 2, 2))
    assert needed == [False]
    assert model[1].weight.requires_grad
    assert not model[1].bias.requires_grad
