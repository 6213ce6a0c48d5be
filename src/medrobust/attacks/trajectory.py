"""The way of an attack, step by step: what the paper's KL analysis is drawn from.

Qi et al., arXiv 2103.05232, section 3.2: the perturbation leaves the truth while it moves to a fixed spot.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from medrobust.attacks.objectives import Terms
from medrobust.tasks import detached, kl_divergence, position_mean
from medrobust.threat import TINY, per_image
from medrobust.transforms import GaussianSmoothing
from medrobust.victim import Victim


@dataclass(frozen=True)
class Trajectory:
    """Per iterate and sample: every field but the maps is float32 `(T + 1, B)`, row t for x'_t after t steps.

    p_t is the prediction at x'_t, δ_t = x'_t − x; for dense tasks KL is the mean over the pixels that are not to be
    ignored at x'_0, for detection over the anchors (proposals) that show an object there.

    Attributes:
        deviation: the task's loss against the truth (the target, when targeted), which a deformation moves along.
        stabilization: KL( f(S(x'_t)) ‖ p_t ), the paper's stabilization term.
        kl_previous: KL(p_t ‖ p_{t−1}); NaN in row 0.
        kl_final: KL(p_t ‖ p_T), the distance to the fixed spot; 0 in the last row.
        kl_initial: KL(p_0 ‖ p_t), how far the prediction has left.
        kl_smoothed: KL(p_t ‖ f(S(x'_t))).
        linf, l2: norms of δ_t, in data units.
        moved: ‖δ_t − δ_{t−1}‖₂, in data units; NaN in row 0.
        cosine: cos(δ_t, δ_{t−1}); NaN where either is zero.
        sign_flips: share of values whose direction turned round from step t − 1 to step t; NaN in rows 0 and 1.
        worth: `Task.worth`, what is left of the answer against the truth (the target): right (1 or 0), Dice or F1.
        kl_final_map, kl_initial_map: the same divergences pixel by pixel, `(T + 1, B, *positions)`, NaN where a pixel
            is to be ignored; None for tasks that are not dense.
    """

    deviation: Tensor
    stabilization: Tensor
    kl_previous: Tensor
    kl_final: Tensor
    kl_initial: Tensor
    kl_smoothed: Tensor
    linf: Tensor
    l2: Tensor
    moved: Tensor
    cosine: Tensor
    sign_flips: Tensor
    worth: Tensor
    kl_final_map: Tensor | None = None
    kl_initial_map: Tensor | None = None
    image_axis: ClassVar[int] = 1


class TrajectoryRecorder:
    """Watches one run of the loop; outputs that the objective already has of the image so smoothed are used again."""

    def __init__(self, victim: Victim, clean: Tensor, smoothing: GaussianSmoothing) -> None:
        self._victim = victim
        self._clean = clean
        self._smoothing = smoothing
        self._used: Tensor | None = None
        self._places: object = None
        self._log_probs: list[Tensor] = []
        self._rows: list[dict[str, Tensor]] = []
        self._delta: Tensor | None = None
        self._direction: Tensor | None = None

    @torch.no_grad()
    def record(self, current: Tensor, truth: Tensor, terms: Terms | None, direction: Tensor | None) -> None:
        """Note iterate x'_t with the truth in register, the objective's terms and the direction that led there."""
        task = self._victim.task
        outputs = self._victim.forward(current) if terms is None else detached(terms.outputs)
        smoothed = terms.smoothed if terms is not None and terms.smoothing == self._smoothing else None
        if smoothed is None:
            smoothed = self._victim.forward(self._smoothing(current))
        if not self._rows:
            self._used = task.used_positions(outputs, truth)
            self._places = task.places(outputs)
        log_p, log_s = (task.log_probs_at(seen, self._places) for seen in (outputs, smoothed))
        delta = current.detach() - self._clean
        flat = delta.flatten(1)
        row = {
            "deviation": task.loss(outputs, truth),
            "stabilization": self._kl(log_s, log_p),
            "kl_smoothed": self._kl(log_p, log_s),
            "kl_initial": self._kl(self._log_probs[0] if self._rows else log_p, log_p),
            "linf": flat.abs().amax(1),
            "l2": flat.norm(dim=1),
            "worth": task.worth(outputs, truth),
        }
        unknown = torch.full_like(row["linf"], torch.nan)
        row["kl_previous"] = self._kl(log_p, self._log_probs[-1]) if self._rows else unknown
        row["moved"] = unknown if self._delta is None else (delta - self._delta).flatten(1).norm(dim=1)
        row["cosine"] = unknown if self._delta is None else _cosine(delta, self._delta)
        turned = unknown
        if direction is not None and self._direction is not None:
            turned = (direction * self._direction < 0).flatten(1).to(unknown.dtype).mean(1)
        row["sign_flips"] = turned
        self._delta, self._direction = delta, direction
        self._log_probs.append(log_p)
        self._rows.append(row)

    def finish(self) -> Trajectory:
        """The trajectory, once the last iterate is recorded."""
        columns = {name: torch.stack([row[name] for row in self._rows]).float() for name in self._rows[0]}
        final = torch.stack([self._kl(log_p, self._log_probs[-1]) for log_p in self._log_probs]).float()
        if not self._victim.task.dense:
            return Trajectory(kl_final=final, **columns)
        to_final = torch.stack([self._kl_map(log_p, self._log_probs[-1]) for log_p in self._log_probs])
        from_first = torch.stack([self._kl_map(self._log_probs[0], log_p) for log_p in self._log_probs])
        return Trajectory(kl_final=final, kl_final_map=to_final, kl_initial_map=from_first, **columns)

    def _kl_map(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        divergence = kl_divergence(log_p, log_q).clamp_min(0).float()
        return divergence if self._used is None else divergence.masked_fill(~self._used, torch.nan)

    def _kl(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        # rounding can take a divergence just below 0
        return position_mean(kl_divergence(log_p, log_q), self._used).clamp_min(0)


def _cosine(a: Tensor, b: Tensor) -> Tensor:
    # by the largest entry first: tiny changes must not vanish in the squares
    a, b = (d / per_image(d.flatten(1).abs().amax(1).clamp_min(TINY), d) for d in (a, b))
    lengths = a.flatten(1).norm(dim=1) * b.flatten(1).norm(dim=1)
    return torch.where(lengths > 0, (a * b).flatten(1).sum(1) / lengths, torch.nan)
