"""Every benchmark attacked by every attack at every budget, in several runs, each with a model of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import polars as pl

from medrobust.attacks import Attack, make_attack
from medrobust.checks import at_least
from medrobust.errors import InputError
from medrobust.evaluation import SCHEMA, SURVIVAL, Aftercheck, RunInfo, another_model, own_parts
from medrobust.reproduce.benchmarks import Benchmark
from medrobust.run import Run, evaluate, load_run
from medrobust.statistics import compare_attacks, summarise
from medrobust.statistics.spread import spread
from medrobust.threat import Threat

ATTACKS = ("fgsm", "bim", "pgd", "mi", "di", "smia")
BUDGETS = (2 / 255, 4 / 255, 8 / 255)
REFERENCE = "smia"


@dataclass(frozen=True)
class Experiment:
    """What is done.

    Args:
        benchmarks: the tasks; any number of them.
        attacks: label → attack; the paper's six when not given.
        budgets: eps of L∞, in the benchmarks' data units, which must be one.
        runs: each trains models, and attacks, with a seed of its own: 0, 1, …
        survive: measure the attacked images once more after 8-bit rounding, JPEG, smoothing, resampling, and on the
            model of another run, where runs have models of their own.
        batch_size: images attacked together.

    Raises:
        InputError: there is nothing to do, or the benchmarks have different units.
    """

    benchmarks: Sequence[Benchmark]
    attacks: dict[str, Attack] = field(default_factory=lambda: {name: make_attack(name) for name in ATTACKS})
    budgets: Sequence[float] = BUDGETS
    runs: int = 3
    survive: bool = False
    batch_size: int = 16

    def __post_init__(self) -> None:
        if not self.benchmarks or not self.budgets:
            raise InputError("nothing to do: give at least one data set and one budget")
        at_least("runs", self.runs, 1)
        at_least("batch_size", self.batch_size, 1)
        if len(set(self.budgets)) < len(self.budgets):
            raise InputError("a budget is given twice")
        units = {benchmark.test.info.unit for benchmark in self.benchmarks}
        if len(units) > 1:
            raise InputError(f"one budget cannot be for data in {' and '.join(sorted(units))}")

    def describe(self) -> dict[str, object]:
        """All that the figures hang on, for `run.json`."""
        return {
            "reproduce": {benchmark.key: benchmark.describe() for benchmark in self.benchmarks},
            "attacks": {label: attack.describe() for label, attack in self.attacks.items()},
            "eps": list(self.budgets),
            "survive": self.survive,
        }


@dataclass(frozen=True)
class Outcome:
    """What came of it; every figure is computed from the runs' records."""

    runs: Sequence[Run]

    @property
    def tasks(self) -> list[str]:
        """The parts that are benchmarks, not aftercheck of one."""
        return list(own_parts(self.info.parts))

    @property
    def info(self) -> RunInfo:
        """What was evaluated, as told by the first run."""
        return self.runs[0].info

    @cached_property
    def pooled(self) -> pl.DataFrame:
        """The records of all runs as if of one: an image is there once a run, as one cluster with itself."""
        size = 1 + max(int(part.size) for part in self.info.parts.values())
        image = pl.format("image {}", "index")
        alone = pl.col("patient").n_unique().over("part") == 1  # of one patient, images are what can be resampled
        frames = [
            run.records.with_columns(
                pl.when(alone).then(image).otherwise(pl.col("patient").fill_null(image)).alias("patient"),
                pl.col("index") + place * size,
            )
            for place, run in enumerate(self.runs)
        ]
        return pl.concat(frames).select(list(SCHEMA))

    @cached_property
    def summary(self) -> pl.DataFrame:
        """Every metric over all runs, with intervals that resample images (patients) with all their runs."""
        return summarise(self.pooled, self.info)

    @cached_property
    def spread(self) -> pl.DataFrame:
        """Variance over images, runs and tasks, SMIA against each other attack; see `statistics.spread`."""
        runs = [(run.records, run.info) for run in self.runs]
        reference = REFERENCE if REFERENCE in self.labels else self.labels[0]
        return spread(runs, reference, self.tasks)

    @cached_property
    def comparisons(self) -> pl.DataFrame:
        """SMIA against each other attack, paired by image, task by task."""
        others = [label for label in self.labels if label != REFERENCE] if REFERENCE in self.labels else []
        frames = [
            compare_attacks(self.pooled, self.info, task, REFERENCE, other) for task in self.tasks for other in others
        ]
        return pl.concat(frames) if frames else pl.DataFrame()

    @property
    def shared(self) -> list[str]:
        """The tasks whose model is the same in all of several runs, so that only attacks' seeds differ."""
        if len(self.runs) == 1:
            return []
        weights = {task: {run.info.parts[task].weights_sha256 for run in self.runs} for task in self.tasks}
        return [task for task, hashes in weights.items() if len(hashes) == 1]

    @property
    def labels(self) -> list[str]:
        """The attacks."""
        return list(self.info.parts[self.tasks[0]].attacks)


def conduct(
    experiment: Experiment,
    folder: Path,
    *,
    progress: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> Outcome:
    """Do all runs, each saved to `folder/run-<number>` as it ends; those that are there already are read.

    Raises:
        InputError: data and models do not fit, or a run in the folder is of another experiment.
    """
    runs = []
    for number in range(experiment.runs):
        place = folder / f"run-{number}"
        if (place / "run.json").exists():
            say(f"{place} is there already")
            run = load_run(place)
            if run.info.config != experiment.describe():
                raise InputError(f"{place} holds a run of another experiment; give another --out, or remove it first")
        else:
            run = _run(experiment, number, progress, say)
            run.save(place)
        runs.append(run)
    return Outcome(runs)


def _run(experiment: Experiment, number: int, progress: bool, say: Callable[[str], None]) -> Run:
    whole: Run | None = None
    for benchmark in experiment.benchmarks:
        say(f"run {number}: {benchmark.title}")
        victim = benchmark.victim(number)
        checks: list[Aftercheck] = []
        if experiment.survive:
            checks += SURVIVAL
        if experiment.survive and benchmark.own_models:
            neighbour = (number + 1) % max(experiment.runs, 2)
            checks.append(another_model(benchmark.victim(neighbour), victim, "a model trained with another seed"))
        run = evaluate(
            victim,
            benchmark.test,
            experiment.attacks,
            [Threat(eps) for eps in experiment.budgets],
            seed=number,
            batch_size=experiment.batch_size,
            name=benchmark.key,
            model_name=benchmark.model_name,
            config=experiment.describe(),
            progress=progress,
            afterchecks=checks,
        )
        whole = run if whole is None else whole.joined(run)
    assert whole is not None
    return whole
