"""Two runs compared, image by image: a model before and after hardening, two models, two defences."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import polars as pl
from rich.console import RenderableType

from medrobust.evaluation.storage import new_folder, write_whole
from medrobust.report.comparison_page import comparison_page
from medrobust.report.run_comparison import ComparedRuns, markdown_comparison, terminal_comparison
from medrobust.run import Run, Table, load_run
from medrobust.statistics.pairing import PairedPart
from medrobust.statistics.run_comparison import compare_runs
from medrobust.statistics.summary import RESAMPLES

COMPARE_PAGE = "compare.html"


@dataclass(frozen=True, eq=False)
class RunComparison:
    """What two runs on the same images show of each other; prints itself.

    Attributes:
        table: one row per part, condition and metric; the columns are described in `docs/records.md`.
        pairs: how the parts of the runs were matched, with notes on what was left out.
        names: what the runs are called.
        runs: the two runs.
    """

    table: pl.DataFrame
    pairs: list[PairedPart]
    names: tuple[str, str]
    runs: tuple[Run, Run]

    @cached_property
    def told(self) -> ComparedRuns:
        """All that is shown, with the checks of trust of both runs."""
        one, other = (run.trust for run in self.runs)
        trust = [(one.get(pair.names[0], []), other.get(pair.names[1], [])) for pair in self.pairs]
        return ComparedRuns(self.table, self.pairs, self.names, trust)

    def markdown(self) -> str:
        """The comparison as a page in Markdown."""
        return markdown_comparison(self.told)

    def html(self) -> str:
        """The comparison as one HTML page that needs nothing else: sentences, curves, tables, checks of trust."""
        return comparison_page(self.told, [run.info for run in self.runs])

    def save(self, folder: str | Path) -> None:
        """Write `compare.html`, `compare.csv` and `compare.md` to a new folder, whole or not at all.

        Raises:
            InputError: the folder is not empty, or cannot be written.
        """
        with new_folder(Path(folder)) as unfinished:
            write_whole(unfinished / COMPARE_PAGE, self.html().encode())
            write_whole(unfinished / "compare.csv", self.table.write_csv().encode())
            write_whole(unfinished / "compare.md", self.markdown().encode())

    def __rich__(self) -> RenderableType:
        return terminal_comparison(self.told)

    def __repr__(self) -> str:
        return repr(Table(self.__rich__()))


def compare(
    first: Run | str | Path,
    second: Run | str | Path,
    *,
    names: tuple[str, str] | None = None,
    resamples: int = RESAMPLES,
    confidence: float = 0.95,
    seed: int = 0,
) -> RunComparison:
    """Compare two runs on the images, attacks and budgets that both have: is the second better, and is that shown?

    Args:
        first, second: runs, or their folders.
        names: what to call them; the names of the folders when not given, "A" and "B" for runs in memory.
        resamples, confidence, seed: of the intervals.

    Raises:
        InputError: the runs do not agree: other images, truth, task or units, or no attack or budget in common.
    """
    called = tuple(
        Path(run).resolve().name if not isinstance(run, Run) else letter
        for run, letter in ((first, "A"), (second, "B"))
    )
    if called[0] == called[1]:
        called = (f"{called[0]} (A)", f"{called[1]} (B)")
    one, other = (run if isinstance(run, Run) else load_run(run) for run in (first, second))
    table, pairs = compare_runs(
        (one.records, one.info),
        (other.records, other.info),
        resamples=resamples,
        confidence=confidence,
        seed=seed,
    )
    return RunComparison(table, pairs, names or (called[0], called[1]), (one, other))
