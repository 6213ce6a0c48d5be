"""Simulate how often intervals hold the true figure, and write the table in docs/statistics.md anew.

    python docs/coverage.py [--repeats 1000] [--resamples 2000] [--only NAME]

Made-up populations, whose true figures are known. Of each, samples of 10 to 300 patients (or images) are drawn; each
gets the interval that the summary gives to a figure of its kind, and, to compare, the plain percentile interval of the
same resamples. With `--only` the rows of one population are printed and nothing is written.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from medrobust.statistics.auroc import Auroc, MacroAuroc, Question
from medrobust.statistics.average_precision import AveragePrecision, mean_over_classes
from medrobust.statistics.figure import Figure
from medrobust.statistics.matching import Boxes
from medrobust.statistics.resampling import Statistic, TableStatistic, bootstrap, combined, percentile_interval
from medrobust.statistics.sums import mean, quadratic_kappa

PAGE = Path(__file__).parent / "statistics.md"
BEGIN, END = "<!-- table: python docs/coverage.py -->", "<!-- end of table -->"
SIZES = (10, 20, 40, 100, 300)
Rng = np.random.Generator
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Sample:
    """What an interval is made of: statistics, the function of them that is the figure, and how many images."""

    statistics: Sequence[Statistic]
    images: int
    of: Callable[[Floats], Floats] | None = None
    is_share: bool = False


@dataclass(frozen=True)
class Population:
    """A kind of figure, its true value, and samples of so many clusters."""

    figure: str
    truth: Callable[[], float]
    sample: Callable[[int, Rng], Sample]
    sizes: Sequence[int] = SIZES


def _patients(count: int, rng: Rng) -> NDArray[np.int64]:
    """The patient of each image: one to five images a patient."""
    return np.repeat(np.arange(count), rng.integers(1, 6, count))


def _alike(codes: NDArray[np.int64], count: int, rng: Rng) -> Floats:
    """Standard normal values, of which half the variance is the patient's."""
    return (rng.normal(0, 1, count)[codes] + rng.normal(0, 1, len(codes))) / np.sqrt(2)


def independent_share(share: float, count: int, rng: Rng) -> Sample:
    """Images without patients."""
    right = (rng.random(count) < share).astype(np.float64)
    return Sample([mean(right, np.arange(count), count)], count, is_share=True)


def share_by_patient(share: float, count: int, rng: Rng) -> Sample:
    """The images of a patient are alike."""
    codes = _patients(count, rng)
    right = (_alike(codes, count, rng) < norm.ppf(share)).astype(np.float64)
    return Sample([mean(right, codes, count)], len(codes), is_share=True)


def skewed_drop(count: int, rng: Rng) -> Sample:
    """Drops of which a few are large: exponential, by patient and by image."""
    codes = _patients(count, rng)
    drop = rng.exponential(0.1, count)[codes] + rng.exponential(0.1, len(codes))
    return Sample([mean(drop, codes, count)], len(codes))


def kappa(count: int, rng: Rng) -> Sample:
    """Five grades, most of them low; a fifth is graded one too low, a fifth one too high, a tenth anyhow."""
    truth = rng.choice(5, count, p=[0.4, 0.25, 0.2, 0.1, 0.05])
    answer = np.clip(truth + rng.choice([-1, 0, 1], count, p=[0.2, 0.6, 0.2]), 0, 4)
    answer = np.where(rng.random(count) < 0.1, rng.integers(0, 5, count), answer)
    return Sample([quadratic_kappa(truth, answer, np.arange(count), count)], count)


def auroc(area: float, count: int, rng: Rng) -> Sample:
    """Normal scores; three patients of ten are ill, in all their images."""
    codes = _patients(count, rng)
    ill = (rng.random(count) < 0.3)[codes]
    scores = _alike(codes, count, rng) + np.sqrt(2) * norm.ppf(area) * ill
    if ill.all() or not ill.any():
        return auroc(area, count, rng)
    return Sample([MacroAuroc([Auroc.ranked(Question(scores, ill, codes))])], len(codes))


_SHARES = (0.9, 0.7, 0.5, 0.3)  # right at 0, 1, 2 and 3 budgets


def area(count: int, rng: Rng) -> Sample:
    """The area under a curve of shares of the same images, by trapezoids."""
    codes = _patients(count, rng)
    hard = _alike(codes, count, rng)
    curve = [mean((hard < norm.ppf(share)).astype(np.float64), codes, count) for share in _SHARES]
    weights = np.array([1, 2, 2, 1]) / 6
    return Sample(curve, len(codes), partial(np.matmul, weights))


_ATTACKS = (0.5, 0.5, 0.52, 0.55, 0.6)  # right under each of five attacks


def strongest(count: int, rng: Rng) -> Sample:
    """The lowest of five shares that are much the same: which attack is the strongest is often mistaken."""
    codes = _patients(count, rng)
    hard, own = _alike(codes, count, rng), rng.normal(0, 1, (len(_ATTACKS), len(codes)))
    right = ((hard + own) / np.sqrt(2) < norm.ppf(_ATTACKS)[:, None]).astype(np.float64)
    return Sample([mean(each, codes, count) for each in right], len(codes), partial(np.min, axis=0))


