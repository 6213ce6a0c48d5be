"""The commands that show what there is: attacks, data formats, models, and whether all is well here."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from medrobust.console import console, plain_table, say

if TYPE_CHECKING:
    from rich.table import Table

    from medrobust.attacks.about import About


def attacks(
    name: Annotated[
        str | None, typer.Argument(help="One attack, to be shown whole; or `ensemble`.", show_default=False)
    ] = None,
) -> None:
    """List the attacks; with a name, show one: what it does, where it is from, its options and their defaults."""
    from medrobust.attacks import ATTACKS
    from medrobust.attacks.about import about

    if name is not None:
        told = about(name)
        console(markup=False).print(_whole(told), "", _options(told))
        return
    table = plain_table("attack", "needs", "norms", "reference")
    for told in map(about, ATTACKS):
        table.add_row(told.name, told.needs, _all_or(told.norms), told.reference)
    console().print(table)
    say("one of them whole: medrobust attacks NAME")
    say("several as one, the worst of them for every image: medrobust attacks ensemble")


def _whole(told: About) -> Table:
    table = plain_table("", "")
    table.add_row(told.name, told.summary)
    table.add_row("", told.rule)
    table.add_row("reference", told.reference)
    table.add_row("needs", told.needs)
    table.add_row("tasks", _all_or(told.tasks))
    table.add_row("norms", _all_or(told.norms))
    return table


def _options(told: About) -> Table:
    """With the defaults as a run.yaml would have them."""
    from medrobust.attacks.describing import described

    table = plain_table("option", "default")
    for option, default in told.options.items():
        shown = described(default)
        table.add_row(option, shown if isinstance(shown, str) else json.dumps(shown))
    return table


def _all_or(names: tuple[str, ...]) -> str:
    return ", ".join(names) or "all"


def formats() -> None:
    """List the data formats that are read."""
    from medrobust.data import FORMATS

    table = plain_table("format", "what it is")
    for key, entry in FORMATS.items():
        table.add_row(key, entry.description)
    console().print(table)


def models() -> None:
    """List where a model can come from."""
    from medrobust.models import MODELS

    table = plain_table("--model", "what it is")
    for key, description in MODELS.items():
        table.add_row(key, description)
    console().print(table)


def doctor() -> None:
    """Show versions, device and extras, and check in seconds that attacks do here what they promise."""
    from medrobust.selfcheck import findings

    table, well = plain_table("", "", ""), True
    for finding in findings():
        table.add_row("ok" if finding.well else "FAILED", finding.name, finding.seen)
        well &= finding.well
    console().print(table)
    if not well:
        raise typer.Exit(1)
