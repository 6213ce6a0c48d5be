"""The Gaussian against scipy's, and what a smoothing must keep."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import convolve1d, gaussian_filter

from medrobust.errors import InputError
from medrobust.transforms import GaussianSmoothing


@pytest.mark.parametrize("shape", [(2, 3, 9, 7), (1, 2, 5, 6, 7)])
@pytest.mark.parametrize(("kernel_size", "sigma"), [(3, 1.0), (5, 0.8), (7, 2.0)])
def test_equals_scipy(shape, kernel_size, sigma):
    images = torch.rand(shape, dtype=torch.float64)
    ours = GaussianSmoothing(kernel_size, sigma)(images).numpy()
    axes = tuple(range(2, len(shape)))
    radius = kernel_size // 2
    theirs = gaussian_filter(images.numpy(), sigma, mode="mirror", radius=radius, axes=axes)
    assert ours == pytest.approx(theirs, abs=1e-12)


def test_the_default_kernel_on_paper():
    """Taps e^(−1/2), 1, e^(−1/2) over their sum: .2741, .4519, .2741; in 2-D their products, centre .2042."""
    point = torch.zeros(1, 1, 5, 5, dtype=torch.float64)
    point[0, 0, 2, 2] = 1
    smoothed = GaussianSmoothing()(point)[0, 0]
    tap = np.exp(-0.5) / (1 + 2 * np.exp(-0.5))
    assert float(smoothed[2, 2]) == pytest.approx((1 - 2 * tap) ** 2)
    assert float(smoothed[1, 2]) == pytest.approx(tap * (1 - 2 * tap))
    assert float(smoothed[1, 1]) == pytest.approx(tap**2)
    assert float(smoothed.sum()) == pytest.approx(1)


def test_keeps_constants_channels_shape_and_dtype():
    images = torch.tensor([0.2, 0.7]).reshape(1, 2, 1, 1).expand(1, 2, 6, 5)
    smoothed = GaussianSmoothing(5, 1.5)(images)
    assert torch.allclose(smoothed, images, atol=1e-6)
    assert smoothed.dtype == torch.float32


def test_an_axis_too_short_to_reflect_is_repeated():
    images = torch.rand(1, 1, 2, 9, dtype=torch.float64)
    ours = GaussianSmoothing(5, 1.0)(images)[0, 0].numpy()
    taps = np.exp(-(np.arange(-2, 3) ** 2) / 2)
    expected = convolve1d(images[0, 0].numpy(), taps / taps.sum(), axis=0, mode="nearest")
    expected = convolve1d(expected, taps / taps.sum(), axis=1, mode="mirror")
    assert ours == pytest.approx(expected, abs=1e-12)


def test_size_one_is_no_smoothing():
    images = torch.rand(1, 1, 4, 4)
    assert torch.equal(GaussianSmoothing(1)(images), images)


@pytest.mark.parametrize("options", [{"kernel_size": 2}, {"kernel_size": 0}, {"sigma": 0}, {"sigma": float("nan")}])
def test_refuses(options):
    with pytest.raises(InputError, match=next(iter(options))):
        GaussianSmoothing(**options)
