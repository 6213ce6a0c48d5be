"""The report of a run: one HTML page that needs nothing else and no network; its one script only arranges it."""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256
from importlib.resources import files

from markupsafe import Markup

from medrobust.report.environment import templates
from medrobust.report.told import Told

_SCRIPTS = ("theme", "sort", "window", "viewer")


def page(told: Told) -> str:
    """The page as text.

    Neither sample ids, patients nor file names of images enter it: an image is named by its place. Of paths in the
    configuration only the last component does.
    """
    script = _script()
    return (
        templates()
        .get_template("page.html.j2")
        .render(
            info=told.info,
            sections=told.sections,
            evidence=told.evidence,
            config=told.config,
            script=Markup(script),  # noqa: S704 – ours, and nothing of the run is in it
            script_hash=b64encode(sha256(script.encode()).digest()).decode(),
        )
    )


def _script() -> str:
    """The page's script, of which its policy allows this text and no other."""
    folder = files("medrobust.report").joinpath("templates")
    return "\n".join(folder.joinpath(f"{name}.js").read_text(encoding="utf-8") for name in _SCRIPTS)
