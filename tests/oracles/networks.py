"""Networks around the trained one."""

from __future__ import annotations

from torch import Tensor, nn


class HalfContrast(nn.Module):
    """The network for images at half contrast, which no step takes to a bound: 0.25 + images/2."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        return self.model((images - 0.25) * 2)
