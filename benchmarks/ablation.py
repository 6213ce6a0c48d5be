"""Which form of SMIA does best? Every option changed by itself, against PGD, MI, TI and EOT, at equal cost.

    python benchmarks/ablation.py --data DATA --out ablation/ [--only lung,level] [--seeds 3] [--limit 12] [--jobs 1]
    python benchmarks/ablation_table.py ablation/ --out docs/ablation

Set × network × seed is a cell: the network learns with the seed, the attacks draw with it, and every attacked image is
measured as it is, smoothed, at half size and back, through JPEG, rounded to 8 bits, by the network of another seed and
by the other network. A cell is a Parquet file of a row an image × attack × look, written whole; one that is there is
not made again. Two to eight minutes of a core a cell, and a minute or two to train its network.
"""

from __future__ import annotations

import argparse
from multiprocessing import get_context
from pathlib import Path

import polars as pl
import torch
from ablation_attacks import variants
from ablation_sets import BENCHMARKS, chosen, every_cell, network

import medrobust as mr
from medrobust.evaluation import SURVIVAL, another_model
from medrobust.jobs import task_for
from medrobust.reproduce.fitting import fit
from medrobust.reproduce.keeping import trained_once
from medrobust.statistics.metrics import image_values

MEAN, STD = 0.5, 0.25
LOOKS = [check for check in SURVIVAL if check.name != "JPEG 90"]
CELL = ["set", "network", "seed"]
MANY = 8  # times as many of the small x-rays as of the others


def main() -> None:
    """Make the cells that are not there yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--out", type=Path, required=True, help="folder of the cells and trained networks")
    parser.add_argument("--only", default=",".join(BENCHMARKS), help="sets, comma-separated")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--limit", type=int, default=8, help="test images of a set (x-rays: eight times as many)")
    parser.add_argument("--attacks", help="comma-separated; all when not given")
    parser.add_argument("--done", type=Path, help="a file of rows: what is in it is not made again")
    parser.add_argument("--jobs", type=int, default=1, help="processes of one thread each")
    given = parser.parse_args()
    if given.seeds < 2:
        parser.error("--seeds: at least 2, as images are shown to the network of another seed")
    (given.out / "weights").mkdir(parents=True, exist_ok=True)
    done = set(pl.read_parquet(given.done).select(CELL).unique().iter_rows()) if given.done else set()
    cells = [(given, *cell) for cell in every_cell(given.only.split(","), given.seeds) if cell not in done]
    with get_context("spawn").Pool(given.jobs) as pool:
        for told in pool.imap_unordered(_cell, cells):
            print(told, flush=True)


def _cell(cell: tuple[argparse.Namespace, str, str, int]) -> str:
    given, name, source, seed = cell
    torch.set_num_threads(1)
    path = given.out / f"{name}-{_safe(source)}-{seed}.parquet"
    if path.exists():
        return f"{path.name} is there"
    benchmark = BENCHMARKS[name]
    training, test = benchmark.open(given.data)
    test = chosen(test, given.limit * (MANY if name == "x-ray" else 1))
    other = benchmark.networks[1 - benchmark.networks.index(source)]
    victim = _victim(given, name, source, seed, training)
    looks = [
        *LOOKS,
        another_model(_victim(given, name, source, (seed + 1) % given.seeds, training), victim, "another seed"),
        another_model(_victim(given, name, other, seed, training), victim, "another network"),
    ]
    made = {label: variant.attack for label, variant in variants(test[0].image.shape[-1]).items()}
    if given.attacks:
        made = {label: made[label] for label in given.attacks.split(",")}
    run = mr.evaluate(
        victim,
        test,
        made,
        [mr.Threat(eps=benchmark.eps / 255)],
        seed=seed,
        name=name,
        model_name=source,
        gallery=0,
        afterchecks=looks,
    )
    rows = _rows(run, name).with_columns(network=pl.lit(source), seed=pl.lit(seed, pl.Int8))
    unfinished = path.with_suffix(".unfinished")
    rows.write_parquet(unfinished)
    unfinished.rename(path)
    asked = rows.filter(look="as it is").group_by("attack", maintain_order=True).agg(pl.col("before", "after").mean())
    left = ", ".join(f"{row['attack']} {row['after']:.3f}" for row in asked.iter_rows(named=True))
    return f"{path.name}: clean {asked['before'][0]:.3f}; {left} ({run.info.seconds:.0f} s)"


def _rows(run: mr.Run, name: str) -> pl.DataFrame:
    """A row an image × attack × look: what it is worth before and after (1 or 0 for right, or Dice), and its loss."""
    frames = []
    for part, info in run.info.parts.items():
        rows = run.records.filter(part=part)
        frames.append(
            rows.select(
                pl.lit(name).alias("set"),
                pl.lit("as it is" if part == name else part.removeprefix(f"{name}, ")).alias("look"),
                "attack",
                (pl.col("eps") * 255).round(3).alias("eps"),
                pl.col("index").cast(pl.Int16),
                pl.Series("before", image_values(rows, info, "before"), pl.Float32),
                pl.Series("after", image_values(rows, info, "after"), pl.Float32),
                pl.col("loss_before", "loss_after").cast(pl.Float32),
            )
        )
    return pl.concat(frames)


def _victim(given: argparse.Namespace, name: str, source: str, seed: int, training: mr.Dataset) -> mr.Victim:
    task, how = task_for(training.info), BENCHMARKS[name].fitting
    model = network(source, training, seed)
    trained_once(
        model,
        lambda: fit(model, task, training, how, seed, lambda images: (images - MEAN) / STD),
        given.out / "weights" / f"{name}-{_safe(source)}-{seed}.safetensors",
        {"data": training.fingerprint(), "how": repr(how), "network": source, "seed": seed},
    )
    return mr.Victim(model.eval(), task, training.info.bounds, MEAN, STD)


def _safe(source: str) -> str:
    return source.replace(":", "-")


if __name__ == "__main__":
    main()
