"""The nearest point of a hyperplane within bounds, in L∞, L2 and L1: exact, by sorting.

Hein & Andriushchenko: Formal Guarantees on the Robustness of a Classifier against Adversarial Manipulation, NeurIPS
2017, arXiv 1705.08475, section 3; used by FAB, arXiv 1907.02044, section 2.
"""

from __future__ import annotations

import torch
from torch import Tensor

from medrobust.threat import TINY


def towards_plane(points: Tensor, normal: Tensor, gap: Tensor, box: tuple[Tensor, Tensor], norm: str) -> Tensor:
    """The smallest d with ⟨w, d⟩ = −gap and the point + d in the box; as far as the box goes where there is none.

    All pixels go the way that closes the gap, pixel i by u_i ≤ room_i with Σ |w_i| u_i = |gap|. The smallest u is
    min(t, room) in L∞ and min(t·|w|, room) in L2, at the one t that fits; in L1 it fills the pixels of the largest |w|.

    Args:
        points: `(B, C, *spatial)`, in the box.
        normal: w, like the points; 0 goes nowhere.
        gap: `(B,)`, how much ⟨w, ·⟩ is too large.
        box: least and greatest values, like the points.
        norm: "linf", "l2" or "l1".

    Returns:
        d, like the points. It is computed in float64.
    """
    points, low, high = (tensor.double().flatten(1) for tensor in (points, *box))
    weight, need = normal.double().flatten(1), -gap.double().unsqueeze(1)
    way = weight.sign() * need.sign()
    room = torch.where(way > 0, high - points, points - low).clamp_min(0)
    # at a largest weight of 1: no square of it is lost
    scale = weight.abs().amax(1, keepdim=True).clamp_min(TINY)
    weight, need = weight.abs() / scale, need.abs() / scale
    room = torch.where(weight > 0, room, 0)
    if norm == "l1":
        moved = _greedy(weight, room, need)
    else:
        moved = _levelled(weight, room, need, weight if norm == "l2" else (weight > 0).to(weight))
    return (way * moved).to(normal).view_as(normal)


def _levelled(weight: Tensor, room: Tensor, need: Tensor, pace: Tensor) -> Tensor:
    """The u = min(t · pace, room) with Σ weight · u = need."""
    full_at, order = torch.where(pace > 0, room / pace.clamp_min(TINY), torch.inf).sort(1)
    weight_in_order = weight.gather(1, order)
    gain = weight_in_order * room.gather(1, order)
    before = gain.cumsum(1) - gain  # of the pixels that are full when the k-th gets full
    moving = (weight_in_order * pace.gather(1, order)).flip(1).cumsum(1).flip(1)  # of the others, per t
    met = before + moving * full_at.nan_to_num(posinf=0)
    place = (met < need).sum(1, keepdim=True).clamp_max(weight.shape[1] - 1)
    level = (need - before.gather(1, place)) / moving.gather(1, place).clamp_min(TINY)
    reachable = gain.sum(1, keepdim=True) > need
    return torch.where(reachable, torch.minimum(level.clamp_min(0) * pace, room), room)


def _greedy(weight: Tensor, room: Tensor, need: Tensor) -> Tensor:
    """Fill the pixels of the largest weight, the last one in part."""
    in_order, order = weight.sort(1, descending=True)
    room_in_order = room.gather(1, order)
    gain = in_order * room_in_order
    left = (need - (gain.cumsum(1) - gain)).clamp_min(0)
    moved = torch.minimum(room_in_order, left / in_order.clamp_min(TINY))
    return torch.zeros_like(room).scatter(1, order, moved)
