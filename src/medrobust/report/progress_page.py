"""The page that is shown while a run is under way; it loads itself again until there is a report."""

from __future__ import annotations

from medrobust.evaluation.underway import UnderWay
from medrobust.report.environment import templates


def progress_page(under_way: UnderWay | None, now: float) -> bytes:
    """How far the run is at the time `now`, in seconds since 1970; None: no run is under way."""
    text = templates().get_template("progress.html.j2").render(run=under_way, left=_left(under_way, now), now=now)
    return text.encode()


def _left(run: UnderWay | None, now: float) -> str | None:
    """How long it will take at the pace so far; None before there is a pace."""
    if run is None or not run.done or run.updated <= run.started:
        return None
    seconds = max(0.0, (run.total - run.done) * (run.updated - run.started) / run.done - (now - run.updated))
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
