"""The attack of Carlini and Wagner in L2: the shortest change and the margin in one objective, without projection.

Carlini, Wagner: Towards Evaluating the Robustness of Neural Networks, S&P 2017, arXiv 1608.04644, sections V and VI A.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from medrobust.attacks.borders import margin, slope
from medrobust.attacks.case import Case, Effort, rows_where
from medrobust.attacks.luck import Luck
from medrobust.attacks.nearest import Closest, Nearest, NearestAttack, length, limits, width
from medrobust.attacks.per_image import PerImage
from medrobust.checks import at_least, boolean, positive
from medrobust.threat import TINY

# of the box of tanh, in widths of the bounds, and where in it these are
_BOX = 1.05
_EDGE = math.atanh(1 / _BOX)
# least steps between two looks at the progress: Adam's first ones go up and down
_PATIENCE = 10
# an image leaves a search when a tenth of its steps did not lower its objective to this share
_PROGRESS = 0.9999


@dataclass(frozen=True, kw_only=True)
class CarliniWagner(NearestAttack):
    """Minimise ‖x' − x‖₂² + c·max(−m(x'), 0) over w, where x' = middle + half·tanh(w) of the bounds; m is the margin.

    By Adam on w (arXiv 1412.6980), for each c from the clean image; c is ten times as large until the model is fooled,
    then halves the interval between the largest that failed and the smallest that did not, per image. Distances are in
    widths of the bounds, so that c means the same in any unit. Of a mask, a pixel's margin counts up to 0. The paper's
    κ, a margin to be exceeded, is 0: the nearest image is looked for.

    Where the paper's tanh ends at the bounds, it ends 5 % beyond here, and w is cut to where the bounds are: at its end
    tanh is flat, and the black of a medical image, most of its pixels, would stay black.

    Args:
        searches: values of c that are tried.
        steps: of Adam for each. The paper's 10 000 come a little nearer.
        rate: of Adam, in w; the paper's 0.01.
        c: the first one.
        targeted: `truth` is the answer to reach.

    Raises:
        InputError: an option has no such value.
    """

    searches: int = 6
    steps: int = 100
    rate: float = 0.01
    c: float = 0.1
    targeted: bool = False

    norms: ClassVar[tuple[str, ...]] = ("l2",)

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("searches", self.searches, 1)
        at_least("steps", self.steps, 1)
        positive("rate", self.rate)
        positive("c", self.c)
        boolean("targeted", self.targeted)

    def nearest(self, case: Case) -> Nearest:
        """Search over c, every image by itself."""
        closest, effort, last = Closest(case), Effort.of(case), case.clean.clone()
        c = case.clean.new_full((len(case),), self.c)
        lower, upper = torch.zeros_like(c), torch.full_like(c, torch.inf)
        for search in range(self.searches):
            found = torch.zeros_like(c, dtype=torch.bool)
            descent = _Descent(case, c, self.rate)
            for index in range(self.steps):
                images, reached, lost = descent.look(search * self.steps + index)
                rows = descent.rows
                closest.see(images, reached, length(images - descent.case.clean, 2.0), rows)
                found[rows] |= reached
                last[rows] = images
                effort.steps[rows] += 1
                effort.stuck[rows] += lost
                if index % max(self.steps // 10, _PATIENCE) == 0 and not descent.going_on():
                    break
                descent.step()
            upper = torch.where(found, torch.minimum(upper, c), upper)
            lower = torch.where(found, lower, torch.maximum(lower, c))
            c = torch.where(torch.isinf(upper), c * 10, (lower + upper.nan_to_num(posinf=0)) / 2)
        return Nearest(closest.or_else(last), effort)


class _Descent(PerImage):
    """Adam for one c of each image; images leave that make no progress."""

    def __init__(self, case: Case, c: Tensor, rate: float) -> None:
        self.case, self.c, self.rate, self.count = case, c, rate, 0
        self.rows = torch.arange(len(case), device=c.device)
        low, high = limits(case)
        self.middle, self.half = (low + high) / 2, _BOX * (high - low) / 2
        place = (case.clean - self.middle) / self.half.clamp_min(TINY)
        self.variables = torch.atanh(place)
        self.gradient, self.mean, self.square = (torch.zeros_like(place) for _ in range(3))
        self.objective, self.before = torch.zeros_like(c), torch.full_like(c, torch.inf)
        self.luck = Luck()

    def look(self, index: int) -> tuple[Tensor, Tensor, Tensor]:
        """The images here, which of them reach the goal, and which have no gradient."""
        case, unit = self.case, width(self.case)
        place = self.variables.tanh()
        images = self.middle + self.half * place
        outputs, pull, upwards = slope(
            case, images, lambda outputs: self.c * margin("CarliniWagner", case, outputs, most=0.0)
        )
        with torch.no_grad():
            _, reached = case.measure(outputs)
            change = (images - case.clean) / unit
            self.objective = length(change, 2.0).square() - pull
            gradient = (2 * change / unit - upwards) * self.half * (1 - place.square())
            self.gradient, lost = self.luck.revived(gradient, case, index)
        return images, reached, lost

    def going_on(self) -> bool:
        """Let the images go that made no progress; says whether one is left."""
        staying = rows_where(self.objective <= _PROGRESS * self.before)
        self.before = self.objective
        if 0 < len(staying) < len(self.rows):
            self.keep(staying)
            self.case = self.case.rows(staying)
            self.luck.keep(staying)
        return bool(len(staying))

    def step(self) -> None:
        """One step of Adam."""
        self.count += 1
        self.mean = 0.9 * self.mean + 0.1 * self.gradient
        self.square = 0.999 * self.square + 0.001 * self.gradient.square()
        mean, square = self.mean / (1 - 0.9**self.count), self.square / (1 - 0.999**self.count)
        self.variables = self.variables - self.rate * mean / (square.sqrt() + 1e-8)
        self.variables = self.variables.clamp(-_EDGE, _EDGE)
