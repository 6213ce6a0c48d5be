"""The paper's figure: a row for each task; the clean image, and what each attack makes of it, with the answers."""

from __future__ import annotations

import base64
import io
import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from medrobust.evaluation.storage import write_whole
from medrobust.report.gallery import Entry, gallery_entries
from medrobust.report.numbers import plain
from medrobust.report.pictures import Picture
from medrobust.reproduce.experiment import Outcome

WRONG = "#b3261e"
_COLUMN, _ROW = 1.4, 2.1  # inches; letters of 8 points are then still read where a page shows 900 pixels
_LETTERS = 19  # of 8 points in a column


def write_figure(outcome: Outcome, path: Path) -> None:
    """Draw images of the first run as PNG; nothing when the run kept no image.

    Of each task the image and budget are shown at which the attacks differ most: one that was answered right before,
    and then by some attacks not.
    """
    run = outcome.runs[0]
    rows = {task: gallery_entries(run.gallery, run.records, task, run.info.parts[task]) for task in outcome.tasks}
    chosen = {task: telling(entries) for task, entries in rows.items() if entries}
    if not chosen:
        return
    columns = 1 + len(outcome.labels)
    figure = Figure(figsize=(_COLUMN * columns, 0.3 + _ROW * len(chosen)), layout="constrained", dpi=160)
    grid = figure.subplots(len(chosen), columns, squeeze=False)
    for axes, (task, (entry, budget)) in zip(grid, chosen.items(), strict=True):
        _row(list(axes), task, entry, budget, outcome.labels)
    figure.suptitle("Blue: truth, orange: answer; in red what is wrong", fontsize=8)
    file = io.BytesIO()
    FigureCanvasAgg(figure).print_png(file)
    write_whole(path, file.getvalue())


def telling(entries: Sequence[Entry]) -> tuple[Entry, str]:
    """The image and the budget at which the attacks differ most; of equals the largest budget, the first image."""
    budgets = list(dict.fromkeys(attacked.budget for attacked in entries[0].attacks))

    def worth(place: int, entry: Entry) -> tuple[bool, int, int, int]:
        wrong = [attacked.right is False for attacked in entry.attacks if attacked.budget == budgets[place]]
        return entry.right is not False, min(sum(wrong), len(wrong) - sum(wrong)), sum(wrong), place

    entry, place = max(
        ((entry, place) for entry in entries for place in range(len(budgets))), key=lambda at: worth(at[1], at[0])
    )
    return entry, budgets[place]


def _row(axes: list[Axes], task: str, entry: Entry, budget: str, labels: list[str]) -> None:
    _show(axes[0], entry.clean, f"{task}, clean", entry.answer, entry.right)
    axes[0].set_ylabel(budget, fontsize=8)
    made = {attacked.label: attacked for attacked in entry.attacks if attacked.budget == budget}
    for place, label in enumerate(labels, 1):
        attacked = made[plain(label, 40)]
        _show(axes[place], attacked.adversarial, label, attacked.answer, attacked.right)


def _pixels(source: str, mode: str | None = None) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))) as image:
        return np.asarray(image if mode is None else image.convert(mode))


def _show(axes: Axes, picture: Picture, title: str, answer: str, right: bool | None) -> None:
    pixels = _pixels(picture.source)
    height, width = pixels.shape[:2]
    for layer in (pixels, *([_pixels(picture.lines, "RGBA")] if picture.lines else [])):
        axes.imshow(layer, cmap="gray", vmin=0, vmax=255, interpolation="nearest", extent=(0, width, height, 0))
    axes.set_title(title, fontsize=8)
    axes.set_xlabel(
        textwrap.fill(answer.partition(":")[0], _LETTERS), fontsize=8, color=WRONG if right is False else "black"
    )
    axes.set_xticks([])
    axes.set_yticks([])
    if right is False:
        axes.spines[:].set(color=WRONG, linewidth=2)
