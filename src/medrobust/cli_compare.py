"""The commands that set runs side by side: `medrobust compare` and `medrobust tradeoff`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medrobust.console import console, say
from medrobust.errors import InputError


def compare(
    first: Annotated[Path, typer.Argument(help="Folder of a run, e.g. before hardening.", show_default=False)],
    second: Annotated[Path, typer.Argument(help="Folder of another, e.g. after it.", show_default=False)],
    out: Annotated[Path | None, typer.Option(help="Folder for a page, tables and text; must not exist yet.")] = None,
    confidence: Annotated[float, typer.Option(help="Of the intervals.")] = 0.95,
    resamples: Annotated[int, typer.Option(help="Of the bootstrap.")] = 2000,
) -> None:
    """Compare two runs on the same images, paired: is the second better, and is that shown?"""
    from medrobust.comparing import COMPARE_PAGE
    from medrobust.comparing import compare as compare_two
    from medrobust.evaluation import check_output_folder

    if out is not None:
        check_output_folder(out)
    found = compare_two(first, second, confidence=confidence, resamples=resamples)
    console().print(found)
    if out is not None:
        found.save(out)
        say(f"written: {out / COMPARE_PAGE}, compare.csv, compare.md")


def tradeoff(
    runs: Annotated[
        list[str],
        typer.Argument(
            help="Folders of runs, each with a name if you like: pgd-at=hardened/after.", show_default=False
        ),
    ],
    out: Annotated[Path | None, typer.Option(help="Folder for table and figures; must not exist yet.")] = None,
) -> None:
    """What robustness costs: several models on the same images, clean and in the worst case at every budget."""
    from medrobust.evaluation import check_output_folder
    from medrobust.tradeoffs import tradeoff as tradeoff_of

    if out is not None:
        check_output_folder(out)
    found = tradeoff_of(_named(runs))
    console().print(found)
    if out is not None:
        found.save(out)
        say(f"written: {out}")


def _named(runs: list[str]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for text in runs:
        name, equals, folder = text.partition("=")
        if not equals:
            name, folder = Path(text).resolve().name, text
        if name in found:
            raise InputError(f"two runs are called {name!r}: give them names, as in pgd-at={folder}")
        found[name] = Path(folder)
    return found
