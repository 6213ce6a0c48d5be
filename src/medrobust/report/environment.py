"""The templates of the report, with all that they may call."""

from __future__ import annotations

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from medrobust.report import areas, attack_wording, mask_wording, threat_wording, verdicts, wording
from medrobust.report.budgets import budget_text
from medrobust.report.folders import without_absolute, without_folder
from medrobust.report.markdown_text import markdown_text
from medrobust.report.numbers import (
    counted,
    format_change,
    format_norm,
    format_value,
    metric_heading,
    metric_name,
    plain,
)
from medrobust.report.outcomes import OUTCOME_MARKS
from medrobust.report.table import worst_of
from medrobust.report.units import CT_WINDOWS, in_greys
from medrobust.statistics import TASK_TRAITS, WORST_CASE


def templates() -> Environment:
    """The templates: in HTML every foreign text is made inert, in Markdown the filter `md` makes it so."""
    environment = Environment(
        loader=PackageLoader("medrobust.report"),
        autoescape=select_autoescape(enabled_extensions=("html.j2",)),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "plain": plain,
        "without_absolute": without_absolute,
        "without_folder": without_folder,
        "value": format_value,
        "change": format_change,
        "norm": format_norm,
        "counted": counted,
        "metric": metric_name,
        "heading": metric_heading,
        "capital": lambda text: text[:1].upper() + text[1:],
        "md": markdown_text,
    }
    environment.tests["worst"] = lambda line: line.attack == WORST_CASE
    environment.globals |= {
        "words": wording,
        "attack_words": attack_wording,
        "threat_words": threat_wording,
        "mask_words": mask_wording,
        "verdicts": verdicts,
        "areas": areas,
        "budget_text": budget_text,
        "in_greys": in_greys,
        "traits_of": TASK_TRAITS,
        "worst_of": worst_of,
        "outcome_marks": OUTCOME_MARKS,
        "ct_windows": CT_WINDOWS,
    }
    return environment
