"""The command `medrobust compare`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medrobust.console import console, say


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
