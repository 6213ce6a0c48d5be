"""How far a long job is, on standard error."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class ProgressBar:
    """A bar on standard error."""

    def __init__(self, bar: Progress, text: str, total: int) -> None:
        self._bar, self._task = bar, bar.add_task(text, total=total)

    def __call__(self, count: int) -> None:
        """So many more are done."""
        self._bar.advance(self._task, count)

    def stage(self, text: str) -> None:
        """What is being done from now on."""
        self._bar.update(self._task, description=text)


@contextmanager
def progress_bar(part: str, total: int, shown: bool) -> Iterator[ProgressBar]:
    """A bar that moves when called with a count."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not shown, transient=True) as bar:
        yield ProgressBar(bar, f"attacking {part}", total)
