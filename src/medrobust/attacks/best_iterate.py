"""The iterate that is handed in where the last one need not be the best."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from medrobust.attacks.case import Case, beats
from medrobust.attacks.per_image import PerImage
from medrobust.threat import per_image


class BestIterate(PerImage):
    """Per image the best iterate so far, by the outputs that the objective computed anyway."""

    def __init__(self, case: Case, start: Tensor) -> None:
        self.variables = start
        self.success = torch.zeros(len(case), dtype=torch.bool, device=start.device)
        self.goal = torch.full((len(case),), -torch.inf, device=start.device)

    @torch.no_grad()
    def see(self, case: Case, current: Tensor, outputs: Any) -> None:
        """Take an iterate where it is better."""
        loss, success = case.measure(outputs, case.truth_at(current))
        goal = case.sign * loss
        better = beats(success, goal, self.success, self.goal)
        self.variables = torch.where(per_image(better, current), current, self.variables)
        self.success = torch.where(better, success, self.success)
        self.goal = torch.where(better, goal, self.goal)
