"""The command line: parses, calls, prints."""

from __future__ import annotations

import sys
import warnings
from datetime import datetime
from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer

from medrobust._version import __version__
from medrobust.cli_compare import compare, tradeoff
from medrobust.cli_data import app as data_app
from medrobust.cli_export import export
from medrobust.cli_guards import certify, screen
from medrobust.cli_harden import harden
from medrobust.cli_lists import attacks, doctor, formats, models
from medrobust.cli_options import (
    BatchSize,
    ConfigFile,
    Data,
    DataFormat,
    Device,
    Group,
    Limit,
    MaxPixels,
    Mean,
    Model,
    Name,
    Norm,
    Resize,
    Seed,
    Settings,
    SkipBad,
    Split,
    Std,
    Surrogate,
    SurrogateWeights,
    Weights,
    overrides,
)
from medrobust.cli_reproduce import reproduce
from medrobust.cli_stability import stability
from medrobust.cli_view import view
from medrobust.console import console as _console
from medrobust.console import say as _say
from medrobust.errors import InputError, MedrobustError, MedrobustWarning

UNTRUSTED = 4  # the exit code of --strict

app = typer.Typer(
    help="Adversarial robustness of medical-image models: attack, measure, look.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(data_app, name="data")


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"medrobust {__version__}")
        raise typer.Exit


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit."),
    ] = False,
) -> None:
    """Options of every command. `main` looks for --debug itself, wherever it stands."""


