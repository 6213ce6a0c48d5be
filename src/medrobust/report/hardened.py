"""The model card of a hardened model: how it was made, what it is worth, what it was not tested against."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from medrobust._version import __version__
from medrobust.budget import format_eps
from medrobust.evaluation.records import RunInfo
from medrobust.report.attack_wording import options_text, without_gradients
from medrobust.report.budgets import budget_text, untested_kinds
from medrobust.report.environment import templates
from medrobust.report.markdown import tidy
from medrobust.report.numbers import as_float, format_interval, format_norm, format_value, listed, metric_heading, plain
from medrobust.report.run_comparison import ComparedPart, ComparedRuns
from medrobust.report.run_trust import hiding
from medrobust.report.sections import Section
from medrobust.report.told import Told
from medrobust.statistics import CLEAN, TASK_TRAITS, WORST_CASE
from medrobust.statistics.attack_kinds import is_transfer
from medrobust.training import METHODS, Outcome

# fields of `training.json` that are not options of the method
_KNOWN = "model_sha256 weights_sha256 victim training_sha256 validation_sha256 images method threat training"
_OTHERS = "validation_attack validation_images seed outcome"
_ELSEWHERE = ("normalisation", "workers")  # told in a line of its own; without an effect on the weights


@dataclass(frozen=True)
class HardeningTold:
    """What `training.json` tells of a hardening.

    Attributes:
        model_sha256: fingerprint of the model that it began with.
        training_sha256, validation_sha256: of the data learned from, and of those the weights were chosen by.
        images: how many these are.
        validation_images: how many of the latter were attacked; None in files from before it was kept.
        method: its class.
        threat: what the model is to stand.
        training: epochs, learning rate and the like.
        validation_attack: what the weights were chosen by.
        seed: of all randomness.
        outcome: how it went.
        victim: how the model is called.
        weights_sha256: fingerprint of the weights that came of it; None in files from before it was kept.
    """

    model_sha256: str
    training_sha256: str
    validation_sha256: str
    images: tuple[int, int]
    method: str
    threat: dict[str, Any]
    training: dict[str, Any]
    validation_attack: dict[str, Any]
    seed: int
    outcome: Outcome
    victim: dict[str, Any] = field(default_factory=dict)
    weights_sha256: str | None = None
    validation_images: int | None = None


@dataclass(frozen=True)
class BeforeAfter:
    """A part of the table of a card: the main metric clean and in the worst case at every budget."""

    part: ComparedPart
    metric: str
    lines: list[list[str]]


def hardening_card(
    told: HardeningTold, options: dict[str, object], compared: ComparedRuns | None, after: Told | None
) -> str:
    """The card in Markdown.

    Args:
        told: how the model was made.
        options: of the method.
        compared: the runs before and after, None where it was not measured.
        after: the second of them, likewise.
    """
    entry = next(((name, one) for name, one in METHODS.items() if _class_of(one.make) == told.method), None)
    history = told.outcome.history
    kept = next((seen for seen in history if seen.step == told.outcome.best), history[-1])
    sections = [] if after is None else after.without_images.sections
    text = (
        templates()
        .get_template("hardening_card.md.j2")
        .render(
            told=told,
            method=plain(told.method) if entry is None else entry[0],
            summary="" if entry is None else entry[1].summary,
            source="" if entry is None else entry[1].source,
            options=options_text(options),
            budget=_budget(told.threat),
            attacked=entry is None or bool(getattr(entry[1].make, "attacked", True)),
            how=options_text({name: value for name, value in told.training.items() if name not in _ELSEWHERE}),
            looked=f"{plain(str(told.validation_attack.get('attack')))} ({options_text(told.validation_attack)})",
            first=history[0],
            kept=kept,
            parts=[] if compared is None else [_before_after(part) for part in compared.parts],
            failed=_failed(sections),
            untested=list(_untested(sections)),
            sections=sections,
            info=_NO_RUN if after is None else after.info,
            version=__version__,
        )
    )
    return tidy(text).decode()


def method_options(training_json: dict[str, object]) -> dict[str, object]:
    """The options of the method among the fields of `training.json`."""
    return {name: value for name, value in training_json.items() if name not in f"{_KNOWN} {_OTHERS}".split()}


_NO_RUN = RunInfo({}, 0, "", 0.0, "", {})


def _class_of(make: object) -> str:
    return str(getattr(make, "__name__", ""))


def _budget(threat: dict[str, Any]) -> str:
    eps = as_float(threat.get("eps"))
    norm = format_norm(plain(str(threat.get("norm"))))
    return norm if eps is None else f"{norm} ≤ {format_eps(eps, str(threat.get('unit')))}"


def _before_after(part: ComparedPart) -> BeforeAfter:
    metric, lines = TASK_TRAITS[part.pair.parts[0].task].main, []
    for row in part.rows:
        if row["metric"] != metric or row["attack"] not in (CLEAN, WORST_CASE):
            continue
        where = CLEAN
        if row["attack"] == WORST_CASE:
            where = f"worst case, {budget_text(str(row['norm']), as_float(row['eps']) or 0.0, part.pair.parts[0])}"
        figures = []
        for name, low, high in (
            ("first", "first_low", "first_high"),
            ("second", "second_low", "second_high"),
            ("difference", "low", "high"),
        ):
            interval = format_interval(as_float(row[low]), as_float(row[high]))
            figures.append(f"{format_value(as_float(row[name]))} {interval}".strip())
        lines.append([where, *figures])
    return BeforeAfter(part, metric_heading(metric), lines)


def _failed(sections: list[Section]) -> list[str]:
    """What the checks of trust that the hardened model fails mean."""
    several = len(sections) > 1
    told = []
    for section in sections:
        name = f"On {plain(section.name)} the hardened model" if several else "The hardened model"
        told.append(hiding(name, section.trust.checks if section.trust else ()))
    return [sentence for sentence in told if sentence]


def _untested(sections: list[Section]) -> Iterator[str]:
    """What no attack of the run tried."""
    for section in sections:
        if section.table is None:
            continue
        part, where = section.part, f"{plain(section.name)}: " if len(sections) > 1 else ""
        largest = listed([budget_text(some[0].norm, some[0].eps, part) for some in section.table.largest])
        yield f"{where}changes larger than {largest}."
        if kinds := untested_kinds(section.table.norms):
            yield f"{where}other kinds of changes: {listed(kinds)}; nor spatial and physical changes beyond these."
        if not without_gradients(part):
            yield f"{where}attacks without gradients, which would find what hidden gradients hide."
        if not any(is_transfer(label, part) for label in part.attacks):
            yield f"{where}images made on other models (transfer)."
        yield f"{where}attacks other than {listed([plain(label, 40) for label in part.attacks])}."
    yield "Images of other hospitals, devices and patients than those of the test images."
    yield "Poisoned training images, and weights that were tampered with."
