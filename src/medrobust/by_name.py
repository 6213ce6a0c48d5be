"""A thing of a catalogue as a configuration writes it: "jpeg", or {"jpeg": {"quality": 75}}."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from inspect import Parameter, signature
from typing import Any

from medrobust.errors import InputError, unknown


def split(kind: str, written: object, example: str) -> tuple[str, dict[str, Any]]:
    """The name and the options that are written.

    Raises:
        InputError: it is neither a name nor one name with a mapping of options; `example` shows one.
    """
    if isinstance(written, str):
        return written, {}
    if isinstance(written, Mapping) and len(written) == 1:
        ((name, options),) = written.items()
        if isinstance(name, str) and (options is None or isinstance(options, Mapping)):
            return name, {str(option): value for option, value in (options or {}).items()}
    raise InputError(f"{kind} is a name or {example}, got {written!r}")


def make(kind: str, catalogue: Mapping[str, Callable[..., Any]], name: str, options: Mapping[str, Any]) -> Any:
    """Call the maker of that name.

    Raises:
        InputError: there is no such name or option, an option is missing, or has no such value.
    """
    if name not in catalogue:
        raise unknown(kind, name, catalogue)
    known = signature(catalogue[name]).parameters
    check_options(f"{kind} {name}", options, known)
    for option, parameter in known.items():
        if parameter.default is Parameter.empty and option not in options:
            raise InputError(f"{kind} {name} needs its option {option}: {{{name}: {{{option}: …}}}}")
    try:
        return catalogue[name](**options)
    except InputError as error:
        raise InputError(f"{kind} {name}: {error}") from error


def check_options(owner: str, options: Mapping[str, object], known: Mapping[str, object]) -> None:
    """Raise `InputError` for an option that is not known."""
    for option in options:
        if not known:
            raise InputError(f"{owner} takes no options, got {option!r}")
        if option not in known:
            raise unknown(f"option of {owner}", option, known)