@app.command()
def evaluate(
    ctx: typer.Context,
    config: ConfigFile = None,
    data: Data = None,
    data_format: DataFormat = None,
    split: Split = None,
    resize: Resize = None,
    limit: Limit = None,
    max_pixels: MaxPixels = None,
    model: Model = None,
    weights: Weights = None,
    mean: Mean = None,
    std: Std = None,
    surrogate: Surrogate = None,
    surrogate_weights: SurrogateWeights = None,
    group: Group = None,
    attacks: Annotated[str | None, typer.Option(help="Names, comma-separated; see `medrobust attacks`.")] = None,
    eps: Annotated[str | None, typer.Option(help="Budgets, comma-separated: 1/255, 0.01, 10HU, 5%, 2px.")] = None,
    norm: Norm = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the run; must not exist yet.")] = None,
    seed: Seed = None,
    batch_size: BatchSize = None,
    device: Device = None,
    skip_bad: SkipBad = False,
    settings: Settings = None,
    survive: Annotated[
        bool,
        typer.Option("--survive", help="Measure the attacked images also after rounding, JPEG, smoothing, resampling."),
    ] = False,
    trust: Annotated[
        int | None, typer.Option(help="Images probed to tell whether the figures can be trusted; 0 is none.")
    ] = None,
    expect_accuracy: Annotated[
        float | None, typer.Option(help="What accuracy (exact match, Dice, mAP) on clean images should come to.")
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 4 when a check of trust fails.")] = False,
    name: Name = None,
) -> None:
    """Attack a model on labelled images and measure what is left: the main job.

    Without arguments it runs on the brain MRI that comes along, training two small models on first use.
    """
    from medrobust.config import read_config
    from medrobust.evaluation import check_output_folder
    from medrobust.evaluation.underway import progress_file
    from medrobust.jobs import run_config

    run = read_config(config, overrides(ctx))
    folder = run.out or Path("runs") / f"{run.label}-{datetime.now():%Y%m%d-%H%M%S}"
    check_output_folder(folder)  # before hours of work, not after
    if sys.stderr.isatty():
        _say(f"to watch it: medrobust view {folder}")
    with progress_file(folder) as listen:
        done = run_config(run, progress=sys.stderr.isatty(), listen=listen)
    done.save(folder)
    _console().print(done.table())
    _say(f"report: {folder / 'report.html'}")
    if strict and any(check.verdict == "fail" for checks in done.trust.values() for check in checks):
        raise typer.Exit(UNTRUSTED)


@app.command()
def attack(
    ctx: typer.Context,
    out: Annotated[Path, typer.Option(help="Folder for the images; must not exist yet.")],
    config: ConfigFile = None,
    attack_name: Annotated[str, typer.Option("--attack", help="One attack; see `medrobust attacks`.")] = "smia",
    eps: Annotated[str | None, typer.Option(help="One budget: 4/255 (unless the data have a unit), 10HU.")] = None,
    data: Data = None,
    data_format: DataFormat = None,
    split: Split = None,
    resize: Resize = None,
    limit: Limit = None,
    max_pixels: MaxPixels = None,
    model: Model = None,
    weights: Weights = None,
    mean: Mean = None,
    std: Std = None,
    surrogate: Surrogate = None,
    surrogate_weights: SurrogateWeights = None,
    norm: Norm = None,
    seed: Seed = None,
    batch_size: BatchSize = None,
    device: Device = None,
    skip_bad: SkipBad = False,
    settings: Settings = None,
    deidentify: Annotated[bool, typer.Option(help="Leave out of written headers what may name a patient.")] = True,
) -> None:
    """Write adversarial images, measured as they lie on disk, with a manifest.csv."""
    from medrobust.config import read_config
    from medrobust.jobs import export_config

    run = read_config(config, overrides(ctx) | {"out": None})
    written = export_config(run, attack_name, out, deidentify=deidentify, progress=sys.stderr.isatty())
    for folder, rows, skipped in written:
        for bad in skipped:
            _say(f"skipped image {bad.index}: {bad.reason}")
        right = [row for row in rows if row["right_before"]]
        fooled = sum(not row["right_after"] for row in right)
        _say(f"{folder}: {len(rows)} images; {fooled} of {len(right)} answered right before are now wrong")


@app.command()
def report(
    run: Annotated[Path, typer.Argument(help="Folder of a run.", show_default=False)],
    report_format: Annotated[
        list[str] | None,
        typer.Option("--format", help="html, markdown, latex, json, csv, model-card; commas between, or repeated."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder to write to; the run's own when left out.")] = None,
) -> None:
    """Rebuild a run's report from its records alone, as HTML or in other formats."""
    from medrobust.evaluation.storage import make_folder
    from medrobust.report import format_of
    from medrobust.run import load_run

    names = [name.strip() for given in report_format or ["html"] for name in given.split(",")]
    places = {name: (out or run) / format_of(name).place for name in names}
    loaded = load_run(run)
    for name, place in places.items():
        make_folder(place.parent)
        loaded.report(place, name)
    _console().print(loaded.table())
    for name, place in places.items():
        _say(f"{'report' if name == 'html' else name}: {place}")


@app.command()
def init(path: Annotated[Path, typer.Argument(help="File to write.")] = Path("run.yaml")) -> None:
    """Write a commented run.yaml to start from."""
    template = files("medrobust").joinpath("run_template.yaml").read_text(encoding="utf-8")
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(template)
    except FileExistsError as error:
        raise InputError(f"{path} is there already; give another name") from error
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}") from error
    _say(f"{path} written; start it with: medrobust evaluate {path}")


_MEASURING = (stability, reproduce, certify, screen)
for command in (*_MEASURING, harden, export, view, compare, tradeoff, attacks, formats, models, doctor):
    app.command()(command)


def main() -> None:
    """Entry point: a user's mistake is one line on standard error and exit code 2."""
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    warnings.showwarning = _show_warning
    try:
        app(arguments)
    except SystemExit as ended:
        if ended.code == 130:
            kept = arguments[:2] == ["data", "get"] or arguments[:1] in (["reproduce"], ["harden"])
            _say(f"stopped; {'what came is kept, the same command goes on' if kept else 'nothing was written'}")
        raise
    except MedrobustError as error:
        if len(arguments) < len(sys.argv) - 1:
            raise
        _say("error: " + " ".join(str(error).split()))
        sys.exit(2)


def _show_warning(message: Warning | str, category: type[Warning], *_: object, **__: object) -> None:
    """A warning of ours as one line; those of libraries are for developers."""
    if issubclass(category, MedrobustWarning):
        _say(f"warning: {message}")


if __name__ == "__main__":
    main()
