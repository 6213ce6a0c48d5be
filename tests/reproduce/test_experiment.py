"""The paper's experiment on three tiny tasks: tables are the runs' own figures, and the words follow from them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image
from tiny_detectors import CLASSES, tiny_detector
from torch import nn

import medrobust as mr
from medrobust.attacks import make_attack
from medrobust.errors import InputError
from medrobust.reproduce import Benchmark, Experiment, Outcome, conduct
from medrobust.reproduce.figure import write_figure
from medrobust.reproduce.summary import findings, summary_text, write_summary

pytestmark = pytest.mark.slow
COUNT, SIDE = 8, 24


def dataset(task: str, classes: int) -> mr.InMemoryDataset:
    generator = torch.Generator().manual_seed(len(task))

    def truth(place: int) -> torch.Tensor:
        if task == "segmentation":
            return (torch.rand(SIDE, SIDE, generator=generator) * classes).long()
        if task == "detection":
            return torch.tensor([[2.0, 3, 15, 20, place % classes]])[: place % 3]
        return torch.tensor(place % classes)

    channels = 3 if task == "detection" else 1
    samples = [
        mr.Sample(f"{task} {place}", torch.rand(channels, SIDE, SIDE, generator=generator), truth(place))
        for place in range(COUNT)
    ]
    names = tuple(f"class {number}" for number in range(classes))
    return mr.InMemoryDataset(mr.DatasetInfo(task, task, names, channels), samples)


def network(task: str, seed: int) -> nn.Module:
    if task == "detection":
        return tiny_detector("ssdlite", seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if task == "segmentation":
            return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 3, 3, padding=1))
        return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(64, 3))


def benchmark(task: str) -> Benchmark:
    data = dataset(task, CLASSES if task == "detection" else 3)
    return Benchmark(task, f"the {task}", data, "tiny", lambda seed: network(task, seed))


def experiment(*tasks: str, **options: object) -> Experiment:
    attacks = {name: make_attack(name, {} if name == "fgsm" else {"steps": 2}) for name in ("fgsm", "pgd", "smia")}
    return Experiment([benchmark(task) for task in tasks], attacks, (4 / 255, 8 / 255), **options)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("reproduce")


@pytest.fixture(scope="module")
def outcome(folder: Path) -> Outcome:
    return conduct(experiment("ordinal", "segmentation", "detection", runs=2, survive=True), folder)


def test_every_run_is_a_run_that_can_be_read(outcome: Outcome, folder: Path):
    assert outcome.tasks == ["ordinal", "segmentation", "detection"]
    for number, run in enumerate(outcome.runs):
        read = mr.load_run(folder / f"run-{number}")
        assert read.info.seed == number
        assert list(read.info.parts) == list(run.info.parts)
        assert (folder / f"run-{number}" / "report.html").is_file()
    hashes = {run.info.parts["ordinal"].weights_sha256 for run in outcome.runs}
    assert len(hashes) == 2, "every run has a model of its own"


def test_pooled_means_are_the_means_of_the_runs(outcome: Outcome):
    for task, metric, column in (("ordinal", "accuracy", "right_after"), ("segmentation", "dice", "dice_after")):
        for attack in ("fgsm", "smia"):
            cell = outcome.summary.filter(part=task, metric=metric, attack=attack).filter(pl.col("eps") < 0.02)
            means = [
                run.records.filter(part=task, attack=attack)
                .filter(pl.col("eps") < 0.02)[column]
                .cast(pl.Float64)
                .mean()
                for run in outcome.runs
            ]
            assert cell["value"].item() == pytest.approx(np.mean(means))
            assert cell["n"].item() == 2 * COUNT
            assert cell["clusters"].item() == COUNT, "an image is drawn with all its runs"


def test_the_model_of_another_run_is_the_one_that_survival_asks(outcome: Outcome):
    other = "ordinal, a model trained with another seed"
    first, second = (run.info.parts for run in outcome.runs)
    assert first[other].weights_sha256 == second["ordinal"].weights_sha256
    assert second[other].weights_sha256 == first["ordinal"].weights_sha256
    assert {name for name in first if name.startswith("detection, ")} >= {"detection, JPEG 75", "detection, JPEG 90"}


def test_the_page_says_what_the_tables_say(outcome: Outcome, folder: Path):
    titles = {"ordinal": "the grades"}
    write_summary(outcome, folder, titles)
    text = (folder / "summary.md").read_text(encoding="utf-8")
    assert text == summary_text(outcome, titles)
    assert "## the grades" in text
    assert "## detection" in text
    strength, *steadiness = findings(outcome)
    assert len(steadiness) == 3
    counts = outcome.comparisons
    assert f"({len(counts)} comparisons)" in strength
    assert len(counts) == 3 * 2 * 2  # tasks, other attacks, budgets
    wide = outcome.spread.filter(over="images").filter(pl.col("difference").is_not_null())
    smaller = wide.filter(pl.col("p_holm") < 0.05, pl.col("difference") < 0)
    assert f"smaller in {len(smaller)} of {len(wide)} comparisons" in steadiness[0]
    table = pl.read_csv(folder / "table.csv")
    accuracy = table.filter(part="ordinal", metric="accuracy", attack="clean")["value"].item()
    row = next(line for line in text.splitlines() if line.startswith("|  | clean"))
    assert f"| {accuracy:.3f} [" in row
    assert "JPEG 75" in text.partition("What survives: ")[2]


def test_the_figure_has_a_row_for_each_task(outcome: Outcome, folder: Path):
    write_figure(outcome, folder / "figure.png")
    with Image.open(folder / "figure.png") as image:
        width, height = image.size
    assert width > 4 * 150
    assert height > 3 * 150


def test_complete_runs_are_used_again_and_others_refused(folder: Path, outcome: Outcome):
    said: list[str] = []
    again = experiment("ordinal", "segmentation", "detection", runs=2, survive=True)
    reread = conduct(again, folder, say=said.append)
    assert said == [f"{folder / f'run-{number}'} is there already" for number in range(2)]
    assert reread.pooled.equals(outcome.pooled)
    with pytest.raises(InputError, match="run-0 holds a run of another experiment"):
        conduct(replace(again, budgets=(2 / 255,)), folder)


def test_one_run_of_one_task_has_no_variance_over_them(tmp_path: Path):
    alone = conduct(experiment("classification", runs=1), tmp_path)
    _, images, runs, tasks = findings(alone)
    assert "comparisons" in images
    assert "Not measured: it needs at least two runs" in runs
    assert "Not measured: it needs at least two tasks" in tasks
    assert "What survives" not in summary_text(alone, {})


def test_nothing_to_do():
    with pytest.raises(InputError, match="nothing to do"):
        Experiment([])
    with pytest.raises(InputError, match="runs must be a whole number of at least 1"):
        experiment("ordinal", runs=0)
