"""DeepFool: to the nearest border of the model's linear picture, again and again.

Moosavi-Dezfooli, Fawzi, Frossard: DeepFool: a Simple and Accurate Method to Fool Deep Neural Networks, CVPR 2016,
arXiv 1511.04599, algorithm 2 and section 3.3 (other norms).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch

from medrobust.attacks.borders import Border, Borders
from medrobust.attacks.case import Case, Effort, rows_where
from medrobust.attacks.nearest import DUAL, Nearest, NearestAttack, length, limits, width
from medrobust.checks import at_least, not_negative
from medrobust.threat import TINY, per_image

# added to every distance, in widths of the bounds: the authors' code does so against standing still at the border
_NUDGE = 1e-4


@dataclass(frozen=True, kw_only=True)
class DeepFool(NearestAttack):
    """r ← r + |f_l|/‖w_l‖_q · v, x' = x + (1 + overshoot)·r, until the answer is wrong.

    f_k = z_k − z_y at x' and w_k its gradient; l is the class with the least |f_k|/‖w_k‖_q; v is w_l/‖w_l‖₂ in L2
    (q = 2), sign(w_l) in L∞ (q = 1). As the authors' code does, r is counted from the clean image, which is cut to the
    bounds only then, and 1e-4 of the width of the bounds is added to each distance. An image none of whose borders has
    a gradient stays where it is, and the step is counted.

    Args:
        steps: at most; an image leaves once its answer is wrong. Most need fewer than 5.
        overshoot: how far beyond the border, as in the paper.
        candidates: of so many other answers, the likeliest of the clean image, the borders are looked at, a backward
            each; the authors use 9. None: of all.

    Raises:
        InputError: an option has no such value. When run: the task has not one answer per image.
    """

    steps: int = 50
    overshoot: float = 0.02
    candidates: int | None = 9
    targeted: bool = field(default=False, init=False)

    norms: ClassVar[tuple[str, ...]] = ("l2", "linf")
    answers = "image"

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("steps", self.steps, 1)
        not_negative("overshoot", self.overshoot)
        if self.candidates is not None:
            at_least("candidates", self.candidates, 1)

    def nearest(self, case: Case) -> Nearest:
        """Walk to the border; images leave one by one."""
        borders = Borders.of("DeepFool", case, self.candidates)
        low, high = limits(case)
        images, total, effort = case.clean.clone(), torch.zeros_like(case.clean), Effort.of(case)
        rows, part = torch.arange(len(case), device=images.device), case
        for _ in range(self.steps):
            border = borders.rows(rows).nearest(part, images[rows], DUAL[case.threat.norm])
            effort.steps[rows] += 1
            effort.stuck[rows] += border.lost
            total[rows] += _step(part, border)
            moved = part.clean + (1 + self.overshoot) * total[rows]
            images[rows] = moved.clamp(low[rows], high[rows])
            with torch.no_grad():
                _, reached = part.measure(part.victim.forward(images[rows]))
            staying = rows_where(~reached)
            if not len(staying):
                break
            if len(staying) < len(rows):
                rows, part = rows[staying], part.rows(staying)
        return Nearest(images, effort)


def _step(case: Case, border: Border) -> torch.Tensor:
    """To the border and a nudge beyond; none where there is none."""
    normal = border.normal
    if case.threat.norm == "linf":
        direction = normal.sign()
    else:
        direction = normal / per_image(length(normal, 2.0).clamp_min(TINY), normal)
    return direction * per_image(border.distance + _NUDGE * width(case), normal)
