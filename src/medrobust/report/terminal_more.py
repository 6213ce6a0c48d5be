"""What the terminal shows of a part below its table: groups of patients, costs, how many images it would take."""

from __future__ import annotations

import polars as pl
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from medrobust.evaluation import own_parts
from medrobust.evaluation.records import PartInfo, RunInfo
from medrobust.report.harm import harm_table
from medrobust.report.numbers import plain
from medrobust.report.sample_size import size_sentences
from medrobust.report.subgroups import GroupTable, group_tables

More = dict[str, list[RenderableType]]


def more_of(groups: pl.DataFrame, harm: pl.DataFrame, sizes: pl.DataFrame, info: RunInfo) -> More:
    """Part → what follows its table; nothing for parts that only look once more at the images of another.

    Args:
        groups, harm, sizes: what `medrobust.statistics.subgroups`, `harm` and `sample_size` returned.
        info: the run.
    """
    return {name: _of_part(name, part, groups, harm, sizes) for name, part in own_parts(info.parts).items()}


def _of_part(
    name: str, part: PartInfo, groups: pl.DataFrame, harm: pl.DataFrame, sizes: pl.DataFrame
) -> list[RenderableType]:
    shown: list[RenderableType] = []
    for table in group_tables(groups.filter(pl.col("part") == name), part):
        shown += [_groups(table)] if table.lines else []
        shown += [Text(sentence) for sentence in table.sentences]
    costs = harm_table(harm, name, part)
    shown += [] if costs is None else [Text(costs.sentence)]
    return shown + [Text(plain(sentence, 400), style="dim") for sentence in size_sentences(sizes, name, part)]


def _groups(groups: GroupTable) -> Table:
    """Clean and the largest budget: there is no room for more."""
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold")
    table.add_column(groups.column, overflow="fold", max_width=22)
    places = sorted({0, len(groups.headings) - 1})
    for heading in ("", *(groups.headings[place] for place in places)):
        table.add_column(heading, no_wrap=True)
    for line in groups.lines:
        table.add_row(Text(line.name), line.size, *(str(line.cells[place]) for place in places))
    if groups.gaps:
        table.add_row("gap", "", *(" ".join(filter(None, groups.gaps[place])) for place in places), style="bold")
    return table
