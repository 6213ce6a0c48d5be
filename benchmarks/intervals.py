"""How long the figures of a large run take: records without a model, then `summarise`.

    python benchmarks/intervals.py [--images 10000] [--attacks 20] [--budgets 4] [--classes 2] [--resamples 2000]

A classifier's records; `--patients` images share a patient (two by two, unless told otherwise). Prints the seconds, the
most memory that the process held, and, with `--profile`, where the time went.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import resource
import time

import numpy as np
import polars as pl

from medrobust.data.dataset import DatasetInfo
from medrobust.evaluation.records import SCHEMA, PartInfo, RunInfo
from medrobust.statistics import summarise


def classifier_run(
    images: int, attacks: int, budgets: int, classes: int, patients: int, seed: int = 0
) -> tuple[pl.DataFrame, RunInfo]:
    """Records of a classifier that loses the more logit of the true class the larger eps, and what reads them."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, classes, images)
    base = rng.normal(0, 1, (images, classes))
    base[np.arange(images), truth] += 2.5
    before = _softmax(base)
    frames = []
    for attack in range(attacks):
        for budget in range(1, budgets + 1):
            logits = base + rng.normal(0, 0.3, base.shape)
            logits[np.arange(images), truth] -= budget * (0.6 + 0.02 * attack)
            after = _softmax(logits)
            frames.append(_rows(f"attack {attack}", budget / 255, truth, before, after, patients))
    records = pl.concat(frames)
    empty = [pl.lit(None).alias(name) for name in SCHEMA if name not in records.columns]
    labels = tuple(f"attack {number}" for number in range(attacks))
    return records.with_columns(empty).select(list(SCHEMA)).cast(dict(SCHEMA)), _info(images, classes, labels, budgets)


def _softmax(logits: np.ndarray) -> np.ndarray:
    shifted = np.exp(logits - logits.max(1, keepdims=True))
    return np.asarray(shifted / shifted.sum(1, keepdims=True), np.float32)


def _rows(
    attack: str, eps: float, truth: np.ndarray, before: np.ndarray, after: np.ndarray, patients: int
) -> pl.DataFrame:
    images = len(truth)
    answers = {"before": before.argmax(1), "after": after.argmax(1)}
    scores = {"before": before, "after": after}
    columns: dict[str, object] = {
        "part": pl.repeat("p", images, eager=True),
        "index": np.arange(images),
        "id": np.arange(images).astype(str),
        "patient": (np.arange(images) % patients).astype(str) if patients else None,
        "attack": pl.repeat(attack, images, eager=True),
        "norm": pl.repeat("linf", images, eager=True),
        "eps": pl.repeat(eps, images, eager=True),
        "truth": _lists(truth[:, None]),
        "success": answers["after"] != truth,
        "loss_after": -np.log(after[np.arange(images), truth] + 1e-12).astype(np.float64),
    }
    for when in ("before", "after"):
        columns |= {
            f"prediction_{when}": _lists(answers[when][:, None]),
            f"scores_{when}": _lists(scores[when]),
            f"right_{when}": answers[when] == truth,
        }
    columns |= {"linf": np.full(images, eps), "l2": np.full(images, 40 * eps)}
    noise = np.random.default_rng(0).normal(0, 0.01, images)
    columns |= {"psnr": 40 + noise, "ssim": 0.9 + noise}
    return pl.DataFrame({name: values for name, values in columns.items() if values is not None})


def _lists(rows: np.ndarray) -> pl.Series:
    return pl.Series(rows).arr.to_list()


def _info(images: int, classes: int, attacks: tuple[str, ...], budgets: int) -> RunInfo:
    names = tuple(f"class {number}" for number in range(classes))
    dataset = DatasetInfo(
        name="synthetic",
        task="classification",
        classes=names,
        channels=1,
        unit="[0, 1]",
        bounds=(0.0, 1.0),
        source="embedded",
    )
    threats: list[dict[str, object]] = [
        {"norm": "linf", "eps": budget / 255, "unit": "[0, 1]"} for budget in range(1, budgets + 1)
    ]
    described: dict[str, dict[str, object]] = {label: {"attack": label} for label in attacks}
    part = PartInfo(dataset, images, images, "d" * 64, "synthetic", "a" * 64, 0, "classification", described, threats)
    return RunInfo({"p": part}, 0, "2026-01-01T00:00:00+00:00", 0.0, "cpu", {})


def main() -> None:
    """Make the records, summarise them, print what it took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--attacks", type=int, default=20)
    parser.add_argument("--budgets", type=int, default=4)
    parser.add_argument("--classes", type=int, default=2)
    parser.add_argument("--patients", type=int, default=5_000, help="0: unknown")
    parser.add_argument("--resamples", type=int, default=2_000)
    parser.add_argument("--profile", action="store_true")
    asked = parser.parse_args()
    records, info = classifier_run(asked.images, asked.attacks, asked.budgets, asked.classes, asked.patients)
    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    profile = cProfile.Profile()
    started, processor = time.perf_counter(), time.process_time()
    if asked.profile:
        profile.enable()
    table = summarise(records, info, resamples=asked.resamples)
    if asked.profile:
        profile.disable()
        pstats.Stats(profile).sort_stats("cumulative").print_stats(35)
    seconds, busy = time.perf_counter() - started, time.process_time() - processor
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{len(records):,} records, {len(table):,} figures, {asked.resamples:,} resamples")
    print(f"{seconds:.1f} s ({busy:.1f} s of processors); {held:.0f} MB with the records, at most {most:.0f} MB")


if __name__ == "__main__":
    main()
