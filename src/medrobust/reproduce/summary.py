"""What an experiment says: its tables as Markdown and CSV, and sentences that are computed from them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import polars as pl

from medrobust.budget import format_eps
from medrobust.evaluation import afterchecks_of
from medrobust.evaluation.storage import write_whole
from medrobust.report.numbers import counted, format_interval, format_value, listed, metric_heading
from medrobust.report.verdicts import stronger_of
from medrobust.reproduce.experiment import REFERENCE, Outcome
from medrobust.statistics import CLEAN, LEAST_CLUSTERS, SIGNIFICANCE, WORST_CASE, answer_metrics
from medrobust.statistics.spread import ALL_TASKS, IMAGES, MEAN, RUNS, TASKS

EFFECT = (
    "The effect on an image, in percent points: its mean, and its standard deviations (their squares, the variances, "
    "are in spread.csv)."
)
EFFECT_OF_ALL = (
    "The mean effect as a share of the task's clean value, in percent: its mean over tasks, and its standard deviation."
)


def write_summary(outcome: Outcome, folder: Path, titles: dict[str, str]) -> None:
    """Write `summary.md`, `table.csv` and `spread.csv`, replacing older ones."""
    write_whole(folder / "table.csv", outcome.summary.write_csv().encode())
    write_whole(folder / "spread.csv", outcome.spread.write_csv().encode())
    write_whole(folder / "summary.md", summary_text(outcome, titles).encode())


def summary_text(outcome: Outcome, titles: dict[str, str]) -> str:
    """The page: findings, then per task its metrics, the effect with its spread, and what survives."""
    blocks = [
        "# " + listed(outcome.labels) + " on " + counted(len(outcome.tasks), "task"),
        *findings(outcome),
        *_how(outcome),
    ]
    for task in outcome.tasks:
        blocks += [f"## {titles.get(task, task)}", metric_table(outcome, task), EFFECT, spread_table(outcome, task)]
        if len(_parts(outcome, task)) > 1:
            blocks += [_survival_caption(outcome, task), survival_table(outcome, task)]
    if len(outcome.tasks) > 1:
        blocks += ["## All tasks", EFFECT_OF_ALL, spread_table(outcome, ALL_TASKS)]
    return "\n\n".join(blocks) + "\n"


def findings(outcome: Outcome) -> list[str]:
    """Does SMIA win? In effect, and in steadiness; "no difference shown" when so."""
    if REFERENCE not in outcome.labels:
        return ["SMIA is not among the attacks: nothing is compared with it."]
    if len(outcome.labels) < 2:
        return ["There is no other attack that SMIA could be compared with."]
    return [_strength(outcome), *(_steadiness(outcome, over) for over in (IMAGES, RUNS, TASKS))]


def metric_table(outcome: Outcome, task: str) -> str:
    """Rows are budgets and attacks, columns the task's two metrics, with intervals."""
    info = outcome.info.parts[task]
    metrics = answer_metrics(info.task)[:2] if info.task != "ordinal" else ("accuracy", "quadratic-weighted kappa")
    rows = outcome.summary.filter(part=task)

    def line(label: str, eps: float) -> list[str]:
        of_cell = rows.filter(attack=label, eps=eps)
        return [label, *(_figure(of_cell.filter(metric=metric), 3) for metric in metrics)]

    lines = [["", *line(CLEAN, 0.0)]]
    for eps in _budgets(rows):
        lines += [[format_eps(eps, info.dataset.unit), *line(label, eps)] for label in [*outcome.labels, WORST_CASE]]
    return _markdown(["eps", "attack", *map(metric_heading, metrics)], lines)


def spread_table(outcome: Outcome, part: str) -> str:
    """Rows are budgets and attacks; columns the mean effect and its standard deviations, in percent points."""
    rows = outcome.spread.filter(part=part)
    shown = [over for over in (MEAN, IMAGES, RUNS, TASKS) if not rows.filter(over=over).is_empty()]
    lines = []
    for eps in _budgets(rows):
        for label in outcome.labels:
            of_cell = rows.filter(attack=label, eps=eps)
            cells = [_figure(_in_points(of_cell.filter(over=over)), 1) for over in shown]
            lines.append([format_eps(eps, _unit(outcome)), label, *cells])
    return _markdown(["eps", "attack", *("mean" if over == MEAN else f"over {over}" for over in shown)], lines)


def survival_table(outcome: Outcome, task: str) -> str:
    """The main metric as it is and after each change, clean and attacked at the largest budget."""
    main = answer_metrics(outcome.info.parts[task].task)[0]
    eps = _largest(outcome, task)
    lines = []
    for part in _parts(outcome, task):
        rows = outcome.summary.filter(part=part, metric=main)
        values = [rows.filter(attack=CLEAN), *(rows.filter(attack=label, eps=eps) for label in outcome.labels)]
        name = "as it is" if part == task else part.removeprefix(f"{task}, ")
        lines.append([name, *(format_value(row["value"].item(), 3) if len(row) else "" for row in values)])
    return _markdown(["after", CLEAN, *outcome.labels], lines)


