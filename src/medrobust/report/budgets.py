"""Budgets in their own unit, and what each kind of them means."""

from __future__ import annotations

from medrobust.budget import format_eps
from medrobust.evaluation.records import PartInfo
from medrobust.report.numbers import as_float, format_norm, listed

_MEANING = {
    "linf": "L∞ bounds the change of every single pixel",
    "l2": "L2 bounds the root of the summed squared changes of all pixels",
    "l1": "L1 bounds the summed absolute changes of all pixels",
    "contrast": "contrast: contrast and brightness of the whole image change, each by at most this share",
    "bias field": "bias field: the signal is multiplied by a smooth field, as of an MR coil, at most this share off",
    "deformation": "deformation: the anatomy moves smoothly, masks with it, at most this far along each axis",
    "band noise": "band noise: noise of some spatial frequencies alone is added, to every pixel at most this much",
}


def budget_text(norm: str, eps: float, part: PartInfo) -> str:
    """A budget with its norm: "L∞ ≤ 4/255", "contrast ≤ 5 %"."""
    return f"{format_norm(norm)} ≤ {format_eps(eps, part.unit_of(norm))}"


def meanings(norms: list[str], part: PartInfo) -> list[str]:
    """What each norm or family bounds, in words; one that is not known is left out."""
    return [_MEANING[kind] + _options(norm, part) for norm in norms if (kind := _kind(norm)) is not None]


def untested_kinds(norms: list[str]) -> list[str]:
    """The norms and families that are not among these, as they are printed."""
    ran = {_kind(norm) for norm in norms}
    return [format_norm(kind) for kind in _MEANING if kind not in ran]


def own_units(norms: list[str], part: PartInfo) -> bool:
    """Whether a budget is in another unit than the images."""
    return any(part.unit_of(norm) != part.dataset.unit for norm in norms)


def _kind(norm: str) -> str | None:
    """The family of a norm that its options may be part of: "bias field grid 6" is of "bias field"."""
    return next((kind for kind in _MEANING if norm == kind or norm.startswith(f"{kind} ")), None)


def _options(norm: str, part: PartInfo) -> str:
    threat = next((threat for threat in part.threats if threat.get("norm") == norm), {})
    low, high, grid = (as_float(threat.get(name)) for name in ("low", "high", "grid"))
    told = [] if low is None or high is None else [f"{low:g} to {high:g} cycles per pixel"]
    if grid is not None:
        told.append(f"{grid:g} control values along each axis")
    return f" ({listed(told)})" if told else ""
