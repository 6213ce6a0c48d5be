"""Figures of matplotlib as a part of a page."""

from __future__ import annotations

import base64
import html
import io

from matplotlib.figure import Figure


def shown(figure: Figure, description: str) -> str:
    """The figure as an `<img>` that holds its own data; `description` is for those who do not see it."""
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=110, bbox_inches="tight", facecolor="white")
    data = base64.b64encode(content.getvalue()).decode()
    return f'<p><img src="data:image/png;base64,{data}" alt="{html.escape(description)}"></p>'
