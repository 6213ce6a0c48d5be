"""The checks of trust that ask the model itself: its outputs, whether they are of one image alone, its gradients."""

from __future__ import annotations

from medrobust.evaluation.probes import FORWARDS, GRADIENTS, NO_PATH, Probes
from medrobust.statistics.trust_rules import RULES, Check, inapplicable, judged

FEWEST_SLOPES = 4  # from which on a share of them tells anything


def logits(probes: Probes, detector: bool, probabilities: bool) -> Check:
    """Are the outputs probabilities?"""
    if detector:
        return inapplicable("logits", "a detector's raw outputs are read as its family gives them")
    if probabilities:
        return inapplicable("logits", "the black box is known to give probabilities, which are made logits of")
    if probes.outputs is None:
        return inapplicable("logits", probes.missing.get(FORWARDS, "nothing was asked"))
    found = probes.outputs
    away = max(-found.least, found.most - 1, found.off_one or 0.0)
    told = f"The outputs range from {found.least:.3g} to {found.most:.3g}"
    if found.off_one is not None:
        told += f", and their sum over the classes is up to {found.off_one:.3g} away from 1"
    return judged("logits", away, told, "a softmax or sigmoid inside the model weakens every gradient; leave it out")


def repeated(probes: Probes) -> Check:
    """Do two forwards agree?"""
    return _stable(
        "repeated",
        probes,
        probes.again,
        "Asked twice, the model gives the same image outputs that differ by {share:.3g} of their size at most",
        "it draws random numbers: average over draws (Expectation) before any figure is believed",
    )


def company(probes: Probes) -> Check:
    """Does an image's answer depend on the batch?"""
    return _stable(
        "company",
        probes,
        probes.company,
        "Beside other images the same image gets outputs that differ by {share:.3g} of their size at most",
        "its BatchNorm uses the statistics of the batch, so that no answer is of one image alone",
    )


def _stable(key: str, probes: Probes, shares: list[float], told: str, cause: str) -> Check:
    if not shares:
        return inapplicable(key, probes.missing.get(FORWARDS, "nothing was asked"))
    share = max(shares)
    verdict = RULES[key].judge(share)
    beyond = any(moved and one > RULES[key].passes for moved, one in zip(probes.changed, shares, strict=True))
    return judged(key, share, told.format(share=share), cause, "fail" if beyond else verdict)


def gradients(probes: Probes | None, stuck: int, steps: int) -> Check:
    """How many gradients are zero or not finite, at the probed images and in the steps of the run's attacks?"""
    if probes is not None and GRADIENTS in probes.missing:
        why = probes.missing[GRADIENTS]
        if NO_PATH in why:
            hidden = "a step inside the model is not differentiable, and hides its slopes"
            return judged("gradients", 1.0, "No gradient reaches the image", hidden)
        if not steps:
            return inapplicable("gradients", why)
    found = [] if probes is None else probes.gradients
    dead = sum(one is None or one == 0 for one in found)
    if not found and not steps:
        return inapplicable("gradients", "no attack went along gradients")
    share = max(dead / len(found) if found else 0.0, stuck / steps if steps else 0.0)
    places = []
    if found:
        infinite = sum(one is None for one in found)
        places.append(f"{dead} of {len(found)} probed images ({infinite} not finite)")
    if steps:
        places.append(f"{stuck:,} of {steps:,} steps")
    told = f"The gradient was zero or not finite at {' and in '.join(places)}"
    return judged("gradients", share, told, "attacks walk at random there")


def slopes(probes: Probes, defended: bool) -> Check:
    """Does the loss change as the gradient tells?"""
    if defended:
        return inapplicable("slopes", "a defence before the model may pass its gradient straight through, by design")
    known = [slope for slope in probes.slopes if slope is not None]
    if len(known) < FEWEST_SLOPES:
        why = "too few gradients are large enough to be told from rounding"
        return inapplicable("slopes", probes.missing.get(GRADIENTS, why))
    kept = sum(0.5 <= slope <= 2 for slope in known)
    told = f"A small step along the gradient changes the loss as it tells at {kept} of {len(known)} images"
    cause = "the gradient is not the model's own slope (straight through a step, shattered, or random)"
    return judged("slopes", kept / len(known), told, cause)
