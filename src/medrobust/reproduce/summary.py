"""What an experiment says: its tables as Markdown and CSV, and sentences that are computed from them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import polars as pl

from medrobust.evaluation.storage import write_whole
from medrobust.report.numbers import counted, format_eps, format_interval, format_value, listed, metric_name
from medrobust.report.verdicts import stronger_of
from medrobust.reproduce.experiment import REFERENCE, Outcome
from medrobust.statistics import CLEAN, WORST_CASE, answer_metrics
from medrobust.statistics.spread import IMAGES, MEAN, RUNS, TASKS

OVER = {IMAGES: "images", RUNS: "runs", TASKS: "tasks"}


def write_summary(outcome: Outcome, folder: Path, titles: dict[str, str]) -> None:
    """Write `summary.md`, `table.csv` and `spread.csv`, replacing older ones."""
    write_whole(folder / "table.csv", outcome.summary.write_csv().encode())
    write_whole(folder / "spread.csv", outcome.spread.write_csv().encode())
    write_whole(folder / "summary.md", summary_text(outcome, titles).encode())


def summary_text(outcome: Outcome, titles: dict[str, str]) -> str:
    """The page: findings, then per task its metrics, the variances, and what survives."""
    blocks = [
        "# " + listed(outcome.labels) + " on " + counted(len(outcome.tasks), "task"),
        *findings(outcome),
        _how(outcome),
    ]
    for task in outcome.tasks:
        blocks += [f"## {titles.get(task, task)}", metric_table(outcome, task)]
    blocks += ["## Variance of the effect", spread_table(outcome)]
    if len(outcome.info.parts) > len(outcome.tasks):
        blocks += ["## What survives", *(survival_table(outcome, task) for task in outcome.tasks)]
    return "\n\n".join(blocks) + "\n"


def findings(outcome: Outcome) -> list[str]:
    """Does SMIA win? In effect, and in steadiness; "no difference shown" when so."""
    if REFERENCE not in outcome.labels or len(outcome.labels) < 2:
        return []
    return [_strength(outcome), *(_steadiness(outcome, over) for over in (IMAGES, RUNS, TASKS))]


def metric_table(outcome: Outcome, task: str) -> str:
    """Rows are attacks, columns the task's metrics at each budget, with intervals."""
    info = outcome.info.parts[task]
    metrics = answer_metrics(info.task)[:2] if info.task != "ordinal" else ("accuracy", "quadratic-weighted kappa")
    rows = outcome.summary.filter(pl.col("part") == task)
    budgets = _budgets(rows)
    lines = []
    for label in [CLEAN, *outcome.labels, WORST_CASE]:
        cells = [
            _cell(rows.filter(attack=label, metric=metric, **({} if label == CLEAN else {"eps": eps})))
            if label != CLEAN or eps == budgets[0]
            else ""
            for metric in metrics
            for eps in budgets
        ]
        lines.append([label, *cells])
    heads = [f"{metric_name(metric)}, {format_eps(eps, info.dataset.unit)}" for metric in metrics for eps in budgets]
    return _markdown(["attack", *heads], lines)


def spread_table(outcome: Outcome) -> str:
    """Rows are task, budget and variance; columns the attacks."""
    lines = []
    for (part, eps, over), group in outcome.spread.group_by("part", "eps", "over", maintain_order=True):
        if over == MEAN:
            continue
        cells = [_figure(group.filter(attack=label), "value", "low", "high", 4) for label in outcome.labels]
        lines.append([f"{part}, over {OVER[str(over)]}", format_eps(float(str(eps)), _unit(outcome)), *cells])
    return _markdown(["variance", "eps", *outcome.labels], lines)


