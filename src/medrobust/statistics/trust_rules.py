"""The checks of whether a robustness figure can be trusted, and from which number on each of them passes or fails.

Sources: Carlini et al., "On Evaluating Adversarial Robustness", arXiv 1902.06705, section 5; Athalye, Carlini, Wagner,
arXiv 1802.00420, section 3.1; AutoAttack's checks (Croce & Hein, arXiv 2003.01690, `flags_doc.md`); Pintor et al.,
"Indicators of Attack Failure", arXiv 2106.09947. The reason of every threshold is in `docs/trust.md`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

Verdict = Literal["pass", "warn", "fail", "not applicable"]


@dataclass(frozen=True)
class Rule:
    """How the number of a check becomes a verdict.

    Attributes:
        title: what is as it should be when the check passes.
        measure: what the number is.
        passes: the worst number that passes.
        fails: the number beyond which it fails; between the two it warns. None: it never fails.
        rising: whether larger numbers are better.
        besides: what else the verdict hangs on.
        instead: the rule in words, where the verdict hangs on more than one number.
    """

    title: str
    measure: str
    passes: float
    fails: float | None
    rising: bool = False
    besides: str = ""
    instead: str = ""

    def judge(self, measured: float) -> Verdict:
        """The verdict on a number."""
        sign = 1 if self.rising else -1
        if sign * measured >= sign * self.passes:
            return "pass"
        if self.fails is None or sign * measured >= sign * self.fails:
            return "warn"
        return "fail"

    @property
    def threshold(self) -> str:
        """The rule in words: "at least 0.9; below 0.75 it fails"."""
        if self.instead:
            return self.instead
        least, beyond = ("at least", "below") if self.rising else ("at most", "above")
        fails = "" if self.fails is None else f"; {beyond} {self.fails:g} it fails"
        besides = f" ({self.besides})" if self.besides else ""
        return f"{least} {self.passes:g}{fails}{besides}"


@dataclass(frozen=True)
class Check:
    """One check of a part.

    Attributes:
        key: its name in JSON and in `RULES`.
        title: what is as it should be when it passes.
        verdict: "not applicable" where it has no meaning, or could not be measured.
        measured: the number; None where there is none.
        threshold: from which number on it passes and fails, in words.
        sentence: what was found, or why nothing was.
    """

    key: str
    title: str
    verdict: Verdict
    measured: float | None
    threshold: str
    sentence: str


_OR_ONE = "a single image may differ by luck, and only warns"
_TESTED = "at most 0.01; above, it fails where a sign test tells it from chance (p < 0.05), else it warns"

RULES = {
    "stated": Rule(
        "Clean images are answered as stated",
        "the main metric on clean images",
        0.0,
        0.0,
        instead="its 95 % interval holds the stated figure, or ends within 0.005 of it; else it fails",
    ),
    "constant": Rule(
        "The answer depends on the image",
        "accuracy less that of always answering the commonest class",
        0.0,
        0.0,
        rising=True,
        instead="above 0; at or below it warns, one answer to all images fails",
    ),
    "logits": Rule(
        "Outputs are logits, not probabilities",
        "how far the outputs are from being probabilities, in [0, 1] with a sum of 1",
        1e-3,
        1e-3,
        rising=True,
    ),
    "repeated": Rule(
        "The same image gets the same answer",
        "largest difference between two forwards, as a share of the outputs' size",
        1e-4,
        0.05,
        besides="another answer fails",
    ),
    "company": Rule(
        "Other images in the batch change nothing",
        "largest difference with other images in the batch, as a share of the outputs' size",
        0.01,
        0.05,
        besides="another answer fails",
    ),
    "gradients": Rule("Gradients are there", "share of gradients that are zero everywhere or not finite", 0.001, 0.1),
    "slopes": Rule(
        "The gradient is the slope of the loss",
        "share of images whose loss changes by half to twice of what the gradient tells",
        0.75,
        None,
        rising=True,
    ),
    "steps": Rule(
        "The loss rises with steps", "share of images whose loss is higher after PGD", 0.9, 0.75, rising=True
    ),
    "noise": Rule(
        "Random noise does far less than the gradient",
        "rise of the loss by noise of the same size, as a share of that by PGD",
        0.25,
        0.5,
    ),
    "iterative": Rule(
        "Several steps do no less than one",
        "what a single step leaves less than several, mean over the images answered right",
        0.01,
        0.01,
        instead=_TESTED,
    ),
    "answers alone": Rule(
        "An attack without gradients finds nothing more",
        "what it leaves less than those with gradients, mean over the images answered right",
        0.002,
        0.002,
        besides=_OR_ONE,
    ),
    "restarts": Rule(
        "More starts change little",
        "what 5 starts leave less than one, mean over the images",
        0.05,
        0.2,
        besides=_OR_ONE,
    ),
    "unlimited": Rule(
        "Without a limit every image falls",
        "share of images fooled by changes of any size",
        0.99,
        0.9,
        rising=True,
        besides=_OR_ONE,
    ),
    "budgets": Rule(
        "A larger budget does no less",
        "what is left more at a budget than at the next smaller one, mean over the images answered right",
        0.01,
        0.01,
        instead=_TESTED,
    ),
    "transfer": Rule(
        "Attacks on the model do no less than those made on another",
        "what images made on another model leave less, mean over the images answered right",
        0.01,
        0.01,
        instead=_TESTED,
    ),
    "saved": Rule(
        "Saved to a file, the images still fool",
        "what is left more after rounding to what a file holds, mean over the images",
        0.05,
        0.2,
        besides=_OR_ONE,
    ),
}


def judged(key: str, measured: float, found: str, otherwise: str, verdict: Verdict | None = None) -> Check:
    """The check of that name.

    Args:
        key: among `RULES`.
        measured: its number.
        found: what was found, a sentence without its full stop.
        otherwise: how the sentence goes on where the check does not pass: what that means.
        verdict: by the rule when not given, for a check that looks at more than the number.
    """
    rule = RULES[key]
    verdict = verdict or rule.judge(measured)
    number = measured if math.isfinite(measured) else None
    sentence = f"{found}." if verdict == "pass" else f"{found}: {otherwise}."
    return Check(key, rule.title, verdict, number, rule.threshold, sentence)


def inapplicable(key: str, why: str) -> Check:
    """The check where it has no meaning, with the reason."""
    rule = RULES[key]
    return Check(key, rule.title, "not applicable", None, rule.threshold, f"{why[:1].upper()}{why[1:].rstrip('.')}.")
