"""The figures of docs/defences.md: defences attacked by those who do not know them, and by those who do.

    python benchmarks/defences.py PNEUMONIAMNIST.NPZ [--only wrappers,certificate,screens,modalities]

A small network on chest X-rays (PneumoniaMNIST, 28 × 28; Yang et al., Scientific Data 2023), and one that tells the
level of the embedded brain slices, at half their size. Prints Markdown tables. About half an hour on one core.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import polars as pl
from torch.nn.functional import avg_pool2d

import medrobust as mr
from medrobust.attacks import Transfer
from medrobust.models.networks import LevelNet
from medrobust.models.randomness import seeded
from medrobust.reproduce.fitting import Fitting, fit
from medrobust.training import GaussianTraining
from medrobust.transforms import Transform

EPS = mr.Threat(4 / 255)
MEAN, STD = 0.5, 0.25
PLAIN = "none"
WRAPPERS: dict[str, Transform] = {
    PLAIN: mr.Chain(),
    "`smooth`": mr.Smooth(),
    "`median`": mr.MedianFilter(),
    "`bit_depth: {bits: 3}`": mr.BitDepth(3),
    "`jpeg: {quality: 75}`": mr.JPEG(75),
    "`resize`": mr.Resize(),
    "`random_resize`": mr.RandomResize(),
    "`noise: {sigma: 0.1}`": mr.Noise(0.1),
}
SIGMAS = (0.12, 0.25)


class Xrays:
    """The X-rays, and networks that learned from them."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def part(self, split: str, limit: int | None = None) -> mr.Dataset:
        """Some images of a split."""
        return mr.open_dataset(self.path, mr.DataOptions(split=split, limit=limit))

    @cache  # noqa: B019
    def victim(self) -> mr.Victim:
        """Three epochs of plain training."""
        how = Fitting(epochs=3, batch_size=32, learning_rate=3e-3)
        return fitted(mr.Classification(2), self.part("train"), how)

    def under_noise(self, sigma: float) -> mr.Victim:
        """Three epochs more, under noise."""
        how = mr.Training(epochs=3, batch_size=32, learning_rate=1e-3, normalisation="batch")
        method = GaussianTraining(sigma=sigma)
        return mr.harden(self.victim(), self.part("train"), self.part("val"), method, EPS, how).victim


def fitted(task: mr.Classification, data: mr.Dataset, how: Fitting) -> mr.Victim:
    """A small network that learned from images of one channel."""
    with seeded(0):
        network = LevelNet(channels=1, outputs=task.classes)
    fit(network, task, data, how, 0, lambda images: (images - MEAN) / STD)
    return mr.Victim(network, task, mean=MEAN, std=STD)


def wrappers(xrays: Xrays) -> Iterator[str]:
    """Every transform as a defence: attacked without being known, through it, and averaged over its draws."""
    victim, data = xrays.victim(), xrays.part("test", 200)
    yield "| defence | clean | unaware attack | aware attack |"
    yield "| --- | --- | --- | --- |"
    attacks = {"pgd": mr.PGD(steps=20, random_start=True), "apgd": mr.APGD(steps=40)}
    for name, transform in WRAPPERS.items():
        averaged = mr.PGD(steps=20, random_start=True, inputs=[mr.Expectation(transform, samples=16)])
        unaware = {f"unaware {label}": Transfer(attack, victim, "undefended") for label, attack in attacks.items()}
        aware = {**attacks, "averaged": Transfer(averaged, victim, "undefended")}
        records = mr.evaluate(mr.defended(victim, transform), data, aware | unaware, [EPS], gallery=0).records
        left = [records.filter(attack="pgd")["right_before"].mean()]
        for of_these in (unaware, aware):
            rows = records.filter(pl.col("attack").is_in(list(of_these)))
            left.append(rows.group_by("index").agg(pl.col("right_after").all())["right_after"].mean())
        yield f"| {name} | " + " | ".join(f"{share:.3f}" for share in left) + " |"


def certificate(xrays: Xrays) -> Iterator[str]:
    """Certified accuracy of the plain network and of those that learned under noise."""
    yield "| trained | sigma | accuracy of the vote | certified at ¼ sigma | ½ sigma | 1 sigma | 2 sigma | abstains |"
    yield "| --- | --- | --- | --- | --- | --- | --- | --- |"
    data = xrays.part("test", 200)
    for sigma in SIGMAS:
        for name, victim in (("plainly", xrays.victim()), ("under noise", xrays.under_noise(sigma))):
            found = mr.certify(victim, data, sigma, radii=[share * sigma for share in (0.25, 0.5, 1, 2)]).accuracy
            vote, abstains = (figure(found.filter(metric=one)) for one in ("accuracy of the vote", "abstained"))
            held = [figure(found.filter(metric="certified accuracy")[[place]]) for place in range(4)]
            yield f"| {name} | {sigma:g} | " + " | ".join([vote, *held, abstains]) + " |"


