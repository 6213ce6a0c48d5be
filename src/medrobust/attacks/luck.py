"""What an image without a gradient does instead of standing still."""

from __future__ import annotations

import torch
from torch import Tensor

from medrobust.attacks.case import Case
from medrobust.attacks.per_image import PerImage
from medrobust.threat import per_image


class Luck(PerImage):
    """Random directions for images that have no gradient, so that they are not silently stuck."""

    def __init__(self) -> None:
        self.signs: Tensor | None = None

    def revived(self, gradient: Tensor, case: Case, index: int) -> tuple[Tensor, Tensor]:
        """Replace a gradient that is all zero or not finite; also says `(B,)` where that was so."""
        largest = gradient.flatten(1).abs().amax(1)
        # a NaN anywhere makes the maximum NaN, which fails the comparison too
        alive = (largest > 0) & torch.isfinite(largest)
        if alive.device.type == "cpu" and bool(alive.all()):  # nothing has to wait for that on a CPU
            return gradient, ~alive
        if self.signs is None:
            self.signs = self._drawn(case, gradient)
        size = self.signs.shape[1] // 2
        begin = index * 7919 % size
        noise = case.space.allowed(self.signs[:, begin : begin + size].view_as(gradient))
        return torch.where(per_image(alive, gradient), gradient, noise), ~alive

    @staticmethod
    def _drawn(case: Case, like: Tensor) -> Tensor:
        size = like[0].numel()
        draws = [torch.randint(0, 2, (size,), generator=g, dtype=torch.int8) for g in case.generators("no gradient")]
        # twice over: every step looks through a window that moves over them, without drawing or copying
        return (2 * torch.stack(draws) - 1).repeat(1, 2).to(like.device)
