"""The L1 ball: few values change, those far.

Projection on the ball cut to the bounds: Croce & Hein, arXiv 2103.01208, proposition 2.1. Sparse steps: Tramèr &
Boneh, arXiv 1904.13000 ("SLIDE").
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from medrobust.threat.balls import PixelSpace
from medrobust.threat.drawing import drawn, laplace
from medrobust.threat.quantisation import towards
from medrobust.threat.space import TINY, per_image

# the share of the values that one step moves: the one largest alone, the true steepest, would take as many steps
TOP_SHARE = 0.01
# a value this near to a bound, in widths of the bounds, cannot go further
_AT_BOUND = 1e-6


class L1Ball(PixelSpace):
    """The sizes of an image's changes sum to at most `radius`."""

    def random_start(self, generators: Sequence[torch.Generator]) -> Tensor:
        """Uniform in the ball of the values that may change.

        Laplace draws over the sum of their sizes and one exponential more are uniform in the L1 ball (Barthe, Guédon,
        Mendelson & Naor 2005, doi 10.1214/009117904000000874).
        """
        noise = self.allowed(drawn(laplace, self.clean.double(), generators))
        more = drawn(laplace, self.radius.double(), generators).abs()
        share = self.radius.double() / (noise.flatten(1).abs().sum(1) + more).clamp_min(TINY)
        start = (self.clean + noise * per_image(share, noise)).to(self.clean)
        self.project_(start)
        return start

    def project_(self, variables: Tensor) -> None:
        """The nearest image in both ball and bounds: min(max(|δ| − λ, 0), room), λ ≥ 0 the least that fits."""
        # in float64 and rounded towards the clean value: many small errors would add up to leave the ball
        clean = self.clean.double()
        delta = self.allowed(variables.double() - clean)
        room = torch.where(delta > 0, self.bounds[1] - clean, clean - self.bounds[0]).clamp_min(0)
        radius, size = self.radius.double(), delta.abs()
        shrink = _shrinkage(size.flatten(1), room.flatten(1), radius, variables.dtype)
        size = torch.minimum((size - per_image(shrink, size)).clamp_min(0), room)
        # what rounding has left over
        size *= per_image(radius / torch.maximum(size.flatten(1).sum(1), radius.clamp_min(TINY)), size)
        variables.copy_(towards(self.clean, clean + delta.sign() * size, variables.dtype))

    def steepest(self, gradient: Tensor, at: Tensor | None = None) -> Tensor:
        """Equal steps, 1 in sum, on the `TOP_SHARE` of an image's free values whose gradient is largest.

        The steepest step of unit L1 norm is on the largest entry alone; k entries of 1/k each follow the gradient
        nearly as fast and get somewhere (arXiv 1904.13000). With `at`, a value at its bound takes no step beyond.
        """
        gradient = self.allowed(gradient)
        if at is not None:
            low, high = self.bounds
            edge = _AT_BOUND * (high - low)
            stuck = ((at >= high - edge) & (gradient > 0)) | ((at <= low + edge) & (gradient < 0))
            gradient = torch.where(stuck, 0, gradient)
        size = gradient.flatten(1).abs()
        largest = size.topk(math.ceil(TOP_SHARE * size.shape[1]), dim=1).values
        last = (self.free_values() * TOP_SHARE).ceil().long().clamp_max(largest.shape[1]) - 1
        chosen = (size >= largest.gather(1, last.unsqueeze(1))) & (size > 0)
        step = chosen / chosen.sum(1, keepdim=True).clamp_min(1)
        return gradient.sign() * step.view_as(gradient).to(gradient)


def _shrinkage(size: Tensor, room: Tensor, radius: Tensor, dtype: torch.dtype) -> Tensor:
    """The least λ ≥ 0, `(B,)`, with Σ min(max(size − λ, 0), room) ≤ radius; all in float64, `(B, N)` and `(B,)`.

    Bisection in `dtype`, then one Newton step in float64, exact where no entry begins or ends to shrink on the way. It
    costs a fraction of sorting the sizes.
    """
    coarse, most, none, left = size.to(dtype), room.to(dtype), size.new_zeros(1, dtype=dtype), None
    low, high = torch.zeros_like(radius), size.amax(1)
    for _ in range(1 - round(math.log2(torch.finfo(dtype).eps))):
        middle = (low + high) / 2
        left = torch.sub(coarse, middle.to(dtype).unsqueeze(1), out=left)
        fits = torch.clamp(left, none, most, out=left).sum(1) <= radius
        low, high = torch.where(fits, low, middle), torch.where(fits, middle, high)
    left = size - low.unsqueeze(1)
    shrinking = ((left > 0) & (left < room)).sum(1)
    excess = torch.clamp(left, room.new_zeros(1), room).sum(1) - radius
    inside = torch.minimum(size, room).sum(1) <= radius
    return torch.where(inside, 0, torch.minimum(low + excess / shrinking.clamp_min(1), high))
