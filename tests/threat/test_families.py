"""Families of changes: formulas by hand, gradients by finite differences, and what holds for every threat."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.interpolate import BSpline

from medrobust.errors import InputError
from medrobust.region import Region
from medrobust.threat import THREATS, BandNoise, BiasField, Contrast, Deformation, Threat, make_threat
from medrobust.threat import sample_generators as generators
from medrobust.threat.lattice import Lattice

BOUNDS = (0.0, 1.0)
HU = (-1024.0, 3071.0)
SHAPES = [(2, 1, 9, 7), (2, 5, 8, 8), (2, 1, 6, 5, 7), (2, 2, 3, 2, 4)]
FAMILIES = ["contrast", "bias", "deformation", "band"]


def pictures(shape, bounds=BOUNDS, dtype=torch.float64) -> torch.Tensor:
    values = torch.rand(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return (bounds[0] + values.mul(1.2).sub(0.1).clamp(0, 1) * (bounds[1] - bounds[0])).to(dtype)


def radius(kind: str, bounds) -> float:
    """A budget that is felt, in the threat's unit."""
    return {"pixels": 1.3, "%": 0.2}.get(THREATS[kind].unit, 0.05 * (bounds[1] - bounds[0]))


@pytest.mark.parametrize("kind", THREATS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("bounds", [BOUNDS, HU])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
class TestEveryThreat:
    def test_starts_with_the_clean_images(self, kind, shape, bounds, dtype):
        clean = pictures(shape, bounds, dtype)
        space = make_threat(kind, radius(kind, bounds)).space(clean, bounds)
        start = space.start().clone()
        assert torch.equal(space.images(start), clean)
        space.project_(start)
        assert torch.equal(space.images(start), clean)

    def test_changes_nothing_without_a_budget(self, kind, shape, bounds, dtype):
        clean = pictures(shape, bounds, dtype)
        space = make_threat(kind, 0).space(clean, bounds)
        variables = space.random_start(generators(0, [0, 1], "s"))
        assert torch.equal(space.images(variables), clean)
        variables = variables + torch.randn(variables.shape, generator=torch.Generator().manual_seed(0)).to(variables)
        space.project_(variables)
        assert torch.equal(space.images(variables), clean)

    def test_random_starts_are_allowed_felt_and_within_bounds(self, kind, shape, bounds, dtype):
        clean = pictures(shape, bounds, dtype)
        space = make_threat(kind, radius(kind, bounds)).space(clean, bounds)
        start = space.random_start(generators(0, [0, 1], "s"))
        images, again = space.images(start), start.clone()
        assert images.dtype == dtype
        assert bounds[0] <= float(images.min()) <= float(images.max()) <= bounds[1]
        assert bool((images != clean).flatten(1).any(1).all())
        if kind != "band":  # what is clipped leaks out of the band
            space.project_(again)
            assert torch.allclose(again, start, rtol=1e-6, atol=1e-6 * radius(kind, bounds))

    def test_steps_have_unit_norm(self, kind, shape, bounds, dtype):
        clean = pictures(shape, bounds, dtype)
        space = make_threat(kind, radius(kind, bounds)).space(clean, bounds)
        gradient = torch.randn(space.start().shape, generator=torch.Generator().manual_seed(2)).to(dtype) * 1e-20
        order = {"l2": 2, "l1": 1}.get(kind, torch.inf)
        step = space.steepest(gradient)
        assert torch.linalg.vector_norm(step.flatten(1), order, dim=1).tolist() == pytest.approx([1, 1], abs=1e-5)
        assert bool(((step * gradient).flatten(1).sum(1) > 0).all())
        assert not space.steepest(torch.zeros_like(gradient)).any()


@pytest.mark.parametrize("kind", THREATS)
def test_an_image_does_not_know_its_neighbours(kind):
    clean = pictures((3, 2, 8, 7), HU, torch.float32)
    eps = torch.tensor([1.0, 0.0, 0.5]) * radius(kind, HU)
    threat = make_threat(kind, eps)
    space = threat.space(clean, HU)
    start = space.random_start(generators(7, "abc", "s"))
    noise = torch.randn(start.shape, generator=torch.Generator().manual_seed(3))
    moved = start + 2 * radius(kind, HU) * noise
    far = moved.clone()
    space.project_(moved)
    index = torch.tensor([2, 0])
    for part in (space.rows(index), threat.rows(index, 3).space(clean[index], HU)):
        assert torch.allclose(part.random_start(generators(7, "ca", "s")), start[index], rtol=1e-6, atol=0)
        found = far[index].clone()
        part.project_(found)
        assert torch.allclose(found, moved[index], rtol=1e-6, atol=1e-4)
        assert torch.allclose(part.images(found), space.images(moved)[index], rtol=1e-6, atol=1e-3)
        assert torch.allclose(part.steepest(noise[index]), space.steepest(noise)[index], rtol=1e-5, atol=1e-6)
    assert torch.equal(space.images(moved)[1], clean[1])


@pytest.mark.parametrize("kind", ["contrast", "bias", "deformation"])
@pytest.mark.parametrize("shape", SHAPES)
def test_gradients_are_right(kind, shape):
    clean = 0.3 + 0.4 * pictures(shape)
    space = make_threat(kind, 0.3).space(clean, BOUNDS)
    variables = space.random_start(generators(0, [0, 1], "s")).requires_grad_()
    assert torch.autograd.gradcheck(space.images, variables, eps=1e-7, atol=1e-5, fast_mode=True)


@pytest.mark.parametrize("kind", ["contrast", "bias", "deformation"])
def test_the_clean_image_has_a_gradient(kind):
    clean = pictures((2, 1, 9, 8))
    space = make_threat(kind, 0.3).space(clean, BOUNDS)
    start = space.start().requires_grad_()
    (gradient,) = torch.autograd.grad((space.images(start) ** 3 * torch.linspace(0, 1, 8)).sum(), start)
    assert bool((gradient.flatten(1).abs().amax(1) > 0).all())


@pytest.mark.parametrize("kind", THREATS)
@pytest.mark.parametrize("shape", SHAPES)
def test_steps_along_a_gradient_raise_a_loss(kind, shape):
    """Towards the clean image's own mirror image."""
    clean = pictures(shape, HU, torch.float32)
    eps = radius(kind, HU) * {"l2": 20, "l1": 200}.get(kind, 1)
    space = make_threat(kind, eps).space(clean, HU)
    goal = clean.flip(-1)

    def loss(variables):
        return -((space.images(variables) - goal) / (HU[1] - HU[0])).square().flatten(1).sum(1)

    variables = space.start()
    losses = []
    for _ in range(12):
        current = variables.detach().requires_grad_()
        value = loss(current)
        losses.append(value.detach())
        (gradient,) = torch.autograd.grad(value.sum(), current)
        variables = variables + 0.1 * eps * space.steepest(space.allowed(gradient), current.detach())
        space.project_(variables)
    assert bool((loss(variables) > losses[0]).all())
    assert bool((losses[6] > losses[0]).all())


def test_contrast_by_hand():
    """Values 0, .5, 1 (mean .5): 20 % more contrast and 10 % darker give −.2, .4, 1.0, clipped to 0."""
    clean = torch.tensor([0, 0.5, 1], dtype=torch.float64).reshape(1, 1, 1, 3)
    changed = Contrast(0.2).space(clean, BOUNDS).images(torch.tensor([[0.2, -0.1]], dtype=torch.float64))
    assert changed.flatten().tolist() == pytest.approx([0.0, 0.4, 1.0])
    in_hu = Contrast(0.2).space(clean * 1000, HU).images(torch.tensor([[0.2, 0.01]], dtype=torch.float64))
    assert in_hu.flatten().tolist() == pytest.approx([-100 + 40.95, 540.95, 1140.95])


def test_a_bias_field_multiplies_the_signal():
    """One value for the whole lattice is a factor for the whole image; the lower bound is no signal."""
    clean = torch.tensor([-1024.0, 0, 976], dtype=torch.float64).reshape(1, 1, 1, 3)
    space = BiasField(0.1, grid=3).space(clean, HU)
    changed = space.images(torch.full((1, 1, 3, 3), 0.1, dtype=torch.float64))
    assert changed.flatten().tolist() == pytest.approx([-1024, 102.4, 1176])


def test_fields_are_cubic_b_splines():
    """scipy's, with the outer control values repeated beyond the rim."""
    clean = torch.zeros(1, 1, 10, 13, dtype=torch.float64)
    controls = torch.randn(1, 2, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = controls[0].numpy()
    for axis, size in ((1, 10), (2, 13)):
        rim = np.concatenate([expected.take([0, 0], axis), expected, expected.take([-1, -1], axis)], axis)
        # the basis function of knots j − 4 … j is centred on control value j − 2
        expected = BSpline(np.arange(-4, 8), rim, 3, axis=axis)(np.linspace(0, 3, size))
    assert Lattice.over(clean, 4).field(controls)[0].numpy() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("grid", [2, 4, 6])
def test_fields_stay_within_their_controls(shape, grid):
    lattice = Lattice.over(torch.zeros(shape), grid)
    for weights in lattice.weights:
        assert bool((weights >= 0).all())
        assert weights.sum(1).tolist() == pytest.approx([1] * len(weights), abs=1e-6)
    signs = torch.randn(1, 1, *lattice.shape, generator=torch.Generator().manual_seed(0)).sign()
    assert lattice.field(signs).shape == (1, 1, *shape[2:])
    assert float(lattice.field(signs).abs().max()) <= 1 + 1e-6


@pytest.mark.parametrize("threat", [Contrast, BiasField])
def test_a_mask_keeps_the_rest(threat):
    clean, mask = pictures((2, 3, 6, 5)), torch.zeros(6, 5)
    mask[2:4] = 1
    space = threat(0.3, mask=mask).space(clean, BOUNDS)
    variables = space.random_start(generators(0, [0, 1], "s"))
    changed = space.images(variables)
    assert torch.equal(changed[..., mask == 0], clean[..., mask == 0])
    everywhere = threat(0.3).space(clean, BOUNDS).images(variables)
    assert torch.equal(changed[..., mask == 1], everywhere[..., mask == 1])


def test_a_region_is_looked_up():
    clean = pictures((1, 1, 4, 4))
    truth = torch.zeros(1, 4, 4, dtype=torch.int64)
    truth[:, 1] = 1
    threat = Contrast(0.2, region=Region((1,)))
    with pytest.raises(InputError, match=r"call threat\.for_truth first"):
        threat.space(clean, BOUNDS)
    found = threat.for_truth(truth, clean)
    assert isinstance(found, Contrast)
    changed = found.space(clean, BOUNDS).images(torch.tensor([[0.0, 0.05]], dtype=torch.float64)) != clean
    assert torch.equal(changed[:, 0], (truth == 1) & (clean[:, 0] < 1))


@pytest.mark.parametrize("kind", FAMILIES)
def test_results_lie_on_the_grid_they_are_saved_on(kind):
    clean = pictures((2, 1, 8, 8), HU, torch.float32).round()
    threat = make_threat(kind, radius(kind, HU), quantum=1.0)
    threat.check(clean, HU)
    space = threat.space(clean, HU)
    images = space.images(space.random_start(generators(0, [0, 1], "s")))
    saved = threat.finish(clean, images, HU)
    assert torch.equal(saved, saved.round())
    assert HU[0] <= float(saved.min()) <= float(saved.max()) <= HU[1]
    assert float((saved - images).abs().max()) <= (1.0 if kind == "band" else 0.5) + 1e-3
    if kind == "band":
        assert bool(((saved - clean).abs() <= (images - clean).abs() + 1e-3).all())
    assert torch.equal(threat.finish(clean, clean, HU), clean)
    assert make_threat(kind, radius(kind, HU)).finish(clean, images, HU) is images


def test_a_family_s_unit_has_nothing_to_do_with_the_grid():
    assert Contrast(0.05, quantum=1).quantum == 1
    with pytest.raises(InputError, match="smaller than one step"):
        BandNoise(0.05, quantum=1)


def test_families_are_threats_and_tell_their_unit():
    assert Contrast(0.05).describe("HU") == {
        "norm": "contrast",
        "eps": 0.05,
        "unit": "%",
        "masked": False,
        "quantum": None,
        "region": None,
    }
    own = {"norm": "band noise 0-0.1", "low": 0.0, "high": 0.1}
    assert BandNoise(5, high=0.1).describe("HU") == {**Threat(5).describe("HU"), **own}
    assert Deformation(2, grid=3).describe("HU")["unit"] == "pixels"
    for kind in THREATS:
        threat = make_threat(kind, 0.1)
        assert isinstance(threat, Threat)
        assert threat.unit == THREATS[kind].unit
        assert threat.pixels == (kind in ("linf", "l2", "l1", "band"))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: make_threat("l0", 1), "unknown threat 'l0'"),
        (lambda: make_threat("bias", 0.1, norm="l2"), "unknown option of threat bias 'norm'"),
        (lambda: make_threat("bias", 0.1, gird=3), "did you mean 'grid'"),
        (lambda: make_threat("bias", 0.1, grid=1), "threat bias: grid must be a whole number of at least 2"),
        (lambda: make_threat("deformation", 1, grid=1), "grid must be"),
        (lambda: make_threat("contrast", -1), "threat contrast: eps must be a finite number"),
        (lambda: make_threat("band", 1, low=0.3, high=0.2), r"got low=0\.3, high=0\.2"),
        (lambda: make_threat("band", 1, low=-1), "low must be"),
        (lambda: make_threat("band", 1, mask=torch.ones(2, 2)), "takes none"),
        (lambda: make_threat("deformation", 1, mask=torch.ones(2, 2)), "takes no mask or region"),
        (lambda: make_threat("deformation", 1, region=Region((1,))), "takes no mask or region"),
        (lambda: BiasField(0.1, 4), "mask must be a tensor, got int"),
        (lambda: BandNoise(0.1, low=0.1, high=0.12).check(torch.rand(1, 1, 4, 4), BOUNDS), "4 × 4 have no frequency"),
        (lambda: Contrast(torch.ones(3)).check(torch.rand(1, 1, 4, 4), BOUNDS), "3 radii for 1 images"),
        (lambda: Contrast(0.1, quantum=0.5).check(torch.full((1, 1, 2, 2), 0.3), BOUNDS), "grid of quantum"),
    ],
)
def test_what_does_not_fit_is_told(make, message):
    with pytest.raises(InputError, match=message):
        make()
