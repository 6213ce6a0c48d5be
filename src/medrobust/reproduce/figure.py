"""The paper's figure: a row for each task; the clean image, and what each attack makes of it, with the answers."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from medrobust.evaluation.storage import write_whole
from medrobust.report.gallery import Entry, Picture, gallery_entries
from medrobust.report.numbers import plain
from medrobust.reproduce.experiment import Outcome


def write_figure(outcome: Outcome, path: Path) -> None:
    """Draw the first run's images at the largest budget as PNG; nothing when the run kept no image."""
    run = outcome.runs[0]
    rows = {task: gallery_entries(run.gallery, run.records, task, run.info.parts[task]) for task in outcome.tasks}
    chosen = {task: entries[len(entries) // 2] for task, entries in rows.items() if entries}
    if not chosen:
        return
    columns = 1 + len(outcome.labels)
    figure = Figure(figsize=(2.1 * columns, 2.6 * len(chosen)), layout="constrained", dpi=120)
    grid = figure.subplots(len(chosen), columns, squeeze=False)
    for axes, (task, entry) in zip(grid, chosen.items(), strict=True):
        _row(list(axes), task, entry, outcome.labels)
    budget = next(iter(chosen.values())).attacks[-1].budget
    figure.suptitle(f"{budget}; blue: truth, orange: answer", fontsize=9)
    file = io.BytesIO()
    FigureCanvasAgg(figure).print_png(file)
    write_whole(path, file.getvalue())


def _row(axes: list[Axes], task: str, entry: Entry, labels: list[str]) -> None:
    _show(axes[0], entry.clean, f"{task}, clean", entry.answer)
    for place, label in enumerate(labels, 1):
        made = [attacked for attacked in entry.attacks if attacked.label == plain(label, 40)]
        if made:
            _show(axes[place], made[-1].adversarial, label, made[-1].answer)


def _show(axes: Axes, picture: Picture, title: str, answer: str) -> None:
    content = base64.b64decode(picture.source.partition(",")[2])
    with Image.open(io.BytesIO(content)) as image:
        axes.imshow(np.asarray(image), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    axes.set_title(title, fontsize=8)
    axes.set_xlabel(answer, fontsize=7)
    axes.set_xticks([])
    axes.set_yticks([])