def _how(outcome: Outcome) -> Iterator[str]:
    seeds = "each with models trained, and attacks drawn, with a seed of its own"
    yield (
        f"{counted(len(outcome.runs), 'run')}, {seeds}. Figures are over all runs; in brackets 95 % bootstrap "
        "intervals over images (patients, where they are known), not corrected for their number. Runs and tasks are "
        "held fixed: they are too few to say what other models or tasks would do. Whether a variance is smaller or "
        "larger is tested by swapping the labels of both attacks image by image, corrected by Holm for all of them."
    )
    if outcome.shared:
        yield (
            f"**One model.** For {listed(outcome.shared)} the model is the same in all runs: there, the variance over "
            "runs is that of the attacks' random numbers alone, and an attack that draws none has none."
        )
    yield (
        "The effect on an image is the drop of its being right (0 or 1), of its Dice, or of its F1. Where it is a "
        "drop of being right, its variance over images hangs on the mean alone and is largest where half of the "
        "images fall: there a steadier attack is merely a stronger or a weaker one."
    )


def _strength(outcome: Outcome) -> str:
    won: list[str] = []
    lost: list[str] = []
    few = alike = 0
    for row in outcome.comparisons.iter_rows(named=True):
        stronger = stronger_of(row)
        where = f"{row['second']} on {row['part']} at {format_eps(row['eps'], _unit(outcome))}"
        if row["clusters"] < LEAST_CLUSTERS:
            few += 1
        elif stronger is None:
            alike += 1
        else:
            (won if stronger == REFERENCE else lost).append(where)
    return (
        f"**Effect.** Paired by image with each other attack at each task and budget "
        f"({counted(len(outcome.comparisons), 'comparison')}), SMIA is "
        f"stronger in {len(won)}, weaker in {len(lost)}, and no difference is shown in {alike}."
        + (f" {_too_few(few)}" if few else "")
        + (f" Weaker than {listed(lost)}." if lost else "")
    )


def _steadiness(outcome: Outcome, over: str) -> str:
    rows = outcome.spread.filter(pl.col("over") == over, pl.col("difference").is_not_null())
    if rows.is_empty():
        needed = {RUNS: "two runs", TASKS: "two tasks, each with a clean value above 0", IMAGES: "two images"}[over]
        return f"**Variance over {over}.** Not measured: it needs at least {needed}."
    few = len(rows.filter(pl.col("clusters") < LEAST_CLUSTERS))
    rows = rows.filter(pl.col("clusters") >= LEAST_CLUSTERS)
    shown = rows.filter(pl.col("p_holm") < SIGNIFICANCE)
    smaller, larger = shown.filter(pl.col("difference") < 0), shown.filter(pl.col("difference") > 0)
    said = [
        f"**Variance over {over}.** SMIA's is smaller in {len(smaller)} of {counted(len(rows), 'comparison')}, larger "
        f"in {len(larger)}, and no difference is shown in {len(rows) - len(smaller) - len(larger)}."
    ]
    if few:
        said.append(_too_few(few))
    for word, part in (("Smaller", smaller), ("Larger", larger)):
        if len(part):
            counts = part.group_by("attack", maintain_order=True).len().iter_rows()
            said.append(f"{word} than that of {listed([f'{attack} ({count})' for attack, count in counts])}.")
    return " ".join(said)


def _too_few(comparisons: int) -> str:
    return f"In {comparisons} there are fewer than {LEAST_CLUSTERS} images or patients, too few to tell."


def _parts(outcome: Outcome, task: str) -> list[str]:
    """The task and its afterchecks."""
    return [task, *afterchecks_of(task, outcome.info.parts)]


def _survival_caption(outcome: Outcome, task: str) -> str:
    main = metric_heading(answer_metrics(outcome.info.parts[task].task)[0])
    return (
        f"What survives: {main}, clean and attacked at {format_eps(_largest(outcome, task), _unit(outcome))}, when "
        "clean and attacked images are changed the same way, or shown to another model. Intervals are in table.csv."
    )


def _largest(outcome: Outcome, task: str) -> float:
    return _budgets(outcome.summary.filter(part=task))[-1]


def _in_points(rows: pl.DataFrame) -> pl.DataFrame:
    """In percent points; of a variance its root."""
    mean, figures = pl.col("over") == MEAN, pl.col("value", "low", "high")
    return rows.with_columns(figures.sqrt() * 100).filter(~mean).vstack(rows.with_columns(figures * 100).filter(mean))


def _budgets(rows: pl.DataFrame) -> list[float]:
    found: list[float] = rows.filter(pl.col("attack") != CLEAN)["eps"].unique().sort().to_list()
    return found


def _unit(outcome: Outcome) -> str:
    return outcome.info.parts[outcome.tasks[0]].dataset.unit


def _figure(rows: pl.DataFrame, digits: int) -> str:
    if rows.is_empty():
        return ""
    row = rows.row(0, named=True)
    return f"{format_value(row['value'], digits)} {format_interval(row['low'], row['high'], digits)}".strip()


def _markdown(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    def rows() -> Iterator[str]:
        yield "| " + " | ".join(heads) + " |"
        yield "| " + " | ".join("---" for _ in heads) + " |"
        for line in lines:
            yield "| " + " | ".join(line) + " |"

    return "\n".join(rows())
