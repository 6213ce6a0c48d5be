"""Can the figures of a run be trusted? Every check with its number, its threshold and a sentence, from what was kept.

A broken attack and a robust model look alike in a table of results. What tells them apart is collected here: the checks
of a run's own records, and of a few images that were probed for it (`medrobust.evaluation.probing`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import polars as pl

from medrobust.evaluation.records import PartInfo
from medrobust.statistics import trust_model, trust_probes, trust_records
from medrobust.statistics.conditions import images_of
from medrobust.statistics.task_traits import TASK_TRAITS
from medrobust.statistics.trust_pairs import FEWEST, budgets_of, too_few
from medrobust.statistics.trust_rules import RULES, Check, inapplicable

UNPROBED = "no image was probed (trust: 16, or evaluate(probes=16))"


def trust_checks(records: pl.DataFrame, summary: pl.DataFrame, name: str, part: PartInfo) -> list[Check]:
    """All checks of a part, in the order of `RULES`; one that has no meaning there says why.

    Args:
        records: rows as `medrobust.evaluation.records.SCHEMA`.
        summary: what `summarise` gave for them.
        name, part: the part.
    """
    rows = records.filter(pl.col("part") == name)
    if rows.is_empty():
        return [inapplicable(key, "no image was evaluated") for key in RULES]
    found, probes = budgets_of(rows, part), part.probes
    right = images_of(rows).filter("right_before").height
    single = trust_records.single_against_several(found, part)
    alone = trust_records.alone_against_gradients(found, part)
    checks = {
        "stated": trust_records.stated(summary, name, part),
        "constant": trust_records.constant(rows, part),
        "budgets": trust_records.budgets(found, part),
        "transfer": trust_records.transfer(found, part),
        "gradients": trust_model.gradients(probes, *trust_records.stuck_steps(rows, part)),
        "iterative": trust_probes.iterative(probes, single),
        "answers alone": trust_probes.answers_alone(probes, alone, trust_records.found_without_gradients(rows)),
    }
    if right < FEWEST:
        checks |= {
            key: inapplicable(key, too_few(right)) for key in ("budgets", "transfer", "iterative", "answers alone")
        }
    if probes is None:
        return [checks.get(key) or inapplicable(key, UNPROBED) for key in RULES]
    detector = TASK_TRAITS[part.task].answer == "boxes"
    checks |= {
        "logits": trust_model.logits(probes, detector, part.victim.get("probabilities") is True),
        "slopes": trust_model.slopes(probes, part.victim.get("defence") is not None),
        "repeated": trust_model.repeated(probes),
        "company": trust_model.company(probes),
        "steps": trust_probes.steps(probes),
        "noise": trust_probes.noise(probes),
        "restarts": trust_probes.restarts(probes),
        "unlimited": trust_probes.unlimited(probes),
        "saved": trust_probes.saved(probes),
    }
    return [checks[key] for key in RULES]


def trust_line(checks: Sequence[Check]) -> str:
    """How many passed, warned and failed, with the names of those that did not pass."""
    counts = Counter(check.verdict for check in checks)

    def told(verdict: str) -> str:
        titles = [check.key for check in checks if check.verdict == verdict]
        return f"{len(titles)} {verdict}" + (f" ({', '.join(titles)})" if titles else "")

    inapplicable_ones = counts["not applicable"]
    rest = f", {inapplicable_ones} not applicable" if inapplicable_ones else ""
    if any(UNPROBED in check.sentence.lower() for check in checks):
        rest += " (no image was probed)"
    return f"trust: {counts['pass']} pass, {told('warn')}, {told('fail')}{rest}"
