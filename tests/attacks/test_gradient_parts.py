"""What is done to a gradient, one by one and by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from attacks.alone import opened_for, point
from torch import Tensor

from medrobust.attacks import (
    LowFrequency,
    Momentum,
    Normalisation,
    TranslationInvariance,
    VarianceTuning,
)
from medrobust.threat import Threat


def test_momentum_by_hand():
    """g ← μ·g + ∇/mean|∇|: (1, 3) has a mean of 2; then (−4, 0)."""
    first, second = torch.tensor([1.0, 3.0]).reshape(1, 1, 1, 2), torch.tensor([-4.0, 0.0]).reshape(1, 1, 1, 2)
    with opened_for(torch.zeros_like(first)) as case:
        stage = Momentum(0.5).begin(case, "momentum")
        assert stage(first, point(first)).flatten().tolist() == pytest.approx([0.5, 1.5])
        assert stage(second, point(first)).flatten().tolist() == pytest.approx([0.25 - 2, 0.75])


def test_momentum_outlives_a_gradient_of_zero():
    """0/0 would be NaN for good: torchattacks' images stand still from then on."""
    zero, later = torch.zeros(1, 1, 1, 2), torch.tensor([1.0, 3.0]).reshape(1, 1, 1, 2)
    with opened_for(zero) as case:
        stage = Momentum().begin(case, "momentum")
        assert stage(zero, point(zero)).flatten().tolist() == [0, 0]
        assert stage(later, point(zero)).flatten().tolist() == pytest.approx([0.5, 1.5])
    assert Normalisation()(later, point(zero)).flatten().tolist() == pytest.approx([0.5, 1.5])
    assert Normalisation()(1e-20 * later, point(zero)).flatten().tolist() == pytest.approx([0.5, 1.5])


def test_the_kernel_of_ti_is_the_papers():
    """A Gaussian from −3σ to 3σ: of 5 taps at −3, −1.5, 0, 1.5, 3 σ, e^{−t²/2} over their sum, outer product."""
    taps = [math.exp(-(t**2) / 2) for t in (-3, -1.5, 0, 1.5, 3)]
    row = np.array(taps) / sum(taps)
    impulse = torch.zeros(1, 2, 7, 7)
    impulse[0, 1, 3, 3] = 1
    smoothed = TranslationInvariance(5)(impulse, point(impulse))
    np.testing.assert_allclose(smoothed[0, 1, 1:6, 1:6].numpy(), np.outer(row, row), atol=1e-7)
    assert float(smoothed[0, 0].abs().max()) == 0, "channel by channel"
    # outside there is nothing: at a corner a quarter of the kernel and its middle rows are left
    corner = TranslationInvariance(5)(torch.ones(1, 1, 7, 7), point(impulse))[0, 0, 0, 0]
    assert float(corner) == pytest.approx(row[2:].sum() ** 2, rel=1e-5)
    cube = torch.zeros(1, 1, 5, 5, 5)
    cube[0, 0, 2, 2, 2] = 1
    three = TranslationInvariance(5)(cube, point(cube))[0, 0].numpy()
    np.testing.assert_allclose(three, row[:, None, None] * row[:, None] * row, atol=1e-7)


@pytest.mark.parametrize("shape", [(2, 2, 8, 7), (1, 1, 4, 6, 5)])
@pytest.mark.parametrize("share", [0.3, 0.5, 1.0])
def test_low_frequencies_are_numpys(shape, share):
    gradient = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    axes = tuple(range(2, len(shape)))
    spectrum = np.fft.fftn(gradient.numpy(), axes=axes)
    for axis in axes:
        kept = np.abs(np.fft.fftfreq(shape[axis])) <= share / 2
        spectrum = spectrum * kept.reshape([-1 if other == axis else 1 for other in range(len(shape))])
    low = LowFrequency(share)(gradient, point(gradient))
    np.testing.assert_allclose(low.numpy(), np.fft.ifftn(spectrum, axes=axes).real, atol=1e-6)
    if share == 1:
        torch.testing.assert_close(low, gradient, rtol=0, atol=1e-6)


def test_of_the_lowest_frequency_the_mean_is_left():
    gradient = torch.arange(6.0).reshape(1, 1, 2, 3)
    low = LowFrequency(0.01)(gradient, point(gradient))
    torch.testing.assert_close(low, torch.full_like(gradient, 2.5))


def test_variance_tuning_by_hand():
    """Of J = x³ the gradient is 3x²: v is its mean at the neighbours less that at x, and is added one step later."""

    def cubic(points: Tensor) -> Tensor:
        asked.append(points)
        return (3 * points**2).mean(0)

    asked: list[Tensor] = []
    x = torch.tensor([[[[0.5]]], [[[0.25]]]])
    with opened_for(x, Threat(torch.tensor([0.1, 0.01]))) as case:
        stage = VarianceTuning(neighbours=4, radius=2.0).begin(case, "variance")
        first = stage(3 * x**2, point(x, gradient_at=cubic))
        torch.testing.assert_close(first, 3 * x**2)
        assert asked[0].shape == (4, *x.shape)
        away = (asked[0] - x).abs().flatten(2).amax((0, 2))
        assert 0.02 < float(away[0]) <= 0.2
        assert 0.002 < float(away[1]) <= 0.02
        variance = (3 * asked[0] ** 2).mean(0) - 3 * x**2
        torch.testing.assert_close(stage(torch.ones_like(x), point(x, True, cubic)), 1 + variance)
    assert len(asked) == 1, "the last step needs no neighbours"


def test_neighbours_are_others_at_every_step_and_an_images_own():
    asked: list[Tensor] = []

    def flat(points: Tensor) -> Tensor:
        asked.append(points)
        return points.mean(0)

    x = torch.full((3, 1, 4, 4), 0.5)
    with opened_for(x, ids=["a", "b", "c"]) as case:
        stage = VarianceTuning(2).begin(case, "variance")
        for _ in range(3):
            stage(x, point(x, gradient_at=flat))
    assert len({tuple(points.flatten().tolist()) for points in asked}) == 3
    with opened_for(x[:1], ids=["c"]) as case:
        VarianceTuning(2).begin(case, "variance")(x[:1], point(x[:1], gradient_at=flat))
    torch.testing.assert_close(asked[3], asked[0][:, 2:])
