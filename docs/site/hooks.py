"""What the build of the documentation adds to MkDocs: pages whose code runs, the reference, and a last look.

In a page of `docs/`, a block that is marked in its first line is

    ```python run           run by the build, with what it prints below
    ```python run silent    run, and shown alone
    ```python run hidden    run; what it prints is put into the page as HTML (figures)
    ```console run          run by a shell, line by line that begins with "$ "
    ```python save="x.py"   written to x.py, for the blocks that follow (any language)

All blocks of a page share their names and a folder of their own, `build/pages/<page>/`. A block that fails is a
warning, and at a warning the build stops.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.plugins import get_plugin_logger
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from public_names import directives

LOG = get_plugin_logger("site")
ROOT = Path(__file__).parents[2]
WORK = ROOT / "build" / "pages"
FROM_ROOT = ("CHANGELOG.md", "CONTRIBUTING.md")
FENCE = re.compile(r'^```(\w+) (?:run( silent| hidden)?|save="([\w./-]+)")([^\n]*)\n(.*?)^```$', re.M | re.S)
NAMES = re.compile(r"^<!-- public names: (.+?) -->$", re.M)
FETCHED = re.compile(
    rb"""<(?:script|link|img|iframe|source)\b[^>]*?\b(?:src|href)\s*=\s*["']?(?:https?:)?//[^"'\s>]+"""
)


def on_config(config: MkDocsConfig) -> None:
    """Folders of earlier builds go, pages without a place get one, and commands find this `medrobust`."""
    shutil.rmtree(WORK, ignore_errors=True)
    sys.path.insert(0, str(Path(__file__).parent))
    config.nav = with_unlisted(config.nav or [])
    here = str(Path(sys.executable).parent)
    os.environ["PATH"] = os.pathsep.join([here, os.environ.get("PATH", "")])
    os.environ.setdefault("MPLBACKEND", "agg")


def with_unlisted(nav: list[Any]) -> list[Any]:
    """The navigation, with a section "More" of the pages right in `docs/` that it does not name."""
    named = repr(nav)
    unlisted = sorted(path.name for path in (ROOT / "docs").glob("*.md") if repr(path.name) not in named)
    return [*nav, {"More": unlisted}] if unlisted else nav


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """The changelog and the guide for contributors, which lie at the root, are pages too."""
    for name in FROM_ROOT:
        text = (ROOT / name).read_text(encoding="utf-8").replace("](docs/", "](")
        files.append(File.generated(config, name.lower(), content=text))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Blocks that are to run, and the names of the reference, in the words of the plugins that do it.

    Links to pages from the root, which lie above `docs/` in the repository, lead to where the site has them.
    """
    for name in FROM_ROOT:
        markdown = markdown.replace(f"](../../{name}", f"](../{name.lower()}")
    source = page.file.src_uri
    folder = WORK / source.removesuffix(".md")
    if FENCE.search(markdown):
        folder.mkdir(parents=True)
        sys.path.insert(0, str(folder))  # modules that the page saves are found, as from a script beside them

    def replaced(block: re.Match[str]) -> str:
        language, how, saved, more, code = block.groups()
        if saved:
            (folder / saved).write_text(code, encoding="utf-8")
            return f'```{language} title="{saved}"\n{code}```'
        shown = {
            None: 'source="above" result="text"',
            " silent": 'source="above"',
            " hidden": 'html="on"',
        }[how]
        if language == "console":
            shown = 'source="console" result="text" width="100"'
        place = "" if language == "console" else f' session="{source}"'
        return f'```{language} exec="on" {shown}{place} workdir="{folder}"{more}\n{code}```'

    return NAMES.sub(lambda found: directives(found[1]), FENCE.sub(replaced, markdown))


def on_post_build(config: MkDocsConfig, **_: Any) -> None:
    """The site must load nothing from elsewhere: a page that would is a warning."""
    for path in sorted(Path(config.site_dir).rglob("*.html")):
        for found in FETCHED.findall(path.read_bytes()):
            LOG.warning("%s would load %s", path.relative_to(config.site_dir), found.decode(errors="replace"))