def screens(xrays: Xrays) -> Iterator[str]:
    """Squeezing, and a network that learned from SMIA, across attacks."""
    victim = xrays.victim()
    learned = mr.train_screen(victim, xrays.part("train", 1000), threat=EPS)
    yield f"accuracy of the learned screen on held-back images: {learned.info.accuracy:.2f}\n"
    both = {"squeezing": mr.Squeezing(), "learned": learned}
    attacks = {
        "fgsm": mr.FGSM(),
        "pgd": mr.PGD(),
        "smia": mr.SMIA(),
        "mi": mr.MIFGSM(),
        "apgd": mr.APGD(steps=30),
        "square": mr.Square(queries=500),
    }
    data, clean = xrays.part("test", 200), xrays.part("val", 200)
    found = mr.screen(victim, data, both, attacks, [EPS], calibration=clean)
    yield from table(found)
    yield ""
    nearest = {"cw": mr.CarliniWagner(searches=4, steps=50)}
    adaptive = {"pgd": mr.PGD(steps=40, random_start=True)}
    within = [mr.Threat(1.0, norm="l2")]
    yield from table(mr.screen(victim, data, both, nearest, within, calibration=clean, adaptive=adaptive))


def modalities(xrays: Xrays) -> Iterator[str]:
    """A screen that learned on one modality, on images of the other."""
    slices, unseen = slices_of("train"), slices_of("test")
    brain = fitted(mr.Classification(5, ordinal=True), slices, Fitting(epochs=40, batch_size=16, learning_rate=3e-3))
    how = mr.Training(epochs=25, learning_rate=1e-3, normalisation="batch", patience=0)
    both = {
        "learned on X-rays": mr.train_screen(xrays.victim(), xrays.part("train", 1000), threat=EPS),
        "learned on brain slices": mr.train_screen(brain, slices, threat=EPS, how=how),
    }
    attacks = {"pgd": mr.PGD(), "smia": mr.SMIA()}
    adaptive = {"pgd": mr.PGD(steps=20, random_start=True)}
    on_xrays = (xrays.victim(), xrays.part("test", 100), xrays.part("val", 200))
    for victim, data, clean in (on_xrays, (brain, unseen, slices)):
        yield f"\n{data.info.name}\n"
        yield from table(mr.screen(victim, data, both, attacks, [EPS], calibration=clean, adaptive=adaptive))


def slices_of(split: str) -> mr.InMemoryDataset:
    """The embedded brain slices with the level that they show, at half their size."""
    whole = mr.open_dataset("embedded:level", mr.DataOptions(split=split))
    samples = [replace(sample, image=avg_pool2d(sample.image, 2)) for sample in whole]
    return mr.InMemoryDataset(whole.info, samples)


def table(found: mr.Screened) -> Iterator[str]:
    """Of each screen and attack."""
    yield "| screen | attack | fooled | AUROC | detected | unnoticed |"
    yield "| --- | --- | --- | --- | --- | --- |"
    figures = found.figures
    for (screen, attack), rows in figures.group_by("screen", "attack", maintain_order=True):
        if attack == "clean":
            yield f"| {screen} | none: false alarms | | | {figure(rows)} | |"
            continue
        told = [figure(rows.filter(metric=one)) for one in ("fooled", "AUROC", "detected", "unnoticed")]
        yield f"| {screen} | {attack} | " + " | ".join(told) + " |"


def figure(rows: pl.DataFrame) -> str:
    """A value with its interval, in hundredths."""
    if not len(rows) or rows["value"][0] is None:
        return ""
    value, low, high = rows.select("value", "low", "high").row(0)
    return f"{value:.2f}" + ("" if low is None else f" ({low:.2f}–{high:.2f})")


TABLES: dict[str, Callable[[Xrays], Iterator[str]]] = {
    "wrappers": wrappers,
    "certificate": certificate,
    "screens": screens,
    "modalities": modalities,
}


def main() -> None:
    """Print the tables asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--only", default=",".join(TABLES))
    options = parser.parse_args()
    xrays = Xrays(options.data)
    for name in options.only.split(","):
        print(f"\n{name}\n", flush=True)
        for line in TABLES[name](xrays):
            print(line, flush=True)


if __name__ == "__main__":
    main()
