"""The tables of the ablation, from the rows that `ablation.py` left.

    python benchmarks/ablation_table.py docs/ablation.parquet ablation/ --records docs/ablation.parquet
    python benchmarks/ablation_table.py docs/ablation.parquet --into docs/ablation.md

What is left of an image is its Dice, or the probability of its true class (whether the answer is right would tell
attacks apart on few images only); networks and seeds are averaged image by image, so that an image is one observation.
The overall figure is the mean over sets of what is left as a share of the set's clean value, every set weighing the
same. Differences are paired; p is the two-sided sign-flip test over images, corrected by Holm for the attacks of a
column. Networks and seeds are those of the table: the tests say nothing of others; how many of the cells (set × network
× seed) agree is told besides.

The rule by which a default is chosen, written before the figures were seen: the form that leaves least as it is, if it
leaves less than today's there (p < .05) and not more (p < .05) under any other look. Else today's stays. What was seen
later is that p-values of so few images show a loss late, so that the rule favours change: beside its verdict stand all
forms that leave less as they are, with the look under which each does worst.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from ablation_attacks import variants
from ablation_sets import BENCHMARKS, CLASSIFIERS
from numpy.typing import NDArray

from medrobust.statistics.comparison import sign_flip_test
from medrobust.statistics.paired_tests import holm
from medrobust.statistics.resampling import clusters_of, multiplicities, percentile_interval

BEGIN, END = "<!-- tables -->", "<!-- end of tables -->"
AS_IT_IS = "as it is"
TODAY, ALPHA = "smia", 0.05
OTHERS = ("pgd", "bim", "mi", "ti", "eot", "smia+mi", "smia+ti", "smia+eot")  # no forms of the term
KEY = ["set", "index"]
CELL = ["set", "network", "seed"]
RESAMPLES = 4000


@dataclass(frozen=True)
class Compared:
    """One attack less another under one look, as shares of the clean values; negative: the first leaves less."""

    difference: float
    low: float
    high: float
    p_value: float
    cells_won: int
    cells_lost: int

    def text(self, corrected: float) -> str:
        """In percent points, with a star where the corrected test shows a difference."""
        star = "\\*" if corrected < 0.05 else ""
        return f"{100 * self.difference:+.1f} [{100 * self.low:+.1f}, {100 * self.high:+.1f}]{star}"


def main() -> None:
    """Print Markdown, or put it into a page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cells", type=Path, nargs="+", help="folders of cells, or files of several")
    parser.add_argument("--records", type=Path, help="write all rows to this one file")
    parser.add_argument("--into", type=Path, help="a page, to put the tables between its marks")
    given = parser.parse_args()
    rows = read(given.cells)
    if given.records:
        rows.write_parquet(unfinished := given.records.with_suffix(".unfinished"), compression="zstd")
        unfinished.rename(given.records)
    tables = page(judged(rows))
    if given.into is None:
        print(tables)
        return
    put_into(given.into, tables, BEGIN, END)


def put_into(page: Path, text: str, begin: str, end: str) -> None:
    """Replace what stands between two marks of a page."""
    before, rest = page.read_text(encoding="utf-8").split(begin)
    page.write_text(f"{before}{begin}\n{text}\n{end}{rest.split(end)[1]}", encoding="utf-8")


def read(paths: Sequence[Path]) -> pl.DataFrame:
    """All rows of complete cells, as `ablation.py` wrote them; a cell that is there twice counts once."""
    files = [file for path in paths for file in ([path] if path.is_file() else sorted(path.glob("*.parquet")))]
    rows = pl.concat([pl.read_parquet(file) for file in files])
    return rows.unique([*CELL, "look", "attack", "index"], keep="last").sort(*CELL, "look", "attack", "index")


def judged(rows: pl.DataFrame) -> pl.DataFrame:
    """With what is left of an image as "before" and "after": its Dice, or the probability of its true class."""
    classified = pl.col("set").is_in([name for name, one in BENCHMARKS.items() if one.networks == CLASSIFIERS])
    return rows.with_columns(
        pl.when(classified).then((-pl.col(f"loss_{when}")).exp()).otherwise(pl.col(when)).alias(when)
        for when in ("before", "after")
    )


