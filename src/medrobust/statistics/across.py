"""Figures made of several conditions: the strongest single attack at a budget, and the area under a curve.

Both are functions of figures that are resampled already, so that they are computed anew on every resample: which attack
is the strongest may change from resample to resample, and the interval knows that it was chosen after the fact.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from medrobust.evaluation.records import CLEAN, WORST_CASE
from medrobust.statistics.figure import Figure
from medrobust.statistics.resampling import combined

Of = Callable[[NDArray[np.float64]], NDArray[np.float64]]
Figures = Mapping[tuple[str, str, float], Mapping[str, Figure]]  # (attack, norm, eps) → metric → figure


def strongest_name(metric: str) -> str:
    """What a metric under the strongest single attack is called, in the lines of the worst case."""
    return f"{metric} of the strongest attack"


def area_name(metric: str) -> str:
    """What the area under a metric's curve is called, in the lines of the largest eps."""
    return f"area under {metric}"


def strongest(figures: Figures, metrics: Sequence[str]) -> Iterator[Figure]:
    """The lowest value of a metric under any one attack at a budget, where there are several.

    The worst case lets every image choose its attack; here one attack is chosen for all images.
    """
    budgets = dict.fromkeys((norm, eps) for attack, norm, eps in figures if attack == WORST_CASE)
    for norm, eps in budgets:
        at = [of for (attack, *budget), of in figures.items() if budget == [norm, eps] and attack != WORST_CASE]
        for metric in metrics:
            found = [of[metric] for of in at if metric in of]
            if len(found) > 1 and all(figure.resampled is not None for figure in found):
                least = min(found, key=lambda figure: figure.value if figure.value is not None else np.inf)
                yield _made(strongest_name(metric), (WORST_CASE, norm, eps), least, found, _lowest)


def areas(figures: Figures, metrics: Sequence[str]) -> Iterator[Figure]:
    """The area under the curve of a metric against eps, from clean at 0 to the largest eps, as a share of that range.

    By trapezoids: the mean of the metric if every eps in the range were as likely. Only for what was run at all budgets
    of a norm.
    """
    norms: dict[str, list[float]] = {}
    for _, norm, eps in figures:
        if norm and eps not in norms.setdefault(norm, []):
            norms[norm].append(eps)
    for norm, budgets in norms.items():
        places = np.array([0.0, *sorted(budgets)])
        for attack in dict.fromkeys(attack for attack, its_norm, _ in figures if its_norm == norm):
            lines = [figures.get((attack, norm, eps)) for eps in places[1:].tolist()]
            for metric in metrics:
                curve = [line[metric] for line in (figures[CLEAN, "", 0.0], *lines) if line and metric in line]
                if len(curve) == len(places) and all(figure.resampled is not None for figure in curve):
                    key = (attack, norm, float(places[-1]))
                    yield _made(area_name(metric), key, curve[-1], curve, partial(_area, weights=_weights(places)))


def _made(name: str, key: tuple[str, str, float], like: Figure, parts: Sequence[Figure], of: Of) -> Figure:
    resampled = combined(of, [part.resampled for part in parts if part.resampled is not None])
    value = float(of(np.array([[np.nan if part.value is None else part.value] for part in parts]))[0])
    return Figure(name, key, value if np.isfinite(value) else None, like.n, like.clusters, resampled, like.is_share)


def _lowest(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(values.min(0))


def _area(values: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(weights @ values)


def _weights(places: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of the trapezoid rule over `places`, adding up to 1."""
    widths = np.diff(places) / (2 * (places[-1] - places[0]))
    return np.asarray(np.append(widths, 0.0) + np.insert(widths, 0, 0.0))
