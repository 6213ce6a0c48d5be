"""What the build of the documentation adds to MkDocs; `make docs` runs the tutorials themselves."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

import medrobust as mr

ROOT = Path(__file__).parents[1]


@pytest.fixture
def public_names(monkeypatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / "docs" / "site")
    import public_names

    return public_names


@pytest.fixture
def hooks(monkeypatch, tmp_path) -> ModuleType:
    pytest.importorskip("mkdocs", reason="the documentation's packages are not installed (make docs)")
    monkeypatch.syspath_prepend(ROOT / "docs" / "site")
    monkeypatch.setattr(sys, "path", [*sys.path])
    import hooks

    monkeypatch.setattr(hooks, "WORK", tmp_path / "pages")
    return hooks


def rewritten(hooks: ModuleType, markdown: str) -> str:
    return hooks.on_page_markdown(markdown, SimpleNamespace(file=SimpleNamespace(src_uri="tutorials/x.md")))


def test_every_public_name_is_on_one_page_of_the_reference(public_names):
    shown = []
    for path in (ROOT / "docs" / "reference").glob("*.md"):
        (page,) = re.findall(r"^<!-- public names: (.+?) -->$", path.read_text(), re.M)
        assert page == path.stem
        shown += public_names.directives(page).replace("::: medrobust.", "").split()
    assert sorted(shown) == mr.__all__


def test_blocks_that_are_to_run_share_a_session_and_a_folder(hooks, tmp_path):
    text = "```python run\nprint(1)\n```\n\n```python run hidden\nprint(2)\n```\n\n```console run\n$ ls\n```\n"
    first, second, third = rewritten(hooks, text).strip().split("\n\n")
    folder = f'workdir="{tmp_path / "pages" / "tutorials" / "x"}"'
    for block in (first, second, third):
        assert 'exec="on"' in block
        assert folder in block
    assert 'session="tutorials/x.md"' in first
    assert 'result="text"' in first
    assert 'session="tutorials/x.md"' in second
    assert "source=" not in second


def test_a_block_that_is_a_file_is_saved_where_the_others_run(hooks, tmp_path):
    out = rewritten(hooks, '```python save="net.py"\nx = 1\n```\n\n```python\nnot run\n```\n')
    assert (tmp_path / "pages" / "tutorials" / "x" / "net.py").read_text() == "x = 1\n"
    assert 'title="net.py"' in out
    assert "```python\nnot run\n```" in out


def test_a_page_that_loads_something_from_elsewhere_is_told(hooks, tmp_path, caplog):
    (tmp_path / "quiet.html").write_text('<a href="https://x.org">x</a><script src="assets/a.js"></script>')
    hooks.on_post_build(SimpleNamespace(site_dir=str(tmp_path)))
    assert caplog.text == ""
    (tmp_path / "loud.html").write_text('<script async src="https://x.org/a.js"></script><link href=//x.org/f.css>')
    hooks.on_post_build(SimpleNamespace(site_dir=str(tmp_path)))
    assert caplog.text.count("loud.html would load") == 2


def test_pages_that_the_navigation_does_not_name_come_last(hooks):
    assert hooks.with_unlisted([{"Data": ["data.md"]}])[-1]["More"][:2] == ["ablation.md", "attacks.md"]
