"""HopSkipJump's lengths: how far its points are, how far it probes, and how fine it cuts."""

from __future__ import annotations

import torch
from torch import Tensor

from medrobust.attacks.case import Case

BISECTIONS = 24  # beyond that, float32 tells no two points of the way apart


class Lengths:
    """Of the images of a case, by the norm and by the number of values that may change.

    Args:
        case: the images; L2 or L∞.
        free: bool like them, where they may change.
        gamma: the paper's γ.
    """

    def __init__(self, case: Case, free: Tensor, gamma: float) -> None:
        self.gamma = gamma
        self.l2 = case.threat.norm == "l2"
        self.values = free.flatten(1).sum(1).clamp_min(1).to(case.clean)  # d, per image
        low, high = case.victim.bounds
        self.width = high - low
        # a probe nearer than that would be lost in the images' precision
        self.finest = 8 * torch.finfo(case.clean.dtype).eps * max(abs(low), abs(high))

    def reach(self, rows: Tensor, size: Tensor, index: int) -> Tensor:
        """How far away probes are, `(n,)`: a tenth of the bounds' width, later d^.5·θ (L2) or d·θ (L∞) of the size."""
        values = self.values[rows]
        if index == 1:
            reach = torch.full_like(values, 0.1 * self.width)
        else:
            reach = self.precision(rows) * (values.sqrt() if self.l2 else values) * size
        return torch.maximum(reach, self.finest * values.sqrt())

    def precision(self, rows: Tensor) -> Tensor:
        """θ, `(n,)`."""
        return self.gamma / self.values[rows].pow(1.5 if self.l2 else 2.0)

    def bisections(self, rows: Tensor) -> Tensor:
        """Halvings of the way until θ of it is left, `(n,)`."""
        return (-self.precision(rows).log2()).ceil().clamp(1, BISECTIONS)

    def reserve(self, rows: Tensor) -> Tensor:
        """Questions to keep for the step and the bisection after an estimate, `(n,)`."""
        return self.bisections(rows).long() + 5

    def size(self, change: Tensor) -> Tensor:
        """Of changes `(n, …)`, in the threat's norm, `(n,)`."""
        flat = change.flatten(1)
        return flat.norm(dim=1) if self.l2 else flat.abs().amax(1)
