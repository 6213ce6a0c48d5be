"""Two runs beside each other as a person reads them: sentences, a table for the terminal, Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import polars as pl
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from medrobust.report.budgets import budget_text
from medrobust.report.folders import without_absolute
from medrobust.report.markdown_text import markdown_text
from medrobust.report.numbers import (
    NO_INTERVAL,
    NONE,
    as_float,
    counted,
    format_interval,
    format_norm,
    format_p_value,
    format_value,
    metric_heading,
    plain,
)
from medrobust.report.run_trust import Checks, TrustComparison, trust_comparison
from medrobust.statistics import CLEAN, LEAST_CLUSTERS, SIGNIFICANCE, TASK_TRAITS, WORST_CASE
from medrobust.statistics.across import area_name, strongest_name
from medrobust.statistics.pairing import PairedPart
from medrobust.statistics.run_comparison import BETTER, NOT_SHOWN, TOO_FEW, WORSE

Row = dict[str, object]
HEADINGS = ("difference", "p (Holm)", "verdict")


@dataclass(frozen=True)
class Block:
    """The comparisons of one metric: its heading, and a line of cells each."""

    heading: str
    lines: list[list[str]]


@dataclass(frozen=True)
class ComparedPart:
    """One part of both runs: what is shown in sentences, lines of figures, the checks of trust, what to know of them.

    `rows` are those of the table.
    """

    title: str
    answer: list[str]
    blocks: list[Block]
    trust: TrustComparison
    notes: list[str]
    pair: PairedPart
    rows: list[Row]


@dataclass(frozen=True)
class ComparedRuns:
    """All that is shown of two runs.

    Attributes:
        table: as `medrobust.statistics.run_comparison.RUNS_SCHEMA`.
        pairs: how their parts were matched.
        names: what the runs are called.
        trust: the checks of each of the parts.
    """

    table: pl.DataFrame
    pairs: Sequence[PairedPart]
    names: tuple[str, str]
    trust: Sequence[Checks]

    @property
    def parts(self) -> Iterator[ComparedPart]:
        """In the order of the first run."""
        for pair, checks in zip(self.pairs, self.trust, strict=True):
            rows = self.table.filter(part=pair.names[0], second_part=pair.names[1]).rows(named=True)
            yield ComparedPart(
                _title(pair),
                _answer(rows, pair, self.names),
                _blocks(rows, pair, self.names),
                trust_comparison(checks, self.names),
                _notes(rows, pair, self.names),
                pair,
                rows,
            )


def terminal_comparison(runs: ComparedRuns) -> Group:
    """For the terminal."""
    shown: list[RenderableType] = []
    for part in runs.parts:
        shown += [Text()] if shown else []
        shown += [Text(part.title, style="bold"), *map(Text, part.answer)]
        shown += [Text(told, style="bold red") for told in part.trust.failed]
        for block in part.blocks:
            lines = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold", title_justify="left")
            for heading in (block.heading, *(plain(name, 20) for name in runs.names), *HEADINGS):
                lines.add_column(Text(heading), overflow="fold")
            for line in block.lines:
                lines.add_row(*map(Text, line))
            shown += [Text(), lines]
        shown += [Text(), *(Text(note, style="dim") for note in (*part.trust.lines, *part.notes))]
    return Group(*shown)


def markdown_comparison(runs: ComparedRuns) -> str:
    """A page in Markdown."""
    first, second = (plain(name, 40) for name in runs.names)
    written = [f"# {markdown_text(first)} and {markdown_text(second)} compared"]
    for part in runs.parts:
        written += [f"## {markdown_text(part.title)}", *map(markdown_text, part.answer)]
        written += [f"**{markdown_text(told)}**" for told in part.trust.failed]
        written += [_markdown_table([block.heading, first, second, *HEADINGS], block.lines) for block in part.blocks]
        if part.trust.rows:
            checks = [[row.title, row.first.verdict, row.second.verdict] for row in part.trust.rows]
            written.append(_markdown_table(["Check of trust", first, second], checks))
        written.append("\n".join(f"- {markdown_text(note)}" for note in part.notes))
    return "\n\n".join(written) + "\n"


def _markdown_table(headings: list[str], lines: list[list[str]]) -> str:
    rows = [headings, ["---"] * len(headings), *lines]
    return "\n".join("| " + " | ".join(map(markdown_text, row)) + " |" for row in rows)


def _title(pair: PairedPart) -> str:
    one, other = (plain(name) for name in pair.names)
    return one if one == other else f"{one} · {other}"


def _answer(rows: Sequence[Row], pair: PairedPart, names: tuple[str, str]) -> list[str]:
    """What became of the main metric: in the worst case at the largest budget of each norm, over all, and clean."""
    main = TASK_TRAITS[pair.parts[0].task].main
    of_main = [row for row in rows if row["metric"] == main]
    largest = {row["norm"]: row for row in of_main if row["attack"] == WORST_CASE}
    told = [f"{metric_heading(main)} {_where(row, pair)}: {_change(row, names)}." for row in largest.values()]
    for row in rows:
        if row["metric"] == area_name(main) and row["attack"] == WORST_CASE:
            over = f"Over all budgets of {format_norm(str(row['norm']))} (area under its curve in the worst case)"
            told.append(f"{over}: {_change(row, names)}.")
    told += [f"On clean images: {_change(row, names)}." for row in of_main if row["attack"] == CLEAN]
    return told


def _where(row: Row, pair: PairedPart) -> str:
    return f"in the worst case at {budget_text(str(row['norm']), as_float(row['eps']) or 0.0, pair.parts[0])}"


def _change(row: Row, names: tuple[str, str]) -> str:
    one, other = (format_value(as_float(row[name])) for name in ("first", "second"))
    p_value = as_float(row["p_holm"])
    size = _difference(row) + ("" if p_value is None else f", {format_p_value(p_value)}")
    return f"{one} in {plain(names[0], 24)}, {other} in {plain(names[1], 24)}; {_verdict(row, names)} ({size})"


def _blocks(rows: Sequence[Row], pair: PairedPart, names: tuple[str, str]) -> list[Block]:
    """The main metric under every attack, the others clean and in the worst case; the areas with their metrics."""
    traits = TASK_TRAITS[pair.parts[0].task]
    found = []
    for metric in traits.metrics:
        of_metric = [row for row in rows if row["metric"] in (metric, area_name(metric), strongest_name(metric))]
        if metric != traits.main:
            of_metric = [row for row in of_metric if row["attack"] in (CLEAN, WORST_CASE)]
        of_metric.sort(key=lambda row: row["metric"] == area_name(metric))
        lines = [[_condition(row, pair), *_cells(row, names)] for row in of_metric]
        if lines:
            found.append(Block(metric_heading(metric), lines))
    return found


def _condition(row: Row, pair: PairedPart) -> str:
    if row["attack"] == CLEAN:
        return CLEAN
    attack, metric = plain(str(row["attack"]), 24), str(row["metric"])
    if metric.startswith(area_name("")):
        return f"{attack}, area under the curve ({format_norm(str(row['norm']))})"
    if metric.endswith(strongest_name("")):
        attack = strongest_name("").removeprefix(" of the ")
    return f"{attack}, {budget_text(str(row['norm']), as_float(row['eps']) or 0.0, pair.parts[0])}"


def _cells(row: Row, names: tuple[str, str]) -> list[str]:
    p_value = as_float(row["p_holm"])
    values = [format_value(as_float(row[name]), 3) for name in ("first", "second")]
    shown = NONE if p_value is None else format_p_value(p_value).removeprefix("p = ").removeprefix("p ")
    return [*values, _difference(row), shown, _verdict(row, names)]


def _difference(row: Row) -> str:
    difference = as_float(row["difference"])
    if difference is None:
        return NONE
    sign = "+" if difference > 0 else ""
    interval = format_interval(as_float(row["low"]), as_float(row["high"]), 3) or NO_INTERVAL
    return f"{sign}{format_value(difference, 3)} {interval}"


def _verdict(row: Row, names: tuple[str, str]) -> str:
    second = plain(names[1], 24)
    unit = "patients" if row["resampled"] == "patients" else "images"
    words = {BETTER: f"{second} is better", WORSE: f"{second} is worse", TOO_FEW: f"too few {unit} to tell"}
    return words.get(str(row["verdict"]), NOT_SHOWN if row["verdict"] else "undefined")


def _notes(rows: Sequence[Row], pair: PairedPart, names: tuple[str, str]) -> list[str]:
    first, second = (plain(name, 40) for name in names)
    clusters, unit = pair.clusters, "patient" if pair.clusters.kind == "patients" else "image"
    of = f" of {counted(clusters.count, 'patient')}" if unit == "patient" else ", taken as independent"
    percent = f"{100 * (as_float(rows[0]['confidence']) or 0.0):.4g} %" if rows else ""
    notes = [
        f"Paired on {counted(len(pair.images), 'image')}{of}. Difference: {second} minus {first}, with its {percent} "
        f"BCa bootstrap interval, both on the same resamples; {NO_INTERVAL}: it does not vary.",
        f"p: two-sided sign-flip test over {unit}s, corrected by Holm for the number of lines of one metric, single "
        f"attacks apart from the others. A difference is called shown when p is below {SIGNIFICANCE:g} and the "
        "interval excludes 0, with at least "
        f"{counted(LEAST_CLUSTERS, unit)}; “{NOT_SHOWN}” does not mean that there is none.",
    ]
    if pair.parts[0].weights_sha256 == pair.parts[1].weights_sha256:
        notes.append("Both runs attacked a model with the same weights.")
    if pair.parts[0].model != pair.parts[1].model:
        models = (plain(without_absolute(part.model)) for part in pair.parts)
        notes.append(f"Models: {' and '.join(models)}.")
    return notes + [plain(note.replace("{0}", first).replace("{1}", second), 400) for note in pair.notes]
