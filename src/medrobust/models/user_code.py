"""`python:<module>:<factory>`: a model that the user's own code builds, because the user named it."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from medrobust.black_box import Predictor
from medrobust.errors import InputError, unknown
from medrobust.models.requirements import Requirements


def user_model(name: str, wanted: Requirements) -> nn.Module:
    """Import the module (the current folder counts too) and call its factory.

    The factory gets `outputs=` and `channels=` when it takes them. A module-level `nn.Module` does as well. A factory
    that returns a function from images to scores, no network, gives a black box: see `BlackBox` on what it is given.
    """
    module_name, _, factory_name = name.partition(":")
    if not module_name or not factory_name:
        raise InputError(f"python:{name}: write python:<module>:<factory>, e.g. python:my_models:build")
    if module_name.endswith(".py"):
        raise InputError(
            f"python:{name}: write the module's name, python:{module_name.removesuffix('.py')}:{factory_name}"
        )
    with _current_folder_importable():
        module = _import(module_name)
        factory = getattr(module, factory_name, None)
        if factory is None:
            raise unknown(f"name in module {module_name}", factory_name, _public_names(module))
        model = factory if isinstance(factory, nn.Module) else _call(f"python:{name}", factory, wanted)
    if isinstance(model, nn.Module):
        return model
    if not callable(model) or isinstance(model, type):
        kind = type(model).__name__
        raise InputError(f"python:{name} gave a {kind}: it must return a torch.nn.Module, or a function of images")
    return Predictor(model, name=f"the function of python:{name}")


@contextmanager
def _current_folder_importable() -> Iterator[None]:
    """As `python -m` does, and only while the user's code is imported and called."""
    folder = str(Path.cwd())
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path.remove(folder)


def _import(name: str) -> ModuleType:
    importlib.invalidate_caches()
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise _failed(f"importing module {name!r}", error) from error  # what it imports is missing
        raise InputError(f"no module named {name!r} in {Path.cwd()} or among the installed packages") from error
    except Exception as error:
        raise _failed(f"importing module {name!r}", error) from error


def _call(source: str, factory: Any, wanted: Requirements) -> object:
    if not callable(factory):
        raise InputError(f"{source} is a {type(factory).__name__}: it must be a function that returns a model")
    offered = {"outputs": wanted.outputs, "channels": wanted.channels}
    try:
        parameters = inspect.signature(factory).parameters
        if not any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values()):
            offered = {key: value for key, value in offered.items() if key in parameters}
        return factory(**offered)
    except Exception as error:
        raise _failed(f"calling {source}", error) from error


def _failed(action: str, error: Exception) -> InputError:
    reason = " ".join(str(error).split())
    return InputError(f"{action} failed: {type(error).__name__}: {reason} (--debug shows where)")


def _public_names(module: ModuleType) -> list[str]:
    """What the module defines itself, to suggest a name from."""
    return [
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and callable(value) and getattr(value, "__module__", None) == module.__name__
    ]
