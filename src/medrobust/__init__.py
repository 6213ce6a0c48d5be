"""medrobust: adversarial robustness of medical-image models.

Attack a model, measure what is left, say how sure that figure is, and look at the images.

The names are imported when first used: the command line must not wait for PyTorch to say what it can do. They are
written once, in `__init__.pyi`, from which type checkers and editors know them, too.
"""

import ast
from importlib import import_module
from pathlib import Path

_STUB = ast.parse(Path(__file__).with_suffix(".pyi").read_text(encoding="utf-8"))
_HOMES = {name.name: node.module for node in _STUB.body if isinstance(node, ast.ImportFrom) for name in node.names}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'medrobust' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_HOMES[name]), name)
    return value


def __dir__() -> list[str]:
    return __all__
