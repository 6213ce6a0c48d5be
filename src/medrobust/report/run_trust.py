"""The checks of trust of two runs side by side: what fails in one and not in the other stands first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from medrobust.report.numbers import NONE, counted, plain
from medrobust.report.trust import MARKS, measured_text
from medrobust.statistics import Check, trust_line

# a model that hides its gradients, and so looks robust, is what these find
HIDING = frozenset({"gradients", "steps", "noise", "iterative", "answers alone", "restarts", "unlimited", "budgets"})

Checks = tuple[Sequence[Check], Sequence[Check]]
"""Of either run; without any where a part has none."""


@dataclass(frozen=True)
class TrustCell:
    """What a check came to in one run; `name` of its verdict is that of a style."""

    name: str
    verdict: str
    measured: str
    sentence: str


@dataclass(frozen=True)
class TrustRow:
    """One check in both runs."""

    title: str
    first: TrustCell
    second: TrustCell


@dataclass(frozen=True)
class TrustComparison:
    """The checks of a part in both runs.

    Attributes:
        lines: how many passed, of either run.
        failed: of each run that fails a check, what that means, with what was found.
        rows: all checks; those first that fail in one run alone, then those that fail in both, then those that warn.
    """

    lines: list[str]
    failed: list[str]
    rows: list[TrustRow]


def trust_comparison(checks: Checks, names: tuple[str, str]) -> TrustComparison:
    """What the checks of two runs say beside each other."""
    called = [plain(name, 24) for name in names]
    lines = [f"{name}: {trust_line(some)}" for name, some in zip(called, checks, strict=True) if some]
    failed = [told for name, some in zip(called, checks, strict=True) if (told := hiding(name, some))]
    others = {check.key: check for check in checks[1]}
    both = [(check, others[check.key]) for check in checks[0] if check.key in others]
    both.sort(key=lambda pair: _place(pair[0].verdict, pair[1].verdict))
    return TrustComparison(lines, failed, [TrustRow(one.title, _cell(one), _cell(other)) for one, other in both])


def hiding(name: str, checks: Sequence[Check]) -> str:
    """What it means that checks fail, with what they found; "" when none does."""
    failed = [check for check in checks if check.verdict == "fail"]
    if not failed:
        return ""
    means = (
        "it may hide its gradients instead of holding, and its figures under attack are then too good"
        if HIDING & {check.key for check in failed}
        else "its figures should not be trusted as they are"
    )
    found = " ".join(plain(check.sentence, 600) for check in failed)
    keys = ", ".join(check.key for check in failed)
    return f"{name} fails {counted(len(failed), 'check')} of trust ({keys}): {means}. {found}"


def _place(*verdicts: str) -> int:
    fails = verdicts.count("fail")
    if fails:
        return fails
    return 3 if "warn" in verdicts else 4 if "pass" in verdicts else 5


def _cell(check: Check) -> TrustCell:
    name, measured = check.verdict.replace(" ", "-"), measured_text(check)
    return TrustCell(name, MARKS[check.verdict], "" if measured == NONE else measured, plain(check.sentence, 600))
