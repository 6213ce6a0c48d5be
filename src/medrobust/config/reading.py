"""A configuration read from a file and a command line, and what is wrong with it, told in one line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import pydantic
import yaml

from medrobust.config.run import RunConfig
from medrobust.errors import InputError, unknown


def read_config(path: Path | None, overrides: Mapping[str, object]) -> RunConfig:
    """Read a YAML file (or none), put `overrides` over it (dotted keys, None left out) and check all.

    Raises:
        InputError: the file cannot be read, or a field has no such name or value; the message names file and field.
    """
    fields = {} if path is None else _read_yaml(path)
    for dotted, value in overrides.items():
        if value is not None:
            _put(fields, dotted.split("."), value)
    try:
        return RunConfig.model_validate(fields)
    except pydantic.ValidationError as error:
        where = "" if path is None else f"{path}: "
        raise InputError(where + _describe(error)) from error


def read_settings(texts: Sequence[str]) -> dict[str, object]:
    """Fields typed as `data.bounds=[-1300,3500]`, by dotted name; values are YAML.

    Raises:
        InputError: a text has another form.
    """
    found: dict[str, object] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise InputError(f"--set {text!r}: write <field>=<value>, e.g. data.bounds=[-1300,3500]")
        try:
            found[name.strip()] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise InputError(f"--set {text!r}: the value is not YAML: {getattr(error, 'problem', error)}") from error
    return found


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not a UTF-8 text file") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise InputError(f"{path}{line}: not YAML: {getattr(error, 'problem', error)}") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected fields (name: value), found a {type(content).__name__}")
    return content


def _put(fields: dict[str, Any], keys: Sequence[str], value: object) -> None:
    """Set a dotted field; a section written in its short form becomes a mapping first."""
    if len(keys) == 1:
        fields[keys[0]] = value
        return
    short = {"data": "path", "model": "source"}
    section = fields.get(keys[0]) or {}
    if not isinstance(section, dict):
        section = {short.get(keys[0], ""): section}
    section = dict(section)
    _put(section, keys[1:], value)
    fields[keys[0]] = section


def _describe(error: pydantic.ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    field = ".".join(str(key) for key in first["loc"])
    if first["type"] == "extra_forbidden":
        parent: Any = RunConfig
        for key in first["loc"][:-1]:
            # a number is a place in a list
            parent = get_args(parent)[0] if isinstance(key, int) else parent.model_fields[key].annotation
        return str(unknown("field", field, (".".join([*map(str, first["loc"][:-1]), n]) for n in parent.model_fields)))
    if first["type"] == "value_error":
        return f"{field}: {first['ctx']['error']}"
    return f"{field}: {first['msg']}, got {first['input']!r}"
