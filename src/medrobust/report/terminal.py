"""The table a run ends with in the terminal; at most 100 columns wide."""

from __future__ import annotations

import polars as pl
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from medrobust.evaluation.records import PartInfo, RunInfo
from medrobust.report.budgets import budget_text
from medrobust.report.numbers import format_change, format_value, plain
from medrobust.report.table import Line, PartTable, part_table
from medrobust.report.terminal_more import More
from medrobust.report.wording import interval_sentence, no_interval_sentence, sample_sentence, skipped_sentence
from medrobust.statistics import TASK_TRAITS, WORST_CASE, TaskTraits

_SHORT = {
    "quadratic-weighted kappa": "weighted κ",
    "label accuracy": "label acc.",
    "iou": "IoU",
    "dice": "Dice",
    "false positives": "FP",
}
_LABEL = 12  # columns
_PER_IMAGE = "F1, FP (false positives), misses: per image, of the detections that score enough to count."


def terminal_table(summary: pl.DataFrame, info: RunInfo, more: More | None = None) -> Group:
    """One table a part: rows by budget and attack, columns the metrics with intervals and the change made.

    Args:
        summary: what `medrobust.statistics.summarise` returned.
        info: the run it was made from.
        more: part → what is shown below its table, as `terminal_more.more_of` makes it.
    """
    shown: list[RenderableType] = []
    for name, part in info.parts.items():
        lines = part_table(summary, name)
        if shown:
            shown.append(Text())
        title = f"{plain(name)} · {plain(part.model)}"
        if lines is None:
            shown.append(Text(f"{title}: no image was evaluated", style="bold"))
            continue
        below = (more or {}).get(name, [])
        shown += [Text(title, style="bold"), _table(lines, part), *_notes(lines, part), *below]
    return Group(*shown)


def _table(lines: PartTable, part: PartInfo) -> Table:
    traits = TASK_TRAITS[part.task]
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold")
    budgets = [budget_text(budget[0].norm, budget[0].eps, part) for budget in lines.budgets]
    widest = max(map(len, budgets), default=0)  # a label may take several lines, a budget may not
    table.add_column("attack", overflow="fold", min_width=widest, max_width=max(_LABEL, widest))
    for metric in traits.metrics:
        table.add_column(_SHORT.get(metric, metric), no_wrap=True)
    for heading in ("drop", "success", "L∞", "PSNR", "SSIM"):
        table.add_column(heading, no_wrap=True, justify="right")
    table.add_row(*_cells(lines.clean, traits, part))
    for text, budget in zip(budgets, lines.budgets, strict=True):
        table.add_row(Text(text, style="cyan"))
        for line in budget:
            table.add_row(*_cells(line, traits, part), style="bold" if line.attack == WORST_CASE else "")
    return table


def _cells(line: Line, traits: TaskTraits, part: PartInfo) -> list[Text]:
    answers = (line[metric].text if metric in traits.plain else str(line[metric]) for metric in traits.metrics)
    cells = [plain(line.attack), *answers]
    if line.norm:
        cells += [
            line[f"drop of {traits.main}"].text,
            line["success"].text,
            format_change(line["linf"].value, part.dataset.unit),
            format_value(line["psnr"].value, 1),
            format_value(line["ssim"].value, 3),
        ]
    return [Text(cell) for cell in cells]


def _notes(lines: PartTable, part: PartInfo) -> list[Text]:
    explained = no_interval_sentence(lines, part, without=TASK_TRAITS[part.task].plain)
    intervals = [interval_sentence(lines), *([explained] if explained else [])]
    worst = "Worst case: for each image the attack that does it most harm (so AUROC, κ, mAP need not be lowest)."
    per_image = [_PER_IMAGE] if TASK_TRAITS[part.task].answer == "boxes" else []
    sentences = [sample_sentence(lines, part), *per_image, *intervals, worst, *part.dataset.notes]
    if part.skipped:
        sentences.append(skipped_sentence(part))
    return [Text(plain(sentence, 400), style="dim") for sentence in sentences]
