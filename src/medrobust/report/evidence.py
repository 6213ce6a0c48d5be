"""What a run measured of what regulators and standards ask for, and what it did not.

Every line is found in the run: it has the figure and the place of its table, or it was not measured. Nothing here says
that a requirement is met.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from medrobust.evaluation.records import PartInfo
from medrobust.report import evidence_kinds as kinds
from medrobust.report.budgets import budget_text
from medrobust.report.numbers import metric_name, plain
from medrobust.report.sections import Section
from medrobust.report.table import Line, PartTable, attacks_of, worst_of
from medrobust.report.wording import class_metrics
from medrobust.statistics import TASK_TRAITS

_VARIATIONS = ("contrast", "bias field", "deformation", "band noise")

Kind = Callable[[str, PartInfo], bool]


@dataclass(frozen=True)
class Found:
    """What one part of a run measured: its figure in words, and the anchor of the table that holds it."""

    part: str
    figure: str
    anchor: str


@dataclass(frozen=True)
class Asked:
    """One thing that is asked for; `found` is empty when it was not measured in this run."""

    clause: str
    asks: str
    found: Sequence[Found]


@dataclass(frozen=True)
class Framework:
    """A law, a guidance, a standard or a taxonomy."""

    name: str
    lines: Sequence[Asked]


def evidence(sections: Sequence[Section]) -> list[Framework]:
    """Every line of every framework, with what the parts of a run measured of it."""
    return [
        Framework(name, [Asked(clause, asks, _found(topics, sections)) for clause, asks, *topics in lines])
        for name, lines in _ASKED.items()
    ]


def _found(topics: Sequence[str], sections: Sequence[Section]) -> list[Found]:
    return [
        Found(plain(section.name), figure, f"{section.anchor}-{place}")
        for section in sections
        if section.table is not None
        for topic in topics
        for figure, place in _MEASURED[topic](section, section.table)
    ]


Measured = list[tuple[str, str]]  # figure, the end of its table's anchor


def _clean(section: Section, table: PartTable) -> Measured:
    main = TASK_TRAITS[section.part.task].main
    return [(f"{metric_name(main)} on clean images {table.clean[main]}", "results")]


def _attacked(kind: Kind) -> Callable[[Section, PartTable], Measured]:
    """The lowest figure under attacks of one kind: of each norm, at the largest budget that they had."""

    def measured(section: Section, table: PartTable) -> Measured:
        part, main = section.part, TASK_TRAITS[section.part.task].main
        lowest: dict[str, tuple[float, Line]] = {}
        for budget in table.budgets:
            values = [(line[main].value, line) for line in attacks_of(budget) if kind(line.attack, part)]
            known = [(value, line) for value, line in values if value is not None]
            if known:
                lowest[budget[0].norm] = min(known, key=lambda one: one[0])
        return [_figure(section, line, f" under {plain(line.attack, 40)}") for _, line in lowest.values()]

    return measured


def _worst(section: Section, table: PartTable) -> Measured:
    """Under the worst case over all attacks: of each norm, at its largest budget."""
    return [_figure(section, worst_of(budget), " in the worst case") for budget in table.largest]


def _varied(section: Section, table: PartTable) -> Measured:
    """The same of each family of changes that an imaging chain makes."""
    varied = [budget for budget in table.largest if budget[0].norm.startswith(_VARIATIONS)]
    return [_figure(section, worst_of(budget), " in the worst case") for budget in varied]


def _figure(section: Section, line: Line, where: str) -> tuple[str, str]:
    main = TASK_TRAITS[section.part.task].main
    at = budget_text(line.norm, line.eps, section.part)
    return f"{metric_name(main)}{where} at {at} {line[main]}", "results"


def _survived(section: Section, _: PartTable) -> Measured:
    main = metric_name(TASK_TRAITS[section.part.task].main)
    return [(f"{main} on clean images after {plain(one.name)} {one.clean}", "survival") for one in section.survival]


def _by_class(section: Section, table: PartTable) -> Measured:
    metrics = class_metrics(table, section.part)
    of_each = metric_name(str(TASK_TRAITS[section.part.task].class_metric))
    return [(f"{of_each} of {len(metrics)} classes", "classes")] if metrics else []


def _by_group(section: Section, _: PartTable) -> Measured:
    return [
        (f"{len(one.lines)} groups by {plain(one.column, 40)}", f"group-{place}")
        for place, one in enumerate(section.groups, 1)
        if one.lines
    ]


def _confidence(section: Section, _: PartTable) -> Measured:
    return [] if section.calibration is None else [("how sure the model is of right and wrong answers", "calibration")]


# what a line below may name; a line that names nothing asks for what no run of this tool measures
_MEASURED: dict[str, Callable[[Section, PartTable], Measured]] = {
    "clean": _clean,
    "any attack": _worst,
    "white box": _attacked(kinds.by_gradients),
    "answers": _attacked(kinds.by_answers),
    "scores": _attacked(kinds.by_scores),
    "decisions": _attacked(kinds.by_decisions),
    "transfer": _attacked(kinds.by_transfer),
    "universal": _attacked(kinds.universal),
    "variation": _varied,
    "survival": _survived,
    "classes": _by_class,
    "groups": _by_group,
    "confidence": _confidence,
}

# framework → clause, what it asks for in short, what of it a run can measure
_ASKED: dict[str, list[tuple[str, ...]]] = {
    "EU AI Act, Regulation (EU) 2024/1689, Article 15": [
        ("15(1), 15(3)", "Accuracy, with the metrics that it is declared in", "clean"),
        ("15(4)", "Robustness against errors, faults and inconsistencies in the environment", "variation", "survival"),
        (
            "15(5)",
            "Cybersecurity: inputs designed to cause a mistake (adversarial examples, evasion)",
            "any attack",
        ),
        ("15(5)", "Cybersecurity: poisoning of training data or of pre-trained components"),
        ("15(5)", "Cybersecurity: confidentiality attacks"),
        ("15(5)", "Cybersecurity: model flaws"),
        ("15(4)", "Feedback loops of systems that go on learning in use"),
        ("15(1)", "Consistency over the lifecycle of the system"),
    ],
    "FDA, AI-Enabled Device Software Functions (draft guidance, January 2025)": [
        ("Performance validation", "Performance with its uncertainty", "clean"),
        ("Performance validation", "Performance class by class", "classes"),
        ("Performance validation", "Performance in subgroups of patients, sites and devices", "groups"),
        ("Performance validation", "How far the confidence of outputs can be relied on", "confidence"),
        ("Cybersecurity", "Model evasion", "any attack"),
        ("Cybersecurity", "Data poisoning"),
        ("Cybersecurity", "Model inversion and stealing"),
        ("Cybersecurity", "Data leakage"),
        ("Cybersecurity", "Overfitting, model bias"),
        ("Cybersecurity", "Performance drift"),
    ],
    "ISO/IEC TR 24029-1:2021, robustness of neural networks": [
        ("Statistical methods", "A measure on test data, with its confidence", "clean"),
        ("Formal methods", "A proof over a domain of inputs"),
        ("Empirical methods", "Experiments with changed inputs", "any attack", "variation"),
    ],
    "NIST AI 100-2 E2025, attacks on predictive AI": [
        ("Evasion", "White-box attacks", "white box"),
        ("Evasion", "Black-box attacks by scores", "scores"),
        ("Evasion", "Black-box attacks by decisions", "decisions"),
        ("Evasion", "Transfer of attacks from other models", "transfer"),
        ("Evasion", "Universal changes, one for all images", "universal"),
        ("Evasion", "Physically realizable attacks"),
        ("Poisoning", "Poisoning of data and models, backdoors"),
        ("Privacy", "Reconstruction, membership inference, model extraction"),
    ],
    "MITRE ATLAS": [
        ("AML.T0015", "Evade ML Model", "any attack"),
        ("AML.T0043.000", "Craft Adversarial Data: White-Box Optimization", "white box"),
        ("AML.T0043.001", "Craft Adversarial Data: Black-Box Optimization", "answers"),
        ("AML.T0043.002", "Craft Adversarial Data: Black-Box Transfer", "transfer"),
        ("AML.T0043.003", "Craft Adversarial Data: Manual Modification"),
        ("AML.T0043.004", "Craft Adversarial Data: Insert Backdoor Trigger"),
        ("AML.T0020", "Poison Training Data"),
    ],
}
