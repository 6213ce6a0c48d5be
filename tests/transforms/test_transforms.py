"""Transforms against Pillow, SciPy and numbers by hand; their gradients; what every one of them promises."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter, median_filter

from medrobust.errors import InputError
from medrobust.threat import sample_generators
from medrobust.transforms import (
    JPEG,
    TRANSFORMS,
    BitDepth,
    Chain,
    MedianFilter,
    Noise,
    RandomResize,
    Resize,
    Smooth,
    Transform,
    make_transform,
    straight_through,
)

UNIT = (0.0, 1.0)
HU = (-1024.0, 3071.0)
STRAIGHT = [JPEG(50), BitDepth(8), BitDepth(1)]
SMOOTH = [Smooth(), Smooth(5, 2.0), Resize(0.5), Resize(0.7), RandomResize(0.5), MedianFilter(), Noise(0.02)]
EVERY = [*STRAIGHT, *SMOOTH, Chain([Noise(0.02), JPEG(75), RandomResize(), Smooth()])]


def drawn(*shape: int, bounds: tuple[float, float] = UNIT, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    low, high = bounds
    noise = torch.rand(shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    return (low + noise * (high - low)).to(dtype)


def generators(count: int, seed: int = 0) -> list[torch.Generator]:
    return sample_generators(seed, range(count), "test")


# values


def test_eight_bits_are_the_levels_of_a_file():
    images = torch.tensor([0.0, 0.4 / 255, 0.6 / 255, 1.0]).view(1, 1, 1, 4)
    assert torch.equal(BitDepth()(images, UNIT) * 255, torch.tensor([0.0, 0, 1, 255]).view(1, 1, 1, 4))
    hu = torch.tensor([-1024.0, 3071.0, -1016.5, -1015.0]).view(1, 1, 1, 4)
    step = 4095 / 255
    wanted = torch.tensor([-1024.0, 3071.0, -1024, -1024 + step])
    torch.testing.assert_close(BitDepth(8)(hu, HU).flatten(), wanted)


def test_few_bits_are_few_levels():
    images = torch.tensor([0.0, 0.16, 0.17, 0.49, 0.51, 1.0], dtype=torch.float64).view(1, 1, 2, 3)
    thirds = BitDepth(2)(images, UNIT).flatten() * 3
    torch.testing.assert_close(thirds, torch.tensor([0, 0, 1, 1, 2, 3], dtype=torch.float64))
    assert BitDepth(1)(images, UNIT).flatten().tolist() == [0, 0, 0, 0, 1, 1]
    fine = BitDepth(16)(drawn(1, 1, 64, 64), UNIT)
    assert float((fine - drawn(1, 1, 64, 64)).abs().max()) <= 0.5 / 65535 + 1e-7


@pytest.mark.parametrize(("channels", "bounds"), [(1, UNIT), (3, UNIT), (5, UNIT), (1, HU), (3, HU)])
def test_jpeg_is_what_pillow_writes_and_reads(channels: int, bounds: tuple[float, float]):
    levels = torch.randint(0, 256, (2, channels, 16, 24), generator=torch.Generator().manual_seed(0))
    low, high = bounds
    changed = JPEG(75)(low + levels * ((high - low) / 255), bounds)
    for image, result in zip(levels.byte().numpy(), changed.numpy(), strict=True):
        pictures = [image.transpose(1, 2, 0)] if channels == 3 else image
        read = []
        for picture in pictures:
            file = io.BytesIO()
            Image.fromarray(picture).save(file, "JPEG", quality=75)
            read.append(np.asarray(Image.open(file)))
        wanted = read[0].transpose(2, 0, 1) if channels == 3 else np.stack(read)
        assert not np.array_equal(wanted, image), "this compression loses something"
        assert np.array_equal(np.rint((result - low) / (high - low) * 255).astype(np.uint8), wanted)


def test_volumes_are_compressed_and_resized_slice_by_slice():
    volume = drawn(2, 3, 4, 16, 12)
    for transform in (JPEG(60), Resize(0.6)):
        slices = [transform(volume[:, one : one + 1, depth], UNIT) for one in range(3) for depth in range(4)]
        wanted = torch.stack(slices, 2).reshape(2, 3, 4, 16, 12)
        torch.testing.assert_close(transform(volume, UNIT), wanted)


@pytest.mark.parametrize("shape", [(2, 3, 9, 8), (1, 2, 5, 6, 7)])
@pytest.mark.parametrize("size", [3, 5])
def test_filters_are_scipys(shape: tuple[int, ...], size: int):
    images = drawn(*shape, bounds=HU, dtype=torch.float64)
    axes = tuple(range(2, len(shape)))
    window = (1, 1, *[size] * len(axes))
    median = median_filter(images.numpy(), window, mode="mirror")
    assert np.array_equal(MedianFilter(size)(images, HU).numpy(), median)
    gaussian = gaussian_filter(images.numpy(), 1.3, mode="mirror", radius=size // 2, axes=axes)
    assert Smooth(size, 1.3)(images, HU).numpy() == pytest.approx(gaussian, abs=1e-9)


def test_half_size_and_back_is_pillows_way_down():
    """Pillow's bilinear filter is the antialiased one; the way back is that of four known values on paper."""
    image = drawn(1, 1, 12, 8)
    down = Image.fromarray(image[0, 0].numpy()).resize((4, 6), Image.Resampling.BILINEAR)
    up = torch.nn.functional.interpolate(torch.tensor(np.asarray(down))[None, None], (12, 8), mode="bilinear")
    torch.testing.assert_close(Resize(0.5)(image, UNIT), up, rtol=1e-5, atol=1e-6)
    # 4 -> 2 -> 4 of a step: the filter's weights are 1, 3, 3, (1) of 7, so the halves are 1/7 and 6/7
    step = torch.tensor([0.0, 0.0, 1.0, 1.0]).expand(1, 1, 4, 4)
    near, far = 1 / 7, 6 / 7
    wanted = torch.tensor([near, 0.75 * near + 0.25 * far, 0.25 * near + 0.75 * far, far])
    torch.testing.assert_close(Resize(0.5)(step, UNIT)[0, 0, 0], wanted)


