"""What the report of a run tells of a stability analysis that lies beside it, in a folder `stability`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import polars as pl

from medrobust.evaluation.records import PartInfo, RunInfo
from medrobust.evaluation.stability_files import STABILITY_JSON, STABILITY_PAGE, StoredStability, read_stability
from medrobust.report.budgets import budget_text
from medrobust.report.numbers import as_float, listed, plain
from medrobust.report.stability_wording import cautions, findings
from medrobust.statistics.stability import image_quantities, step_summary
from medrobust.statistics.stability_components import variance_components
from medrobust.statistics.stability_tests import paired_tests

FOLDER = "stability"


@dataclass(frozen=True)
class StabilitySection:
    """The sentences of an analysis, and where its page is, as seen from the report.

    Attributes:
        attacks: their labels, in words.
        seeds: how many.
        parts: name, model and budget of each part that is told of.
        findings, cautions: sentences; none where no part is of the run's data and models.
        link: the page.
    """

    attacks: str
    seeds: int
    parts: list[tuple[str, str, str]] = field(default_factory=list)
    findings: list[str] = field(default_factory=list)
    cautions: list[str] = field(default_factory=list)
    link: str = f"{FOLDER}/{STABILITY_PAGE}"


def stability_section(run: Path, run_info: RunInfo) -> StabilitySection | None:
    """The section of the analysis in a run's folder; None where there is none.

    Only parts of the same data and the same model as one of the run's are told of; the others are named.

    Raises:
        InputError: there is one, and it is damaged.
    """
    folder = run / FOLDER
    if not (folder / STABILITY_JSON).is_file():
        return None
    whole = read_stability(folder)
    own = {
        name: part
        for name, part in whole.info.parts.items()
        if any(_answers(part) == _answers(one) for one in run_info.parts.values())
    }
    apart = [*_others(whole.info.parts, own), *_other_budgets(own, run_info)]
    section = StabilitySection(
        attacks=listed([plain(label, 24) for label in next(iter(whole.info.parts.values())).attacks]),
        seeds=len(whole.info.seeds),
        parts=[(name, part.model, _budget(part)) for name, part in own.items()],
        cautions=apart,
    )
    if not own:
        return section
    stored = _only(whole, own)
    info, quantities = stored.info, image_quantities(stored.steps, stored.outcomes, stored.info.parts)
    tests = paired_tests(quantities, info.reference)
    components = variance_components(quantities, stored.outcomes, info.parts, info.reference)
    return replace(
        section,
        findings=findings(tests, components, step_summary(stored.steps), info),
        cautions=[*apart, *cautions(tests, info)],
    )


def _answers(part: PartInfo) -> tuple[object, ...]:
    """What was asked, and by what it was answered."""
    return part.data_sha256, part.weights_sha256, str(part.victim.get("defence"))


def _only(whole: StoredStability, parts: Mapping[str, PartInfo]) -> StoredStability:
    """The tables of some parts."""
    kept = pl.col("part").is_in(list(parts))
    lengths = {name: whole.info.step_lengths[name] for name in parts}
    info = replace(whole.info, parts=dict(parts), step_lengths=lengths)
    return StoredStability(whole.steps.filter(kept), whole.outcomes.filter(kept), info)


def _others(parts: Mapping[str, PartInfo], own: Mapping[str, PartInfo]) -> Iterator[str]:
    names = [plain(name, 40) for name in parts if name not in own]
    if names:
        yield (
            f"Left out here, being of other data or of another model than this run: {listed(names)}. The page of the "
            "analysis tells of all its parts."
        )


def _other_budgets(own: Mapping[str, PartInfo], run_info: RunInfo) -> Iterator[str]:
    """Parts that were traced at a budget that the run does not have."""
    for name, part in own.items():
        budgets = {
            _budget(one, threat)
            for one in run_info.parts.values()
            if _answers(one) == _answers(part)
            for threat in one.threats
        }
        if _budget(part) not in budgets:
            yield f"{plain(name, 40)} was traced at {_budget(part)}, which is none of this run’s budgets."


def _budget(part: PartInfo, threat: Mapping[str, object] | None = None) -> str:
    """Of a threat of the part, the first when not given."""
    chosen = part.threats[0] if threat is None else threat
    return budget_text(str(chosen["norm"]), as_float(chosen["eps"]) or 0.0, part)
