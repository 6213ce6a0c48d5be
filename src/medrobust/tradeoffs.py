"""Several models on the same images: what each holds, and what that costs it on clean ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl
from rich.console import RenderableType

from medrobust.evaluation import own_parts
from medrobust.evaluation.records import PartInfo
from medrobust.evaluation.storage import new_folder, write_whole
from medrobust.report.numbers import plain
from medrobust.report.run_trust import hiding
from medrobust.report.tradeoff import markdown_tradeoff, terminal_tradeoff, tradeoff_figure
from medrobust.run import Run, Table, load_run
from medrobust.statistics.tradeoff import tradeoff_rows


@dataclass(frozen=True, eq=False)
class Tradeoff:
    """Clean against robust, of several models; prints itself.

    Attributes:
        table: a row per part, budget and model; the columns are described in `docs/records.md`.
        parts: what the runs are of.
        distrusted: of each model that fails a check of trust, what that means, with what was found.
    """

    table: pl.DataFrame
    parts: dict[str, PartInfo]
    distrusted: list[str]

    def figures(self) -> dict[str, bytes]:
        """A figure for each part and norm, name of the file → SVG."""
        budgets = self.table.select("part", "norm").unique(maintain_order=True).rows()
        numbers = ["" if len(budgets) == 1 else f"-{number}" for number in range(1, len(budgets) + 1)]
        return {
            f"tradeoff{number}.svg": tradeoff_figure(self.table, part, self.parts[part], norm, "svg")
            for number, (part, norm) in zip(numbers, budgets, strict=True)
        }

    def markdown(self) -> str:
        """The table as a page in Markdown."""
        return markdown_tradeoff(self.table, self.parts, self.distrusted)

    def save(self, folder: str | Path) -> None:
        """Write `tradeoff.csv`, `tradeoff.md` and the figures to a new folder, whole or not at all.

        Raises:
            InputError: the folder is not empty, or cannot be written.
        """
        with new_folder(Path(folder)) as unfinished:
            write_whole(unfinished / "tradeoff.csv", self.table.write_csv().encode())
            write_whole(unfinished / "tradeoff.md", self.markdown().encode())
            for name, content in self.figures().items():
                write_whole(unfinished / name, content)

    def __rich__(self) -> RenderableType:
        return terminal_tradeoff(self.table, self.parts, self.distrusted)

    def __repr__(self) -> str:
        return repr(Table(self.__rich__()))


def tradeoff(runs: Mapping[str, Run | str | Path]) -> Tradeoff:
    """What is left of the main metric of each model clean and in the worst case, at every budget.

    Args:
        runs: what a model is called → its run, or the folder of that; all on the same images under the same attacks.

    Raises:
        InputError: there is no run, or two differ in parts, images, budgets or attacks.
    """
    loaded = {name: run if isinstance(run, Run) else load_run(run) for name, run in runs.items()}
    table = tradeoff_rows({name: (run.summary, run.info) for name, run in loaded.items()})
    first = next(iter(loaded.values()))
    told = [hiding(plain(name, 24), checks) for name, run in loaded.items() for checks in run.trust.values()]
    return Tradeoff(table, own_parts(first.info.parts), [one for one in told if one])
