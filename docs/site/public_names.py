"""The public names of medrobust, sorted into the pages of the reference."""

from __future__ import annotations

import medrobust as mr
from medrobust import _HOMES
from medrobust.attacks.attack import BatchAttack

ROOMS = {name: home.removeprefix("medrobust.").partition(".")[0] for name, home in _HOMES.items()}
PAGES = {
    "running": ("run", "transferring", "tradeoffs", "guards", "hardening", "training", "exporting"),
    "data": ("data", "region"),
    "models": ("victim", "black_box", "models", "tasks"),
    "threats": ("threat", "transforms"),
}


def directives(page: str) -> str:
    """What mkdocstrings is to show on a page of the reference: the public names that belong there."""
    return "\n\n".join(f"::: medrobust.{name}" for name in sorted(ROOMS, key=str.lower) if page_of(name) == page)


def page_of(name: str) -> str:
    """The page of a name: attacks, parts (of attacks), one of `PAGES`, or others."""
    if ROOMS[name] == "attacks":
        thing = getattr(mr, name)
        whole = isinstance(thing, type) and issubclass(thing, BatchAttack)
        return "attacks" if whole or name in ("AttackResult", "make_attack") else "parts"
    return next((page for page, rooms in PAGES.items() if ROOMS[name] in rooms), "others")
