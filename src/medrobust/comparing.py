"""Two runs compared, image by image: a model before and after hardening, two models, two defences."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import polars as pl
from rich.console import Console, RenderableType

from medrobust.evaluation.storage import new_folder, write_whole
from medrobust.report.run_comparison import markdown_comparison, terminal_comparison
from medrobust.run import Run, load_run
from medrobust.statistics.pairing import PairedPart
from medrobust.statistics.run_comparison import compare_runs
from medrobust.statistics.summary import RESAMPLES


@dataclass(frozen=True, eq=False)
class RunComparison:
    """What two runs on the same images show of each other; prints itself.

    Attributes:
        table: one row per part, condition and metric; the columns are described in `docs/records.md`.
        pairs: how the parts of the runs were matched, with notes on what was left out.
        names: what the runs are called.
    """

    table: pl.DataFrame
    pairs: list[PairedPart]
    names: tuple[str, str]

    def markdown(self) -> str:
        """The comparison as a page in Markdown."""
        return markdown_comparison(self.table, self.pairs, self.names)

    def save(self, folder: str | Path) -> None:
        """Write `compare.csv` and `compare.md` to a new folder, whole or not at all.

        Raises:
            InputError: the folder is not empty, or cannot be written.
        """
        with new_folder(Path(folder)) as unfinished:
            write_whole(unfinished / "compare.csv", self.table.write_csv().encode())
            write_whole(unfinished / "compare.md", self.markdown().encode())

    def __rich__(self) -> RenderableType:
        return terminal_comparison(self.table, self.pairs, self.names)

    def __repr__(self) -> str:
        text = io.StringIO()
        Console(file=text, width=120, color_system=None).print(self.__rich__())
        return text.getvalue().rstrip()


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
    return RunComparison(table, pairs, names or (called[0], called[1]))