def page(rows: pl.DataFrame) -> str:
    """The tables one after the other."""
    tables = [coverage(rows), overall(rows), decision(rows), against(rows, TODAY), against(rows, "pgd"), by_set(rows)]
    return "\n\n".join(tables)


def decision(rows: pl.DataFrame) -> str:
    """What the rule says, and the forms of SMIA that leave less than today's as they are, the strongest first."""
    others = [look for look in _looks(rows) if look != AS_IT_IS]
    forms = [label for label in _labels(rows) if label not in (*OTHERS, TODAY)]
    found = {label: compare(rows, AS_IT_IS, label, TODAY) for label in forms}
    better = sorted((one for one in forms if _less(found[one])), key=lambda label: found[label].difference)
    lines, verdicts = [], {}
    for label in better:
        elsewhere = {look: compare(rows, look, label, TODAY) for look in others}
        worse = [look for look, one in elsewhere.items() if one.difference > 0 and one.p_value < ALPHA]
        worst = max(others, key=lambda look: elsewhere[look].difference)
        verdicts[label] = not worse
        texts = [found[label].text(1.0), f"{worst} {elsewhere[worst].text(1.0)}", ", ".join(worse) or "–"]
        lines.append([f"`{label}`", *texts])
    least = min(forms, key=lambda label: found[label].difference)
    chosen = verdicts.get(least, False)
    told = f"of SMIA's forms `{least}` leaves least as it is, and "
    told += "is not shown to leave more elsewhere: it becomes the default" if chosen else "today's default stays"
    if better and not chosen:
        allowed = [f"`{label}`" for label, passes in verdicts.items() if passes]
        told += f"; forms that win as they are and lose nowhere: {', '.join(allowed) or 'none'}"
    heads = ["form", "as it is", "worst look", "leaves more (p < .05)"]
    return f"By the rule {told}.\n\n" + _table(heads, lines)


def _less(one: Compared) -> bool:
    return one.difference < 0 and one.p_value < ALPHA


def coverage(rows: pl.DataFrame) -> str:
    """What was measured."""
    lines = []
    for name in _sets(rows):
        of_set = rows.filter(pl.col("set") == name, pl.col("look") == AS_IT_IS)
        clean = of_set.group_by("network").agg(pl.col("before").mean()).sort("network")
        lines.append(
            [
                BENCHMARKS[name].title,
                f"{of_set['eps'][0]:g}/255",
                str(of_set["index"].n_unique()),
                ", ".join(f"{network} ({before:.2f})" for network, before in clean.iter_rows()),
                str(of_set.select(*CELL).unique().height),
            ]
        )
    return _table(["set", "eps", "images", "networks (clean)", "cells"], lines)


def overall(rows: pl.DataFrame) -> str:
    """What is left under each look, in percent of the clean value, the mean over sets."""
    looks = _looks(rows)
    lines = []
    for label in _labels(rows):
        cells = [f"{100 * _left(rows, look, label):.1f}" for look in looks]
        lines.append([f"`{label}`", *cells])
    return "What is left, in percent of the clean value, mean over sets:\n\n" + _table(["attack", *looks], lines)


def against(rows: pl.DataFrame, reference: str) -> str:
    """Each attack less the reference, by look."""
    looks, labels = _looks(rows), [label for label in _labels(rows) if label != reference]
    columns = {}
    for look in looks:
        compared = [compare(rows, look, label, reference) for label in labels]
        corrected = holm([one.p_value for one in compared])
        columns[look] = list(zip(compared, corrected, strict=True))
    lines = []
    for place, label in enumerate(labels):
        first = columns[AS_IT_IS][place][0]
        cells = [one.text(p) for one, p in (columns[look][place] for look in looks)]
        lines.append([f"`{label}`", *cells, f"{first.cells_won}–{first.cells_lost}"])
    words = (
        f"What is left under an attack less what is left under `{reference}`, in percent points of the clean value "
        "(negative: the attack is stronger), with 95 % intervals; \\*: p < .05 after Holm's correction within the "
        "column. Cells: how many as they are in which it is stronger – weaker:"
    )
    return f"{words}\n\n" + _table(["attack", *looks, "cells"], lines)


