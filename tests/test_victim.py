"""The victim: preprocessing inside, data units outside, the model as it was."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from medrobust.attacks import PGD
from medrobust.black_box import BlackBox
from medrobust.errors import InputError, MedrobustWarning
from medrobust.tasks import Classification, Detection
from medrobust.threat import Threat
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


def small_network() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Linear(32, 4),
        ).train()


PICTURES = torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def gradient_at(images, victim, factor=1.0):
    leaf = images.clone().requires_grad_()
    outputs = victim(leaf)
    (gradient,) = torch.autograd.grad((factor * victim.task.loss(outputs, torch.tensor([0, 1, 2]))).sum(), leaf)
    return outputs, gradient


def state(model):
    modes = [module.training for module in model.modules()]
    weights = [(weight.data_ptr(), weight.dtype, weight.requires_grad, weight.grad) for weight in model.parameters()]
    return modes, weights, {name: value.clone() for name, value in model.state_dict().items()}


def assert_untouched(model, before):
    modes, weights, values = state(model)
    assert (modes, weights) == before[:2]
    assert all(torch.equal(value, before[2][name]) for name, value in values.items())


@pytest.mark.parametrize(("precision", "digits"), [("bfloat16", 2**-8), ("float16", 2**-11)])
@pytest.mark.parametrize("channels_last", [False, True])
def test_autocast_rounds_and_gives_float32(precision, digits, channels_last):
    model, seen = small_network(), []
    before = state(model)
    model[0].register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    outputs, gradient = gradient_at(PICTURES, Victim(model, Classification(4), std=0.5))
    half = Victim(model, Classification(4), std=0.5, autocast=precision, channels_last=channels_last)
    rounded, rounded_gradient = gradient_at(PICTURES, half)
    assert seen == [torch.float32, getattr(torch, precision)]
    assert rounded.dtype == rounded_gradient.dtype == torch.float32
    assert not torch.equal(rounded, outputs)
    assert torch.allclose(rounded, outputs, atol=8 * digits * float(outputs.detach().abs().max()))
    # not value by value: near 0 a ReLU may take the other side
    assert float((rounded_gradient - gradient).norm() / gradient.norm()) < 16 * digits
    assert_untouched(model, before)


def test_a_faint_gradient_survives_float16():
    """At 1e-9 of the loss, an ordinary backward pass in float16 gives zeros, of one image and not of its neighbour."""
    victim = Victim(small_network(), Classification(4), autocast="float16")
    faint = torch.tensor([1e-9, 1.0, 0.0])
    _, whole = gradient_at(PICTURES, victim)
    _, gradient = gradient_at(PICTURES, victim, faint)
    assert torch.allclose(gradient[0] / 1e-9, whole[0], rtol=1e-2, atol=1e-2 * float(whole[0].abs().max()))
    assert torch.equal(gradient[1], whole[1])
    assert not gradient[2].any()
    leaf = PICTURES.clone().requires_grad_()
    model = small_network().eval()
    with torch.autocast("cpu", dtype=torch.float16):
        outputs = model(leaf)
    (lost,) = torch.autograd.grad((outputs.float().log_softmax(1)[:, 0] * 1e-9).sum(), leaf)
    assert not lost.any()


def test_float16_serves_several_backward_passes_of_one_forward():
    leaf = PICTURES.clone().requires_grad_()
    outputs = Victim(small_network(), Classification(4), autocast="float16")(leaf)
    first, second, again = (
        torch.autograd.grad(factor * outputs[:, answer].sum(), leaf, retain_graph=True)[0]
        for factor, answer in ((1, 0), (1e-6, 1), (1, 0))
    )
    assert torch.equal(first, again)
    assert 0 < float(second.abs().max()) < 1e-5


@pytest.mark.slow
def test_compiled_answers_the_same_and_once_for_all_batch_sizes():
    model = small_network()
    before = state(model)
    plain, compiled = Victim(model, Classification(4)), Victim(model, Classification(4), compile=True)
    for ours, theirs in zip(gradient_at(PICTURES, compiled), gradient_at(PICTURES, plain), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-6)
    graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    for count in (2, 5, 7, 12, 40, 20, 80):
        images = PICTURES[:1].repeat(count, 1, 1, 1).requires_grad_()
        assert torch.allclose(compiled(images), plain(images), atol=1e-6)
    # PyTorch's convolutions take another way from 16 images on
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] <= graphs + 1
    with torch.no_grad():
        model[0].weight.mul_(2)
    assert torch.allclose(compiled(PICTURES), plain(PICTURES), atol=1e-6), "old weights"
    with torch.no_grad():
        model[0].weight.div_(2)
    assert_untouched(model, before)
    assert torch.allclose(copy.deepcopy(compiled)(PICTURES), plain(PICTURES), atol=1e-6)


def broken_compile(model, *, until=0):
    """A `torch.compile` whose result fails from the call `until` on."""
    calls = []

    def call(inputs):
        calls.append(inputs)
        if len(calls) > until:
            raise RuntimeError("no C++ compiler\nand much more")
        return model(inputs)

    return call


@pytest.mark.parametrize("until", [0, 1])
def test_a_model_that_cannot_be_compiled_runs_as_it_is(monkeypatch, until):
    monkeypatch.setattr(torch, "compile", lambda model: broken_compile(model, until=until))
    model = small_network()
    before, one = state(model), Victim(model, Classification(4), compile=True)
    with pytest.warns(MedrobustWarning, match="torch.compile fails .*: no C[+][+] compiler$"):
        outputs, gradient = gradient_at(PICTURES, one)
    gradient_at(PICTURES, one)  # a second warning would be an error
    expected = gradient_at(PICTURES, Victim(model, Classification(4)))
    assert torch.equal(outputs, expected[0])
    assert torch.equal(gradient, expected[1])
    assert_untouched(model, before)


def test_what_the_model_itself_refuses_is_told_in_its_own_words(monkeypatch):
    monkeypatch.setattr(torch, "compile", broken_compile)
    with pytest.raises(RuntimeError, match="expected input"):
        Victim(small_network(), Classification(4), compile=True)(torch.rand(2, 1, 8, 8))


@pytest.mark.parametrize(
    ("task", "options", "message"),
    [
        (Classification(2), {"autocast": "float32"}, "autocast must be one of bfloat16, float16"),
        (Classification(2), {"compile": "yes"}, "compile must be true or false"),
        (Detection(2), {"compile": True}, "a detector cannot be compiled"),
        (Detection(2), {"autocast": "float16"}, "autocast='bfloat16'"),
    ],
)
def test_refuses_ways_to_run(task, options, message):
    with pytest.raises(InputError, match=message):
        Victim(Echo(), task, **options)


def test_tells_how_it_runs():
    told = victim(compile=True, autocast="bfloat16").describe()
    assert told["compile"] is True
    assert told["autocast"] == "bfloat16"


class TestChannelsLast:
    """What torch raises on (B, H, W, C) is told in words of images."""

    TOLD = r"the model fails on images of shape \(2, 8, 9, 3\): images look like \(B, H, W, C\): give \(B, C, H, W\)"

    @pytest.fixture
    def model(self):
        return nn.Sequential(nn.Conv2d(3, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())

    @pytest.mark.parametrize("options", [{}, {"channels_last": True}, {"autocast": "bfloat16"}])
    def test_by_a_call_and_by_an_attack(self, model, options):
        seen, images = victim(model, **options), torch.rand(2, 8, 9, 3)
        with pytest.raises(InputError, match=self.TOLD) as caught:
            seen(images)
        assert isinstance(caught.value.__cause__, RuntimeError)
        with pytest.raises(InputError, match=self.TOLD):
            PGD(steps=1)(seen, images, torch.tensor([0, 1]), Threat(0.1))
        assert seen(images.movedim(-1, 1)).shape == (2, 2)

    def test_of_volumes(self):
        seen = victim(nn.Conv3d(1, 2, 3))
        with pytest.raises(InputError, match=r"images look like \(B, D, H, W, C\): give \(B, C, D, H, W\)"):
            seen(torch.rand(1, 4, 5, 6, 1))

    def test_by_mean_and_std(self, model):
        words = r"mean has 3 values, the images have 8 channel\(s\); images look like \(B, H, W, C\)"
        with pytest.raises(InputError, match=words):
            victim(model, mean=[0.1, 0.2, 0.3])(torch.rand(2, 8, 9, 3))

    def test_a_function_asked_as_a_black_box(self):
        def predict(images):
            return images @ np.ones((5, 2))

        box = BlackBox(predict, Classification(2), numpy=True)
        with pytest.raises(InputError, match=r"images look like \(B, H, W, C\)"):
            box(torch.rand(2, 8, 9, 3))

    @pytest.mark.parametrize("shape", [(2, 1, 8, 3), (2, 8, 3, 9), (2, 3, 8, 1)])
    def test_any_other_error_stays_the_models_own(self, shape):
        with pytest.raises(RuntimeError, match="to have 2 channels"):
            victim(nn.Conv2d(2, 2, 1))(torch.rand(*shape))

    def test_a_model_that_takes_them_is_asked(self):
        assert victim(nn.Flatten())(torch.rand(2, 8, 9, 3)).shape == (2, 8 * 9 * 3)