def precision(count: int, rng: Rng) -> Sample:
    """Images more or less hard, two objects of three classes each on average and as many wrong detections."""
    table = detections(count, rng)
    return Sample([TableStatistic((table,), _over_all)], count)


def _over_all(values: Floats) -> Floats:
    return mean_over_classes(values[AveragePrecision.OVER_ALL])


def detections(images: int, rng: Rng) -> AveragePrecision:
    """The table of so many such images."""
    hard = rng.gamma(2, 1.5, images)
    truth: list[tuple[float, ...]] = []
    found: list[tuple[float, ...]] = []
    for image in range(images):
        for _ in range(rng.poisson(2)):
            label, corners = int(rng.integers(3)), _anywhere(rng)
            truth.append((image, label, *corners, 1.0))
            if rng.random() < 0.9:
                found.append(
                    (image, label, *(corners + rng.normal(0, 1 + hard[image], 4)), rng.beta(6, 2 + hard[image] / 2))
                )
        found += [(image, int(rng.integers(3)), *_anywhere(rng), rng.beta(3, 5)) for _ in range(rng.poisson(2))]
    return AveragePrecision.ranked(_boxes(truth), _boxes(found), np.arange(images), images)


def _anywhere(rng: Rng) -> Floats:
    corner = rng.uniform(0, 200, 2)
    return np.concatenate([corner, corner + rng.uniform(20, 80, 2)])


def _boxes(rows: list[tuple[float, ...]]) -> Boxes:
    table = np.array(rows, np.float64).reshape(-1, 7)
    return Boxes(table[:, 0].astype(np.int64), table[:, 1].astype(np.int64), table[:, 2:6], table[:, 6])


@cache
def _of_many(sample: Callable[[int, Rng], Sample], count: int) -> float:
    """The figure of a very large sample."""
    return float(sample(count, np.random.default_rng(99)).statistics[0].draws(np.ones((count, 1), np.float32))[0])


POPULATIONS = [
    Population("share of independent images, 80 % right", lambda: 0.8, partial(independent_share, 0.8)),
    Population("share of independent images, 95 % right", lambda: 0.95, partial(independent_share, 0.95)),
    Population("share by patient, 80 % right", lambda: 0.8, partial(share_by_patient, 0.8)),
    Population("share by patient, 95 % right", lambda: 0.95, partial(share_by_patient, 0.95)),
    Population("mean of skewed drops, by patient", lambda: 0.2, skewed_drop),
    Population("quadratic-weighted kappa", partial(_of_many, kappa, 2_000_000), kappa),
    Population("AUROC of 0.75, by patient", lambda: 0.75, partial(auroc, 0.75), SIZES[1:]),
    Population("AUROC of 0.95, by patient", lambda: 0.95, partial(auroc, 0.95), SIZES[1:]),
    Population("area under a curve of shares, by patient", lambda: 0.6, area),
    Population("strongest of five like attacks, by patient", lambda: 0.5, strongest),
    Population("mAP", partial(_of_many, precision, 8000), precision, (20, 40, 100)),
]


def coverage(population: Population, count: int, repeats: int, resamples: int, seed: int = 0) -> tuple[float, ...]:
    """Shares of 95 % intervals that hold the truth, ours and percentile, and the share of samples without ours."""
    rng, truth = np.random.default_rng([seed, count]), population.truth()
    held = given = by_percentile = 0
    for repeat in range(repeats):
        sample = population.sample(count, rng)
        parts = bootstrap(sample.statistics, count, resamples, seed=repeat)
        drawn = parts[0] if sample.of is None else combined(sample.of, parts)
        one_share = sample.is_share and sample.of is None
        key = ("", "", 0.0)
        figure = Figure("", key, drawn.value, sample.images, count, drawn, sample.is_share, one_share)
        if (found := figure.interval(0.95)) is not None:
            (low, high), _ = found
            held, given = held + (low <= truth <= high), given + 1
        plain = percentile_interval(drawn.draws, 0.95)
        by_percentile += plain is not None and plain[0] <= truth <= plain[1]
    return held / max(given, 1), by_percentile / repeats, 1 - given / repeats


def rows(populations: Sequence[Population], repeats: int, resamples: int) -> Iterator[str]:
    """The lines of the table."""
    for population in populations:
        few = repeats if population.figure != "mAP" else repeats // 4
        cells = dict.fromkeys(SIZES, "")
        for count in population.sizes:
            ours, plain, _ = coverage(population, count, few, resamples)
            cells[count] = f"{100 * ours:.1f} ({100 * plain:.1f})"
        yield f"| {population.figure} | " + " | ".join(cells.values()) + " |"


def main() -> None:
    """Print the rows, and put them into the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=1000)
    parser.add_argument("--resamples", type=int, default=2000)
    parser.add_argument("--only", help="part of the name of a population")
    asked = parser.parse_args()
    chosen = [population for population in POPULATIONS if not asked.only or asked.only in population.figure]
    lines = ["| figure | " + " | ".join(map(str, SIZES)) + " |", "| --- |" + " --- |" * len(SIZES)]
    for line in rows(chosen, asked.repeats, asked.resamples):
        print(line, flush=True)
        lines.append(line)
    if not asked.only:
        before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
        after = rest.partition(END)[2]
        PAGE.write_text("\n".join([before + BEGIN, "", *lines, "", END]) + after, encoding="utf-8")


if __name__ == "__main__":
    main()