def test_a_share_of_a_side_is_a_whole_number_of_pixels():
    assert torch.equal(Resize(1)(drawn(1, 1, 9, 7), UNIT), drawn(1, 1, 9, 7))
    image = drawn(1, 1, 100, 10)
    small = torch.nn.functional.interpolate(image, (29, 2), mode="bilinear", antialias=True)
    back = torch.nn.functional.interpolate(small, (100, 10), mode="bilinear")
    torch.testing.assert_close(Resize(0.29)(image, UNIT), back)
    one = Resize(0.01)(image, UNIT)
    assert torch.allclose(one, one.mean(), atol=1e-6), "a single pixel is left"


def test_each_images_random_size_is_that_of_its_own_draw():
    images = drawn(6, 2, 20, 20)
    changed = RandomResize(0.5)(images, UNIT, generators(6))
    factors = [0.5 + 0.5 * float(torch.rand((), generator=one)) for one in generators(6)]
    assert len({int(20 * factor) for factor in factors}) > 2
    for image, result, factor in zip(images, changed, factors, strict=True):
        torch.testing.assert_close(result[None], Resize(factor)(image[None], UNIT))


def test_noise_has_its_deviation_in_data_units():
    flat = torch.full((4, 1, 64, 64), 1000.0)
    noise = Noise(25.0)(flat, HU, generators(4)) - flat
    assert float(noise.std()) == pytest.approx(25, rel=0.03)  # 16384 draws: ± 0.55 %
    assert abs(float(noise.mean())) < 5 * 25 / 128
    assert torch.equal(Noise(0)(flat, HU, generators(4)), flat)


def test_a_chain_is_one_after_the_other():
    images = drawn(2, 1, 16, 16)
    chain = Chain([Smooth(), BitDepth(3)])
    assert torch.equal(chain(images, UNIT), BitDepth(3)(Smooth()(images, UNIT), UNIT))
    assert not torch.equal(chain(images, UNIT), Chain([BitDepth(3), Smooth()])(images, UNIT))
    assert torch.equal(Chain()(images, UNIT), images)
    pair = generators(2)
    twice = Noise(0.1)(Noise(0.1)(images, UNIT, pair), UNIT, pair)
    assert torch.equal(Chain([Noise(0.1), Noise(0.1)])(images, UNIT, generators(2)), twice)
    assert not chain.random
    assert Chain([Smooth(), Chain([Noise(0.1)])]).random


