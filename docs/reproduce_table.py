"""Write the table of `medrobust reproduce --small` in README.md anew, and its figure, from the folder of such a run.

medrobust reproduce --small --limit 24 --eps 2/255,8/255 --out RUN; python docs/reproduce_table.py RUN
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import polars as pl
from PIL import Image

from medrobust.budget import format_eps
from medrobust.report.numbers import format_interval, format_value

ROOT = Path(__file__).parents[1]
BEGIN, END = "<!-- table: python docs/reproduce_table.py -->", "<!-- end of table -->"
COLUMNS = {
    "level: accuracy": ("level", "accuracy"),
    "kappa": ("level", "quadratic-weighted kappa"),
    "tissue: IoU": ("tissue", "iou"),
    "Dice": ("tissue", "dice"),
    "structures: mAP": ("structures", "mAP"),
}
NAMES = {"clean": "clean", "fgsm": "FGSM", "bim": "BIM", "pgd": "PGD", "mi": "MI-FGSM", "di": "DI-FGSM", "smia": "SMIA"}
TASKS = ("level", "tissue", "structures")


def table(folder: Path) -> str:
    """A line for each attack at the largest budget, and what the run says."""
    figures, spread = (pl.read_csv(folder / f"{name}.csv") for name in ("table", "spread"))
    eps = figures["eps"].max()
    heads = [f"at eps {format_eps(float(str(eps)), '[0, 1]')}", *COLUMNS, "sd over images", "over runs", "over tasks"]
    lines = [heads, ["---"] * len(heads)]
    for attack, name in NAMES.items():
        at = figures.filter(pl.col("attack") == attack, pl.col("eps") == (0 if attack == "clean" else eps))
        cells = [_figure(at.filter(part=part, metric=metric)) for part, metric in COLUMNS.values()]
        own = spread.filter(attack=attack, eps=eps)
        spreads = [_deviations(own, over, TASKS) for over in ("images", "runs")]
        lines.append([name, *cells, *spreads, _deviations(own, "tasks", ("all tasks",))])
    rows = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    said = [line for line in (folder / "summary.md").read_text(encoding="utf-8").splitlines() if line.startswith("**")]
    quoted = "\n>\n".join(f"> {line}" for line in said)
    return f"{rows}\n\n{EXPLAINED}\n\n{quoted}"


EXPLAINED = """\
In brackets: 95 % bootstrap intervals over slices. "sd": standard deviation of the effect on an image (drop of being
right, of Dice, of F1) in percent points, for level · tissue · structures; over tasks, of the mean effect as a share of
the clean value. What the run says of it, computed from its records (the first is not corrected for the number of
comparisons, the others are by Holm):"""


def _figure(row: pl.DataFrame) -> str:
    value, low, high = row.select("value", "low", "high").row(0)
    return f"{format_value(value, 3)} {format_interval(low, high)}".strip()


def _deviations(spread: pl.DataFrame, over: str, parts: Sequence[str]) -> str:
    """Of each part in percent points; nothing of clean images."""
    rows = [spread.filter(over=over, part=part) for part in parts]
    return " · ".join(format_value(100 * float(row["value"][0]) ** 0.5, 1) for row in rows if len(row))


if __name__ == "__main__":
    run = Path(sys.argv[1])
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    (ROOT / "README.md").write_text(f"{before}{BEGIN}\n{table(run)}\n{END}{rest.partition(END)[2]}", encoding="utf-8")
    with Image.open(run / "figure.png") as figure:
        figure.save(ROOT / "docs" / "reproduce.png", optimize=True)
