"""How the commands speak: results on standard output, all else on standard error."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table


def say(message: str) -> None:
    """One line on standard error."""
    typer.echo(message, err=True)


def console(*, markup: bool = True) -> Console:
    """Standard output, 110 columns wide where it is no terminal; without `markup` [brackets] are only text."""
    return Console(width=None if sys.stdout.isatty() else 110, markup=markup)


def plain_table(*columns: str) -> Table:
    """A table without lines."""
    table = Table(box=None, show_header=any(columns), pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


@contextmanager
def bar() -> Iterator[Callable[[str, int, int | None], None]]:
    """A progress bar on standard error, where that is a terminal: called with a label, how much is done and of what."""
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty(), transient=True) as progress:
        task = progress.add_task("")
        yield lambda label, done, total: progress.update(task, description=label, completed=done, total=total)
