"""`medrobust reproduce`: from what was typed to an experiment, and from its outcome to files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from rich.console import Console, RenderableType
from rich.markdown import Markdown
from rich.progress import track

from medrobust.budget import Budget
from medrobust.checks import at_least
from medrobust.errors import InputError
from medrobust.reproduce.benchmarks import Sources, small_benchmarks, standard_benchmarks
from medrobust.reproduce.experiment import Experiment, conduct
from medrobust.reproduce.figure import write_figure
from medrobust.reproduce.fitting import Fitting
from medrobust.reproduce.summary import summary_text, write_summary


def reproduce_command(
    out: Path,
    data: Mapping[str, Path | None],
    *,
    small: bool = False,
    survive: bool = False,
    weights: Sequence[str] = (),
    eps: Sequence[str] = ("2/255", "4/255", "8/255"),
    runs: int = 3,
    epochs: int = 10,
    size: int = 224,
    limit: int | None = None,
    batch_size: int = 16,
    progress: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> RenderableType:
    """Do the experiment, and write `run-<number>/`, `summary.md`, `table.csv`, `spread.csv` and `figure.png` to `out`.

    Trained models are kept in `weights/` there; a run that was stopped goes on with them.

    Args:
        out: the folder; complete runs of the same experiment that are in it are used again.
        data: "aptos", "covid_ct", "ead" → where it lies, or None.
        small: take the embedded brain slices instead.
        survive, runs: see `Experiment`.
        weights: "<benchmark>=<file>", see `Sources`.
        size, limit: see `Sources`.
        eps: budgets as they are typed.
        epochs: of training.
        batch_size: of training and attacks.
        progress: show bars on standard error.
        say: hears what is being done.

    Raises:
        InputError: nothing to do, or data, weights or the folder cannot be used.
    """
    given = any(path is not None for path in data.values())
    if small == given:
        raise InputError("give --small, or at least one of --aptos, --covid-ct and --ead (not both)")
    if small and weights:
        raise InputError("--weights are for --aptos, --covid-ct and --ead; the models of --small come along")
    files = dict(_weights(text) for text in weights)
    at_least("runs", runs, 1)
    budgets = [Budget.parse(text).in_unit("[0, 1]") for text in eps]
    if small:
        benchmarks = small_benchmarks(limit)
    else:
        how = Fitting(epochs=epochs, batch_size=batch_size)
        sources = Sources(**data, weights=files, size=size, limit=limit, fitting=how, keep=out / "weights")
        benchmarks = standard_benchmarks(sources, _bar(progress))
    experiment = Experiment(benchmarks, budgets=budgets, runs=runs, survive=survive, batch_size=batch_size)
    outcome = conduct(experiment, out, progress=progress, say=say)
    titles = {benchmark.key: benchmark.title for benchmark in benchmarks}
    write_summary(outcome, out, titles)
    write_figure(outcome, out / "figure.png")
    return Markdown(summary_text(outcome, titles))


def _weights(text: str) -> tuple[str, Path]:
    key, given, path = text.partition("=")
    if not given or not path:
        raise InputError(f"--weights {text!r}: write grading=FILE, lung=FILE or artefacts=FILE")
    return key, Path(path)


def _bar(shown: bool) -> Callable[[range], Iterator[int]]:
    console = Console(stderr=True)
    return lambda steps: iter(track(steps, "training", console=console, disable=not shown, transient=True))