# gradients


@pytest.mark.parametrize("transform", STRAIGHT, ids=str)
@pytest.mark.parametrize("bounds", [UNIT, HU])
def test_straight_through_the_values_are_exact_and_the_gradient_is_the_identity(transform, bounds):
    images = drawn(2, 3, 16, 16, bounds=bounds)
    with torch.no_grad():
        wanted = transform(images, bounds)
    assert not torch.equal(wanted, images)
    images.requires_grad_()
    changed = transform(images, bounds)
    assert torch.equal(changed, wanted)
    weights = torch.randn(images.shape, generator=torch.Generator().manual_seed(1))
    assert torch.equal(torch.autograd.grad((changed * weights).sum(), images)[0], weights)


def test_straight_through_does_not_round():
    images, changed = torch.tensor([1e8, 0.1], requires_grad=True), torch.tensor([0.3, 0.7])
    assert torch.equal(straight_through(images, changed), changed)
    assert float(images.detach()[0] + (changed - images.detach())[0]) != float(changed[0]), "the usual way does"


@pytest.mark.parametrize("transform", SMOOTH, ids=str)
@pytest.mark.parametrize("shape", [(2, 1, 6, 5), (1, 2, 3, 4, 5)])
def test_the_gradient_is_the_slope(transform, shape):
    # away from the bounds, where noise is cut
    images = (0.3 + 0.4 * drawn(*shape, dtype=torch.float64)).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: transform(x, UNIT, generators(shape[0])), images)


@pytest.mark.parametrize("transform", [Smooth(), Smooth(5, 0.7), Resize(0.5), Resize(0.7), MedianFilter()], ids=str)
@pytest.mark.parametrize(("value", "bounds"), [(-1024.0, HU), (3071.0, HU), (0.1, (0.1, 0.7)), (0.7, (0.1, 0.7))])
def test_rounding_at_a_bound_costs_a_flat_background_no_gradient(transform, value, bounds):
    flat = torch.full((1, 1, 11, 11), value, requires_grad=True)
    changed = transform(flat, bounds)
    (gradient,) = torch.autograd.grad(changed.sum(), flat)
    assert float(gradient.sum()) == pytest.approx(121, rel=1e-4), "weights sum to 1 at every pixel"
    assert float(changed.detach().min()) >= float(torch.tensor(bounds[0]))
    assert float(changed.detach().max()) <= float(torch.tensor(bounds[1]))


# what every transform promises


@pytest.mark.parametrize("transform", EVERY, ids=str)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(2, 1, 9, 7), (2, 3, 8, 8), (1, 5, 8, 9), (2, 1, 3, 8, 8), (1, 3, 3, 8, 8)])
def test_shape_dtype_and_bounds_are_kept(transform, dtype, shape):
    for bounds in (UNIT, HU):
        images = drawn(*shape, bounds=bounds, dtype=dtype).clamp(*bounds)
        before = images.clone()
        changed = transform(images, bounds, generators(len(images)))
        assert changed.shape == images.shape
        assert changed.dtype == dtype
        assert bool(torch.isfinite(changed).all())
        low, high = torch.tensor(bounds, dtype=dtype)
        assert bool((changed >= low).all() & (changed <= high).all())
        assert torch.equal(images, before), "its input is left as it is"
        if isinstance(transform, Chain):
            continue  # what is rounded between two steps may be on another level, in JPEG everywhere
        exact = transform(images.double(), bounds, generators(len(images)))
        near = (changed.double() - exact).abs() <= 4 * torch.finfo(dtype).eps * max(map(abs, bounds))
        assert float(near.double().mean()) > 0.95, "all but values that float64 puts on another level"


@pytest.mark.parametrize("transform", EVERY, ids=str)
@pytest.mark.parametrize("shape", [(1, 12, 12), (3, 12, 12), (1, 3, 12, 12)])
def test_an_image_is_changed_alike_in_any_company(transform, shape):
    images = drawn(5, *shape)
    together = transform(images, UNIT, generators(5))
    order = [3, 0, 4, 1, 2]
    shuffled = transform(images[order], UNIT, [generators(5)[place] for place in order])
    assert torch.equal(shuffled, together[order])
    for place in range(5):
        alone = transform(images[place : place + 1], UNIT, [generators(5)[place]])
        assert torch.equal(alone[0], together[place])
    assert transform(images[:0], UNIT, []).shape == images[:0].shape