def survival_table(outcome: Outcome, task: str) -> str:
    """Drop of the main metric as it is and after each change, at the largest budget."""
    parts = [name for name in outcome.info.parts if name == task or name.startswith(f"{task}, ")]
    main = f"drop of {answer_metrics(outcome.info.parts[task].task)[0]}"
    largest = _budgets(outcome.summary.filter(pl.col("part") == task))[-1]
    lines = []
    for part in parts:
        rows = outcome.summary.filter(part=part, metric=main, eps=largest)
        name = "as it is" if part == task else part.removeprefix(f"{task}, ")
        lines.append([name, *(_cell(rows.filter(attack=label)) for label in outcome.labels)])
    head = f"{task}, {main.replace('dice', 'Dice')} at {format_eps(largest, _unit(outcome))}"
    return _markdown([head, *outcome.labels], lines)


def _how(outcome: Outcome) -> str:
    seeds = "each with models trained, and attacks drawn, with a seed of its own"
    return (
        f"{counted(len(outcome.runs), 'run')}, {seeds}. Figures are over all runs; in brackets 95 % bootstrap "
        "intervals over images (patients, where they are known), runs and tasks held fixed, not corrected for their "
        "number. The effect on an image is the drop of its being right (0 or 1), its Dice or its F1; over tasks, as a "
        "share of the clean value."
    )


def _strength(outcome: Outcome) -> str:
    won: list[str] = []
    lost: list[str] = []
    open_ = 0
    for row in outcome.comparisons.iter_rows(named=True):
        stronger = stronger_of(row)
        where = f"{row['second']} on {row['part']} at {format_eps(row['eps'], _unit(outcome))}"
        if stronger is None:
            open_ += 1
        else:
            (won if stronger == REFERENCE else lost).append(where)
    total = len(outcome.comparisons)
    return (
        f"**Effect.** Paired by image with each other attack at each task and budget ({total} comparisons), SMIA is "
        f"stronger in {len(won)}, weaker in {len(lost)}, and no difference is shown in {open_}."
        + (f" Weaker than {listed(lost)}." if lost else "")
    )


def _steadiness(outcome: Outcome, over: str) -> str:
    rows = outcome.spread.filter(pl.col("over") == over, pl.col("difference").is_not_null())
    name = OVER[over]
    if rows.is_empty():
        needed = {RUNS: "two runs", TASKS: "two tasks", IMAGES: "two images"}[over]
        return f"**Variance over {name}.** Not measured: it needs at least {needed}."
    smaller = rows.filter(pl.col("difference_high") < 0)
    larger = rows.filter(pl.col("difference_low") > 0)
    said = [
        f"**Variance over {name}.** SMIA's is smaller in {len(smaller)} of {len(rows)} comparisons, larger in "
        f"{len(larger)}, and no difference is shown in {len(rows) - len(smaller) - len(larger)}."
    ]
    for word, part in (("Smaller", smaller), ("Larger", larger)):
        if len(part):
            counts = part.group_by("attack", maintain_order=True).len().iter_rows()
            said.append(f"{word} than that of {listed([f'{attack} ({count})' for attack, count in counts])}.")
    return " ".join(said)


def _budgets(rows: pl.DataFrame) -> list[float]:
    found: list[float] = rows.filter(pl.col("attack") != CLEAN)["eps"].unique().sort().to_list()
    return found


def _unit(outcome: Outcome) -> str:
    return outcome.info.parts[outcome.tasks[0]].dataset.unit


def _cell(rows: pl.DataFrame) -> str:
    return _figure(rows, "value", "low", "high", 3)


def _figure(rows: pl.DataFrame, value: str, low: str, high: str, digits: int) -> str:
    if rows.is_empty():
        return ""
    row = rows.row(0, named=True)
    if row[value] is None:
        return "–"
    return f"{format_value(row[value], digits)} {format_interval(row[low], row[high], digits) or ''}".strip()


def _markdown(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    def rows() -> Iterator[str]:
        yield "| " + " | ".join(heads) + " |"
        yield "| " + " | ".join("---" for _ in heads) + " |"
        for line in lines:
            yield "| " + " | ".join(line) + " |"

    return "\n".join(rows())
