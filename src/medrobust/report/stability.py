"""What the report of a run tells of a stability analysis that lies beside it, in a folder `stability`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from medrobust.evaluation.stability_files import STABILITY_JSON, STABILITY_PAGE, read_stability
from medrobust.report.numbers import listed, plain
from medrobust.report.stability_wording import cautions, findings
from medrobust.statistics.stability import image_quantities, step_summary
from medrobust.statistics.stability_components import variance_components
from medrobust.statistics.stability_tests import paired_tests

FOLDER = "stability"


@dataclass(frozen=True)
class StabilitySection:
    """The sentences of an analysis, and where its page is, as seen from the report."""

    attacks: str
    seeds: int
    findings: list[str]
    cautions: list[str]
    link: str = f"{FOLDER}/{STABILITY_PAGE}"


def stability_section(run: Path) -> StabilitySection | None:
    """The section of the analysis in a run's folder; None where there is none.

    Raises:
        InputError: there is one, and it is damaged.
    """
    folder = run / FOLDER
    if not (folder / STABILITY_JSON).is_file():
        return None
    stored = read_stability(folder)
    info, quantities = stored.info, image_quantities(stored.steps, stored.outcomes)
    tests = paired_tests(quantities, info.reference)
    components = variance_components(quantities, stored.outcomes, info.parts, info.reference)
    return StabilitySection(
        attacks=listed([plain(label, 24) for label in next(iter(info.parts.values())).attacks]),
        seeds=len(info.seeds),
        findings=findings(tests, components, step_summary(stored.steps), info),
        cautions=cautions(tests, info),
    )