def by_set(rows: pl.DataFrame) -> str:
    """What is left as it is, set by set, in the sets' own measure."""
    names = _sets(rows)
    seen = rows.filter(pl.col("look") == AS_IT_IS)
    means = {
        (str(name), str(label)): after
        for name, label, after in seen.group_by("set", "attack").agg(pl.col("after").mean()).iter_rows()
    }
    lines = [[f"`{label}`", *(f"{means[name, label]:.3f}" for name in names)] for label in _labels(rows)]
    return "What is left as it is (probability of the truth, or Dice):\n\n" + _table(["attack", *names], lines)


def compare(rows: pl.DataFrame, look: str, label: str, reference: str) -> Compared:
    """Paired by image; every set weighs the same."""
    one, other = (_images(rows, look, attack) for attack in (label, reference))
    paired = one.join(other, KEY, suffix="_other").sort(KEY)
    drops = paired.select(pl.col("set"), share=(pl.col("after") - pl.col("after_other")) / pl.col("clean"))
    draws, means, weighted = [], [], []
    for seed, (_, group) in enumerate(drops.group_by("set", maintain_order=True)):
        values = group["share"].to_numpy()
        drawn = np.concatenate(list(multiplicities(len(values), RESAMPLES, seed)))
        draws.append(drawn @ values / len(values))
        means.append(values.mean())
        weighted.append(values / len(values))
    flat: NDArray[np.float64] = np.concatenate(weighted)
    alone = clusters_of(pl.Series([None] * len(flat), dtype=pl.String))
    low, high = percentile_interval(np.mean(draws, axis=0), 0.95) or (np.nan, np.nan)
    won, lost = _cells(rows, look, label, reference)
    return Compared(float(np.mean(means)), low, high, sign_flip_test(flat, alone, 0), won, lost)


def _cells(rows: pl.DataFrame, look: str, label: str, reference: str) -> tuple[int, int]:
    means = rows.filter(pl.col("look") == look).group_by(*CELL, "attack").agg(pl.col("after").mean())
    one, other = (means.filter(pl.col("attack") == attack) for attack in (label, reference))
    difference = one.join(other, CELL, suffix="_other").select(d=pl.col("after") - pl.col("after_other"))["d"]
    return int((difference < -1e-6).sum()), int((difference > 1e-6).sum())


def _images(rows: pl.DataFrame, look: str, label: str) -> pl.DataFrame:
    """One row an image: the mean over its cells, and the set's clean value under this look."""
    seen = rows.filter(pl.col("look") == look, pl.col("attack") == label)
    clean = seen.group_by("set").agg(clean=pl.col("before").mean())
    return seen.group_by(KEY).agg(pl.col("after").mean()).join(clean, "set")


def _left(rows: pl.DataFrame, look: str, label: str) -> float:
    images = _images(rows, look, label)
    shares = images.group_by("set").agg((pl.col("after") / pl.col("clean")).mean())
    return float(shares["after"].mean())  # type: ignore[arg-type]


def _sets(rows: pl.DataFrame) -> list[str]:
    there = set(rows["set"].cast(pl.String).unique())
    return [name for name in BENCHMARKS if name in there]


def _labels(rows: pl.DataFrame) -> list[str]:
    there = set(rows["attack"].cast(pl.String).unique())
    return [label for label in variants(128) if label in there]


def _looks(rows: pl.DataFrame) -> list[str]:
    there = rows["look"].cast(pl.String).unique().sort().to_list()
    order = [AS_IT_IS, "8-bit rounding", "JPEG 75", "Gaussian smoothing", "half size and back"]
    return sorted(there, key=lambda look: (order.index(look) if look in order else len(order), look))


def _table(heads: list[str], lines: list[list[str]]) -> str:
    rows = [heads, ["---"] * len(heads), *lines]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


if __name__ == "__main__":
    main()
