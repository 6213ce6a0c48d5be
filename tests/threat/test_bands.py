"""Band noise: which frequencies it has, by the full Fourier transform, and how far it goes."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from medrobust.attacks import BIM
from medrobust.tasks import Classification
from medrobust.threat import BandNoise, sample_generators
from medrobust.victim import Victim

FAR = (-100.0, 100.0)  # bounds that clip nothing


def outside(delta: torch.Tensor, low: float, high: float) -> float:
    """The share of the energy of the change that is out of the band."""
    axes = tuple(range(2, delta.ndim))
    energy = torch.fft.fftn(delta, dim=axes).abs() ** 2
    frequency = sum(
        torch.fft.fftfreq(n).double().reshape(-1, *[1] * (len(axes) - 1 - a)) ** 2
        for a, n in enumerate(delta.shape[2:])
    ).sqrt()
    beyond = (frequency < low - 1e-6) | (frequency > high + 1e-6)
    return float(energy[..., beyond].sum() / energy.sum())


@pytest.mark.parametrize("shape", [(2, 3, 16, 15), (2, 1, 8, 6, 7)])
@pytest.mark.parametrize("band", [(0.0, 0.25), (0.2, 0.4), (0.3, 0.9)])
def test_changes_stay_in_band_and_budget(shape, band):
    generator = torch.Generator().manual_seed(0)
    clean, noise, gradient = (torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(3))
    space = BandNoise(0.05, low=band[0], high=band[1]).space(clean, FAR)
    moved = clean + noise
    space.project_(moved)
    start = space.random_start(sample_generators(0, [0, 1], "s"))
    for delta in (moved - clean, start - clean):
        assert outside(delta, *band) < 1e-12
    assert space.steepest(gradient).abs().unique().tolist() == [1]
    largest = (moved - clean).abs().flatten(1).amax(1)
    assert bool(((largest > 0.04) & (largest <= 0.05 + 1e-12)).all())
    # one peak does not use up the budget of all
    assert float((moved - clean).square().mean().sqrt()) > 0.4 * 0.05
    assert 0 < float((start - clean).abs().max()) <= 0.05 + 1e-12
    again = moved.clone()
    space.project_(again)
    assert torch.allclose(again, moved, atol=1e-12)


def test_what_is_in_band_and_budget_stays_as_it_is():
    """A wave of two cycles over 16 pixels, 0.125 a pixel, passes; a chequered pattern, 0.5, does not."""
    clean = torch.full((1, 1, 1, 16), 0.5, dtype=torch.float64)
    wave = 0.04 * torch.cos(2 * torch.pi * 0.125 * torch.arange(16)).double()
    grain = 0.04 * (1 - 2 * (torch.arange(16) % 2)).double()
    moved = clean + wave + grain
    BandNoise(0.05, high=0.2).space(clean, FAR).project_(moved)
    assert torch.allclose(moved, clean + wave, atol=1e-12)
    moved = clean + wave + grain
    BandNoise(0.05, low=0.125, high=0.125 + 1e-3).space(clean, FAR).project_(moved)
    assert torch.allclose(moved, clean + wave, atol=1e-12)
    moved = clean + 2 * wave  # too far: as a whole made smaller
    BandNoise(0.04, high=0.2).space(clean, FAR).project_(moved)
    assert torch.allclose(moved, clean + wave, atol=1e-12)


def test_bounds_come_last():
    clean = torch.rand(2, 1, 12, 12, generator=torch.Generator().manual_seed(0)).round()
    moved = clean + torch.randn(2, 1, 12, 12, generator=torch.Generator().manual_seed(1))
    BandNoise(0.1).space(clean, (0.0, 1.0)).project_(moved)
    assert 0 <= float(moved.min()) <= float(moved.max()) <= 1
    assert float((moved - clean).abs().max()) <= 0.1 + 1e-7
    assert 0 < outside((moved - clean).double(), 0.0, 0.25) < 0.5


def test_a_gradient_out_of_the_band_is_none():
    """Of a chequered pattern, 0.5 cycles a pixel, nothing is left; of a tiny gradient in the band all of it is."""
    wave = torch.cos(2 * torch.pi * 0.125 * torch.arange(16)).reshape(1, 1, 1, 16)
    grain = (1.0 - 2 * (torch.arange(16) % 2)).reshape(1, 1, 1, 16)
    gradient = torch.cat([3 * grain + 1e-3, 1e-9 * wave + 2e-9 * grain, 0 * wave])
    gradient[0] -= gradient[0].mean()
    left = BandNoise(0.05, low=0.05, high=0.3).space(torch.full((3, 1, 1, 16), 0.5), FAR).allowed(gradient)
    assert left[0].count_nonzero() == 0
    assert left[2].count_nonzero() == 0
    assert torch.allclose(left[1], 1e-9 * wave[0], rtol=1e-4, atol=1e-15)


def test_an_image_whose_gradient_is_out_of_the_band_is_told_and_goes_on():
    class Grain(nn.Module):
        def forward(self, images):
            signs = 1.0 - 2 * (torch.arange(images.shape[-1]) % 2)
            score = (images * signs).flatten(1).sum(1)
            return torch.stack([score, -score], 1)

    victim = Victim(Grain(), Classification(2))
    images = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    result = BIM(steps=3)(victim, images, victim(images).argmax(1), BandNoise(0.1, high=0.2))
    assert result.zero_gradients.tolist() == [3, 3]
    assert float(result.delta.abs().amax()) > 0.01
