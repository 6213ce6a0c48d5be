import sys

import pytest
import torch
from torch import nn

from medrobust.errors import InputError
from medrobust.models import load_model

CODE = """
from torch import nn
import functools

class Net(nn.Module):
    def __init__(self, outputs, channels, width=2):
        super().__init__()
        self.head = nn.Conv2d(channels, outputs, 1)
    def forward(self, x):
        return self.head(x).mean((2, 3))

def plain(): return Net(2, 1)
def partly(channels, width=3): return Net(7, channels, width)
def anything(**options): return Net(**options)
def text(): return "model"
def broken(): raise RuntimeError("no\\nluck")
def needs(path): return path
ready = Net(9, 1)
size = 3
"""


@pytest.fixture
def user_module(tmp_path, monkeypatch):
    """A module in the current folder, under a name that no other test has imported."""
    name = f"user_model_{abs(hash(str(tmp_path)))}"
    (tmp_path / f"{name}.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    yield name
    sys.modules.pop(name, None)


def load(source):
    return load_model(source, outputs=5, channels=3, task="classification")


@pytest.mark.parametrize(
    ("factory", "channels", "outputs"),
    [("Net", 3, 5), ("plain", 1, 2), ("partly", 3, 7), ("anything", 3, 5), ("ready", 1, 9)],
)
def test_a_factory_is_given_what_it_takes(user_module, factory, channels, outputs):
    path = list(sys.path)
    model = load(f"python:{user_module}:{factory}")
    assert model(torch.rand(2, channels, 4, 4)).shape == (2, outputs)
    assert sys.path == path


def test_a_module_of_an_installed_package():
    assert isinstance(load("python:torch.nn:Identity"), nn.Identity)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("python:{}", "write python:<module>:<factory>"),
        ("python:{}.py:plain", "write the module's name, python:user_model"),
        ("python:no_such_module_anywhere:f", "no module named 'no_such_module_anywhere' in"),
        ("python:{}:plian", "unknown name in module .* 'plian': did you mean 'plain'"),
        ("python:{}:size", "is a int: it must be a function"),
        ("python:{}:text", "gave a str: it must return a torch.nn.Module"),
        ("python:{}:broken", "calling python:.*:broken failed: RuntimeError: no luck"),
        ("python:{}:needs", "failed: TypeError: .*missing 1 required positional argument: 'path'"),
    ],
)
def test_mistakes_in_one_line(user_module, source, words):
    with pytest.raises(InputError, match=words) as caught:
        load(source.format(user_module))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (
            "import a_package_nobody_has",
            "importing module .* failed: ModuleNotFoundError.*a_package_nobody_has",
        ),
        ("1 / 0", "failed: ZeroDivisionError"),
        ("def f(:", "failed: SyntaxError"),
    ],
)
def test_a_module_that_does_not_import(tmp_path, monkeypatch, code, words):
    (tmp_path / "broken_user_module.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=words):
        load("python:broken_user_module:f")
