"""The checks of trust that compare what short attacks, noise and a file left of the probed images."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from medrobust.evaluation.probes import (
    ANSWERS_ALONE,
    NOISE,
    RESTARTS,
    SAVED,
    SEVERAL_STEPS,
    SINGLE_STEP,
    UNLIMITED,
    Probes,
    Tried,
)
from medrobust.statistics.trust_pairs import FEWEST, Pair, too_few
from medrobust.statistics.trust_rules import RULES, Check, inapplicable, judged

FEW_VARIABLES = 100  # fewer than these numbers, and random ones are often nearly the worst


def steps(probes: Probes) -> Check:
    """Does the loss rise while PGD steps?"""
    if why := _missing(probes, SEVERAL_STEPS):
        return inapplicable("steps", why)
    ends = [(image[0], image[-1]) for image in probes.loss_by_step]
    risen = sum(start is not None and (end is None or end > start) for start, end in ends)
    told = f"In {len(probes.loss_by_step[0]) - 1} steps of PGD the loss rises at {risen} of {len(ends)} images"
    return judged("steps", risen / len(ends), told, "its steps do not lead uphill")


def noise(probes: Probes) -> Check:
    """Does noise as large as the budget do far less than PGD?"""
    if why := _missing(probes, NOISE, SEVERAL_STEPS):
        return inapplicable("noise", why)
    if probes.variables < FEW_VARIABLES:
        few = f"only {probes.variables} numbers of an image may change, and random ones are often nearly the worst"
        return inapplicable("noise", few)
    if not probes.clean_loss:
        return inapplicable("noise", "not probed: the run did not keep the loss of the clean images")
    by_noise, by_pgd = (_rise(probes.tried[name], probes.clean_loss) for name in (NOISE, SEVERAL_STEPS))
    told = f"Noise of the same size raises the loss by {by_noise:.3g}, PGD by {by_pgd:.3g}"
    if by_pgd <= 0:
        return judged("noise", np.inf, told, "PGD does nothing", "fail")
    return judged("noise", max(by_noise, 0.0) / by_pgd, told, "the gradient is hardly better than chance")


def iterative(probes: Probes | None, ran: Pair | None) -> Check:
    """Do several steps leave no more than one? By the run's own attacks where it has both kinds."""
    pair = ran
    if pair is None:
        if probes is None:
            return inapplicable("iterative", "the run has no attack of one step beside one of several")
        if why := _missing(probes, SEVERAL_STEPS, SINGLE_STEP):
            return inapplicable("iterative", why)
        pair = Pair(_left(probes, SEVERAL_STEPS), _left(probes, SINGLE_STEP))
    verdict = pair.tested(RULES["iterative"].passes)
    counts = f"of {pair.only_second} images, several of {pair.only_first}, of {len(pair.first)}{pair.where}"
    found = "Nowhere does one step leave less than several" if verdict == "pass" else f"One step leaves less {counts}"
    return judged("iterative", pair.excess, found, "the loss misleads beyond the first step", verdict)


def answers_alone(probes: Probes | None, ran: Pair | None, ensembles: tuple[float, int, int]) -> Check:
    """Does an attack without gradients find what those with gradients do not?"""
    pair = ran
    if pair is None and not ensembles[2]:
        if probes is None:
            return inapplicable("answers alone", "the run has no attack without gradients beside one with")
        if why := _missing(probes, ANSWERS_ALONE, SEVERAL_STEPS):
            return inapplicable("answers alone", why)
        by_gradient = [_left(probes, name) for name in (SEVERAL_STEPS, SINGLE_STEP, RESTARTS) if name in probes.tried]
        pair = Pair(np.min(by_gradient, axis=0), _left(probes, ANSWERS_ALONE))
    share, count, of = ensembles if pair is None else (pair.missed, pair.only_second, len(pair.first))
    if pair is not None and ensembles[0] > share:
        share, count, of = ensembles
    found = f"Without gradients {count} of {of} images lose more than by all that follow them"
    return _spared("answers alone", share, count, found, "the gradients hide a weakness, and the true figure is lower")


def restarts(probes: Probes) -> Check:
    """Do more starts find much more?"""
    if why := _missing(probes, SEVERAL_STEPS, RESTARTS):
        return inapplicable("restarts", why)
    pair = Pair(_left(probes, SEVERAL_STEPS), _left(probes, RESTARTS))
    found = f"Five starts of PGD leave {pair.missed:.3g} less than one ({pair.only_second} of {len(pair.first)} images)"
    return _spared("restarts", pair.missed, pair.only_second, found, "use more, until more of them change nothing")


def unlimited(probes: Probes) -> Check:
    """Does every image fall when anything is allowed?"""
    if why := _missing(probes, UNLIMITED):
        return inapplicable("unlimited", why)
    fooled = probes.tried[UNLIMITED].fooled
    share, stand = sum(fooled) / len(fooled), len(fooled) - sum(fooled)
    told = f"Where an image may change into any other, {sum(fooled)} of {len(fooled)} are fooled"
    return _spared("unlimited", share, stand, told, "the attack cannot find what must be there")


def saved(probes: Probes) -> Check:
    """Do the images still fool as a file holds them?"""
    if why := _missing(probes, SAVED, SEVERAL_STEPS):
        return inapplicable("saved", why)
    pair = Pair(_left(probes, SAVED), _left(probes, SEVERAL_STEPS))
    found = (
        f"Rounded to steps of {probes.quantum:.3g}, PGD's images leave {max(pair.excess, 0.0):.3g} more of the answers"
    )
    lost = "part of the effect is lost in a file; set threat.quantum"
    return _spared("saved", pair.excess, pair.only_second, found, lost)


def _spared(key: str, measured: float, images: int, found: str, otherwise: str) -> Check:
    """The check of that name, which a single image does not fail: it may be luck."""
    verdict = RULES[key].judge(measured)
    return judged(key, measured, found, otherwise, "warn" if verdict == "fail" and images <= 1 else verdict)


def _missing(probes: Probes, *names: str) -> str | None:
    """Why one of the treatments cannot be judged; None where all can."""
    for name in names:
        if name not in probes.tried:
            return probes.missing.get(name, "it was not measured")
    return None if len(probes.images) >= FEWEST else too_few(len(probes.images))


def _left(probes: Probes, name: str) -> NDArray[np.float64]:
    return np.array(probes.tried[name].left)


def _rise(tried: Tried, before: list[float | None]) -> float:
    """Mean rise of the loss, over the images where both losses are finite."""
    rises = [
        end - start for start, end in zip(before, tried.loss, strict=True) if start is not None and end is not None
    ]
    return float(np.mean(rises)) if rises else 0.0