@pytest.mark.parametrize("transform", EVERY, ids=str)
def test_nobodys_random_numbers_are_used(transform):
    before = torch.get_rng_state()
    own = generators(2)
    states = [one.get_state() for one in own]
    first = transform(drawn(2, 1, 20, 20), UNIT, own)
    assert torch.equal(torch.get_rng_state(), before)
    moved = [not torch.equal(one.get_state(), state) for one, state in zip(own, states, strict=True)]
    assert moved == [transform.random] * 2
    second = transform(drawn(2, 1, 20, 20), UNIT, own)
    assert torch.equal(first, second) != transform.random, "each call draws on"


def test_images_in_another_memory_layout_are_changed_alike():
    images = drawn(2, 3, 12, 10)
    for transform in EVERY:
        last = transform(images.contiguous(memory_format=torch.channels_last), UNIT, generators(2))
        torch.testing.assert_close(last, transform(images, UNIT, generators(2)))


# errors and words


@pytest.mark.parametrize("transform", [Noise(0.1), RandomResize(), Chain([Smooth(), Noise(0.1)])], ids=str)
def test_a_random_one_needs_a_generator_for_each_image(transform):
    with pytest.raises(InputError, match="is random: it needs generators"):
        transform(drawn(2, 1, 8, 8), UNIT)
    with pytest.raises(InputError, match="one generator an image, got 3 for 2 images"):
        transform(drawn(2, 1, 8, 8), UNIT, generators(3))


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (JPEG, {"quality": 0}),
        (JPEG, {"quality": 101}),
        (JPEG, {"quality": 75.5}),
        (BitDepth, {"bits": 0}),
        (BitDepth, {"bits": 17}),
        (Smooth, {"kernel_size": 4}),
        (Smooth, {"sigma": 0}),
        (MedianFilter, {"kernel_size": 2}),
        (Resize, {"factor": 0}),
        (Resize, {"factor": 1.5}),
        (RandomResize, {"lowest": -1}),
        (RandomResize, {"lowest": float("nan")}),
        (Noise, {"sigma": -1}),
        (Noise, {"sigma": "8/255"}),
    ],
)
def test_refuses(kind, options):
    with pytest.raises(InputError, match=next(iter(options))):
        kind(**options)


def test_a_chain_refuses_what_is_no_transform():
    with pytest.raises(InputError, match="a chain is made of transforms, got 'smooth'"):
        Chain(["smooth"])


def test_every_transform_has_a_name_to_be_typed():
    assert {entry.transform for entry in TRANSFORMS.values()} | {Chain} == set(Transform.__subclasses__())
    for name, entry in TRANSFORMS.items():
        if name != "noise":
            assert make_transform(name) == entry.transform()


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("smooth", Smooth()),
        ({"jpeg": {"quality": 60}}, JPEG(60)),
        ({"jpeg": None}, JPEG(75)),
        ({"noise": {"sigma": 20}}, Noise(20)),
        (["median", {"bit_depth": {"bits": 4}}], Chain([MedianFilter(), BitDepth(4)])),
        ([["smooth"], "jpeg"], Chain([Chain([Smooth()]), JPEG()])),
    ],
)
def test_a_transform_as_it_is_written(written, meant):
    assert make_transform(written) == meant


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("smoth", "unknown transform 'smoth': did you mean 'smooth'"),
        ({"jpeg": {"qualty": 60}}, "unknown option of transform jpeg 'qualty': did you mean 'quality'"),
        ({"jpeg": {"quality": 600}}, "transform jpeg: quality must be at most 100, got 600"),
        ("noise", "transform noise needs its option sigma"),
        ({"jpeg": 60}, "a transform is a name"),
        ({"jpeg": {}, "smooth": {}}, "a transform is a name"),
        (["smooth", 3], "a transform is a name"),
    ],
)
def test_what_is_wrong_with_what_is_written(written, told):
    with pytest.raises(InputError, match=told):
        make_transform(written)
