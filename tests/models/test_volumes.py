"""Windows and slices: the answer and the gradient of the whole, in the memory of a part."""

from __future__ import annotations

import contextlib

import pytest
import torch
from torch import nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode

import medrobust as mr
from medrobust.errors import InputError
from medrobust.models import volumes


def network(channels=1, classes=3, dims=3, kernel=3, width=4) -> nn.Module:
    conv, norm = (nn.Conv3d, nn.BatchNorm3d) if dims == 3 else (nn.Conv2d, nn.BatchNorm2d)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(
            conv(channels, width, kernel, padding=kernel // 2),
            norm(width),
            nn.Tanh(),
            conv(width, classes, kernel, padding=kernel // 2),
        )
        model(torch.rand(2, channels, *[8] * dims))  # BatchNorm has seen something
    return model


def volume(*shape) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(1))


def gradient(victim, images, truth) -> torch.Tensor:
    x = images.clone().requires_grad_()
    (found,) = torch.autograd.grad(victim.task.loss(victim(x), truth).sum(), x)
    return found


def victim_of(model) -> mr.Victim:
    return mr.Victim(model, mr.Segmentation(3))


SHAPE = (2, 1, 6, 10, 9)
IMAGES = volume(*SHAPE)
TRUTH = torch.randint(0, 3, (2, 6, 10, 9), generator=torch.Generator().manual_seed(2))
WRAPPED = {
    "window": lambda: volumes.SlidingWindow(network(), (6, 6, 6), batch_size=2),
    "constant window": lambda: volumes.SlidingWindow(network(), (4, 6, 6), overlap=0.5, mode="constant"),
    "slices": lambda: volumes.OverSlices(network(dims=2), axis="axial", batch_size=4),
    "coronal slices": lambda: volumes.OverSlices(network(dims=2), axis=1),
}


@pytest.fixture(params=WRAPPED.values(), ids=WRAPPED.keys())
def wrapped(request) -> nn.Module:
    return request.param()


@pytest.fixture
def in_one_piece(monkeypatch):
    """Without checkpoints: every activation is kept."""

    @contextlib.contextmanager
    def switched_off():
        with monkeypatch.context() as patch:
            patch.setattr(volumes, "checkpoint", lambda run, piece, **options: run(piece))
            yield

    return switched_off


@pytest.mark.parametrize("attack", [mr.PGD(steps=3), mr.SMIA(steps=3), mr.SMIA(steps=3, through_target=False, a2=0.5)])
def test_checkpoints_change_neither_gradient_nor_perturbation(wrapped, attack, in_one_piece):
    victim = victim_of(wrapped)
    found = gradient(victim, IMAGES, TRUTH), attack(victim, IMAGES, TRUTH, mr.Threat(0.05)).adversarial
    with in_one_piece():
        expected = gradient(victim, IMAGES, TRUTH), attack(victim, IMAGES, TRUTH, mr.Threat(0.05)).adversarial
    assert torch.equal(found[0], expected[0])
    assert torch.equal(found[1], expected[1])


@pytest.mark.parametrize(
    ("size", "kernel"),
    [((6, 10, 9), 3), ((8, 10, 9), 1), ((4, 4, 4), 1)],
    ids=["one window", "one window, padded", "pointwise in many"],
)
@pytest.mark.parametrize("mode", ["gaussian", "constant"])
def test_as_in_one_piece(size, kernel, mode):
    """Where a window shows the model all that it looks at, windows change nothing."""
    plain = victim_of(network(kernel=kernel))
    windows = victim_of(volumes.SlidingWindow(network(kernel=kernel), size, mode=mode))
    assert torch.allclose(windows(IMAGES), plain(IMAGES), atol=1e-5)
    expected = gradient(plain, IMAGES, TRUTH)
    assert torch.allclose(gradient(windows, IMAGES, TRUTH), expected, atol=1e-5 * float(expected.abs().max()))
    for attack in (mr.PGD(steps=3), mr.SMIA(steps=3)):
        ours, theirs = (attack(v, IMAGES, TRUTH, mr.Threat(0.05)).adversarial for v in (windows, plain))
        close = (ours - theirs).abs() <= 1e-5
        # a sign step turns on the rounding of a gradient that is nearly zero
        assert float(close.double().mean()) > 0.999


def test_windows_that_hold_the_receptive_field_agree_in_their_middle():
    """Two 3 × 3 × 3 layers see 2 voxels far: there a lone window's answer is the whole's."""
    model = network().eval()
    whole = model(IMAGES)
    windows = volumes.SlidingWindow(model, (6, 10, 5), overlap=0.2, mode="constant")(IMAGES)
    # windows begin at 0 and 4 along the last axis: 2 is seen by the first alone, 6 by the second alone
    for place in (2, 6):
        assert torch.allclose(windows[..., place], whole[..., place], atol=1e-5)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_slices_one_by_one(axis):
    model = network(channels=2, dims=2).eval()
    images = volume(2, 2, 5, 6, 7)
    answered = volumes.OverSlices(model, axis, batch_size=3)(images)
    for image, answer in zip(images, answered, strict=True):
        for place in range(images.shape[axis + 2]):
            alone = model(image.select(axis + 1, place).unsqueeze(0))[0]
            assert torch.allclose(answer.select(axis + 1, place), alone, atol=1e-6)
    assert answered.shape == (2, 3, 5, 6, 7)


def test_an_image_does_not_depend_on_its_neighbours(wrapped):
    victim = victim_of(wrapped)
    together = gradient(victim, IMAGES, TRUTH)
    alone = torch.cat([gradient(victim, IMAGES[k : k + 1], TRUTH[k : k + 1]) for k in range(2)])
    assert torch.allclose(together, alone, atol=1e-7)


class Live(TorchDispatchMode):
    """The most bytes of tensors that were alive at one time since it was entered."""

    def __init__(self) -> None:
        super().__init__()
        self.known: dict[int, tuple[StorageWeakRef, int]] = {}
        self.peak = 0

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        made = function(*arguments, **(options or {}))
        for tensor in made if isinstance(made, tuple | list) else (made,):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                self.known.setdefault(storage._cdata, (StorageWeakRef(storage), storage.nbytes()))
        self.known = {key: entry for key, entry in self.known.items() if not entry[0].expired()}
        self.peak = max(self.peak, sum(size for _, size in self.known.values()))
        return made


def peak(wrapped, slabs: int) -> float:
    """Most memory of a gradient beyond that of a volume of no model, in bytes."""
    images = volume(1, 1, 8 * slabs, 8, 8)
    truth = torch.zeros(1, 8 * slabs, 8, 8, dtype=torch.int64)
    victim = victim_of(wrapped)
    x = images.requires_grad_()
    with Live() as live:
        torch.autograd.grad(victim.task.loss(victim(x), truth).sum(), x)
    return live.peak


@pytest.mark.parametrize("kind", ["window", "slices"])
def test_memory_grows_with_the_window_not_the_volume(kind, in_one_piece):
    """64 channels of activations are held for one window; for the volume, its input, logits and loss alone."""
    wrapped = (
        volumes.SlidingWindow(network(width=64), (8, 8, 8), overlap=0)
        if kind == "window"
        else volumes.OverSlices(network(dims=2, width=64), 0, batch_size=8)
    )
    of_a_slab = peak(wrapped, 1)
    ours = peak(wrapped, 8)
    with in_one_piece():
        kept = peak(wrapped, 8)
    assert kept > 4 * of_a_slab
    assert ours < 1.6 * of_a_slab, (of_a_slab, ours, kept)
    assert ours < kept / 2.5


class Watching(nn.Module):
    """Notes on every run what mode it is in."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = network(dims=2)
        self.seen: list[tuple[bool, bool]] = []

    def forward(self, x):
        learning = any(weight.requires_grad for weight in self.parameters())
        self.seen.append((any(module.training for module in self.modules()), learning))
        return self.inner(x)


def state(model: nn.Module) -> dict[str, object]:
    return {
        **{name: tensor.clone() for name, tensor in model.state_dict().items()},
        **{f"{name} training": module.training for name, module in model.named_modules()},
        **{f"{name} learns": weight.requires_grad for name, weight in model.named_parameters()},
    }


def test_the_second_run_is_in_the_state_of_the_first():
    """A gradient taken when the victim has put the model back: BatchNorm must neither learn nor use the batch."""
    model = Watching()
    model.train()
    model.inner[1].eval()
    victim = victim_of(volumes.OverSlices(model, 0))
    before, x = state(victim.model), IMAGES.clone().requires_grad_()
    loss = victim.task.loss(victim(x), TRUTH).sum()
    (late,) = torch.autograd.grad(loss, x)
    with victim.evaluating():
        (inside,) = torch.autograd.grad(victim.task.loss(victim(x), TRUTH).sum(), x)
    assert torch.equal(late, inside)
    assert set(model.seen) == {(False, False)}
    assert len(model.seen) == 2 * 2 * 2  # 12 slices in batches of 8, forward and again, twice
    after = state(victim.model)
    for name, value in before.items():
        assert torch.equal(value, after[name]) if isinstance(value, torch.Tensor) else value == after[name], name


def test_it_can_be_trained(in_one_piece):
    """In train mode nothing is frozen, and the weights have the gradient that they have without checkpoints."""
    gradients = []
    for context in (contextlib.nullcontext(), in_one_piece()):
        model = volumes.OverSlices(network(dims=2)[0], 0)
        with context:
            model(IMAGES).square().mean().backward()
        gradients.append([weight.grad for weight in model.parameters()])
    for ours, theirs in zip(*gradients, strict=True):
        assert torch.allclose(ours, theirs)


def test_a_last_layer_that_keeps_its_output_has_its_gradient():
    """MONAI weighs logits in place: what tanh saved for its gradient must not be what is weighed."""
    model = nn.Sequential(nn.Conv3d(1, 3, 1), nn.Tanh())
    windows = victim_of(volumes.SlidingWindow(model, (4, 4, 4)))
    assert torch.allclose(gradient(windows, IMAGES, TRUTH), gradient(victim_of(model), IMAGES, TRUTH), atol=1e-7)


def test_no_gradient_needs_no_second_run():
    model = Watching()
    victim = victim_of(volumes.OverSlices(model, 0, batch_size=12))
    with torch.no_grad():
        victim(IMAGES)
    assert len(model.seen) == 1


@pytest.mark.parametrize("wrap", [lambda y: {"out": y}, lambda y: {"logits": y}])
def test_understands_the_usual_wrappings(wrap):
    class Wrapped(nn.Module):
        def forward(self, x):
            return wrap(x.expand(-1, 3, *x.shape[2:]))

    for model in (volumes.OverSlices(Wrapped()), volumes.SlidingWindow(Wrapped(), (4, 4, 4))):
        assert torch.allclose(model(IMAGES), IMAGES.expand(-1, 3, -1, -1, -1), atol=1e-6)


def test_images_of_two_axes_have_windows_too():
    model = network(dims=2, kernel=1).eval()
    images = volume(2, 1, 13, 9)
    assert torch.allclose(volumes.SlidingWindow(model, (5, 20))(images), model(images), atol=1e-5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: volumes.SlidingWindow(network(), (4, 4, 0)), "a side of the window must be a whole number"),
        (lambda: volumes.SlidingWindow(network(), (4,)), "a window has 2 or 3 sides"),
        (lambda: volumes.SlidingWindow(network(), (4, 4, 4), overlap=1), "overlap must be at least 0 and below 1"),
        (lambda: volumes.SlidingWindow(network(), (4, 4, 4), mode="hann"), "mode must be one of gaussian, constant"),
        (lambda: volumes.SlidingWindow(network(), (4, 4, 4), batch_size=0), "batch_size"),
        (lambda: volumes.SlidingWindow("unet", (4, 4, 4)), "model must be a torch.nn.Module, got str"),
        (lambda: volumes.SlidingWindow(network(), (4, 4))(IMAGES), r"a window of \[4, 4\] does not fit images"),
        (lambda: volumes.SlidingWindow(nn.Flatten(), (4, 4, 4))(IMAGES), "it must answer at every pixel"),
        (lambda: volumes.OverSlices(network(dims=2), 3), "axis must be 0, 1, 2, axial"),
        (lambda: volumes.OverSlices(network(dims=2), "upwards"), "axis must be 0, 1, 2, axial"),
        (lambda: volumes.OverSlices(network(dims=2))(volume(1, 1, 4, 4)), "slices are taken of volumes"),
        (lambda: volumes.OverSlices(nn.Flatten())(IMAGES), "it must answer at every pixel"),
    ],
)
def test_what_does_not_fit_is_told(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_a_window_larger_than_the_image_sees_its_border_go_on():
    torch.manual_seed(0)
    model, image = nn.Conv2d(1, 2, 3), torch.rand(1, 1, 6, 6)
    model = nn.Sequential(nn.ConstantPad2d(1, -5.0), model)  # the model's own border is another matter
    extended = nn.functional.pad(image, (1, 1, 1, 1), mode="replicate")
    expected = model(extended)[..., 1:-1, 1:-1]
    torch.testing.assert_close(volumes.SlidingWindow(model, (8, 8))(image), expected)
