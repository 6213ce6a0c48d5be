"""The checks of trust as people see them: a line in the terminal, a section of the report, a file of JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from rich.console import Group
from rich.text import Text

from medrobust.report.numbers import NONE, plain
from medrobust.statistics import Check, trust_line

MARKS = {"pass": "✓ pass", "warn": "! warn", "fail": "✗ fail", "not applicable": f"{NONE} not applicable"}
_STYLES = {"fail": "bold red", "warn": "yellow"}


@dataclass(frozen=True)
class TrustLine:
    """One check in the table; `name` of its verdict is that of a style."""

    title: str
    name: str
    verdict: str
    measured: str
    threshold: str
    sentence: str


@dataclass(frozen=True)
class TrustSection:
    """The checks of a part in words: those that fail first, in the order of the checks otherwise."""

    line: str
    lines: list[TrustLine]
    failed: list[str]
    checks: Sequence[Check] = ()


def trust_section(checks: Sequence[Check]) -> TrustSection:
    """What the report tells of the checks."""
    order = ["fail", "warn", "pass", "not applicable"]
    lines = [
        TrustLine(
            check.title,
            check.verdict.replace(" ", "-"),
            MARKS[check.verdict],
            measured_text(check),
            check.threshold,
            plain(check.sentence, 600),
        )
        for check in sorted(checks, key=lambda check: order.index(check.verdict))
    ]
    failed = [plain(check.sentence, 600) for check in checks if check.verdict == "fail"]
    return TrustSection(trust_line(checks), lines, failed, checks)


def measured_text(check: Check) -> str:
    """The number of a check, to three digits."""
    return NONE if check.measured is None else f"{check.measured:.3g}"


def trust_summary(trust: Mapping[str, Sequence[Check]]) -> Group:
    """A line for each part, and a sentence for each check that fails or warns."""
    shown = []
    for name, checks in trust.items():
        before = f"{plain(name)}: " if len(trust) > 1 else ""
        shown.append(Text(f"{before}{trust_line(checks)}"))
        for verdict, style in _STYLES.items():
            shown += [
                Text(f"  {verdict}: {plain(check.sentence, 600)}", style=style)
                for check in checks
                if check.verdict == verdict
            ]
    return Group(*shown)


def trust_json(trust: Mapping[str, Sequence[Check]]) -> str:
    """Part → its checks, each with key, title, verdict, measured, threshold and sentence."""
    parts = {name: [asdict(check) for check in checks] for name, checks in trust.items()}
    return json.dumps(parts, indent=2, ensure_ascii=False, allow_nan=False)
