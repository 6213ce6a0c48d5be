"""Draw the figures of docs/stability.md from an analysis.

`medrobust stability --out A; python docs/stability_figures.py A`

The way of the predictions as SVG, the maps and the loss surface of the first image as PNG, of the first part.
"""

from __future__ import annotations

import sys
from pathlib import Path

import medrobust as mr
from medrobust.report.drawing import file_png, file_svg, on_white, style
from medrobust.report.stability_figures import DIVERGENCES, maps_figure, steps_figure, surfaces_figure

DOCS = Path(__file__).parent


def draw(folder: Path) -> None:
    """Write stability.svg, stability_maps.png and stability_surface.png beside this script."""
    found = mr.load_stability(folder)
    part = next(iter(found.info.parts))
    maps = [one for one in found.maps if (one.part, one.index) == (part, found.maps[0].index)]
    surfaces = [one for one in found.surfaces if one.part == part]
    with style("docs"):
        (DOCS / "stability.svg").write_bytes(on_white(file_svg(steps_figure(found.trajectories, part, DIVERGENCES))))
        (DOCS / "stability_maps.png").write_bytes(file_png(maps_figure(maps), 90))
        (DOCS / "stability_surface.png").write_bytes(file_png(surfaces_figure(surfaces), 90))


if __name__ == "__main__":
    draw(Path(sys.argv[1]))
