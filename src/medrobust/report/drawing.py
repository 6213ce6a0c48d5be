"""What all figures have in common: their style, and how they become SVG or PNG.

SVG takes its colours from the page that it is put into. Text stays text, and is never read as mathematics. The same
figures give the same bytes.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

# Okabe and Ito's palette (Color Universal Design, 2008), the hues that hold on white; the page lightens them
# for dark. Markers and dashes tell the lines apart without colour.
SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")
MARKERS = "osD^vPX*"
DASHES = ("-", (0, (5, 1.5)), (0, (1.5, 1.5)), (0, (5, 1.5, 1.5, 1.5)))
INK, GRID = "#101112", "#d0d1d2"
_FROM_PAGE = {INK: "currentColor", GRID: f"var(--grid, {GRID})"} | {
    color: f"var(--series-{place}, {color})" for place, color in enumerate(SERIES)
}
_STYLE = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "text.usetex": False,
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": INK,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "lines.linewidth": 1.6,
}


@contextmanager
def style(name: str) -> Iterator[None]:
    """The style, for drawing and for saving; `name` tells the parts of one SVG in a page from those of another."""
    with mpl.rc_context({**_STYLE, "svg.hashsalt": name}):
        yield


def page_svg(figure: Figure) -> str:
    """The bare `<svg>` element, coloured by the page."""
    return for_page(file_svg(figure))


def for_page(file: bytes) -> str:
    """An SVG file as an element that takes its colours from the page."""
    svg = file.decode()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)  # the same in every figure, and nothing refers to them
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg)
    for color, from_page in _FROM_PAGE.items():
        svg = re.sub(rf"(:\s*){color}\b", rf"\g<1>{from_page}", svg)
    return svg


def on_white(file: bytes) -> bytes:
    """An SVG file that brings its paper."""
    return file.replace(b"<svg ", b'<svg style="background: white" ', 1)


def file_svg(figure: Figure) -> bytes:
    """An SVG file in colours of its own, without a background."""
    text = io.StringIO()
    with _any_script():
        FigureCanvasSVG(figure).print_svg(text, metadata={"Date": None, "Creator": None})
    return text.getvalue().encode()


def file_png(figure: Figure, dpi: int = 200) -> bytes:
    """A PNG file on white."""
    content = io.BytesIO()
    figure.set_dpi(dpi)
    figure.set_facecolor("white")
    with _any_script():
        FigureCanvasAgg(figure).print_png(content, metadata={"Software": None}, pil_kwargs={"optimize": True})
    return content.getvalue()


@contextmanager
def _any_script() -> Iterator[None]:
    """Widths are measured with a font that lacks many scripts; the browser draws the text with its own."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")
        yield
