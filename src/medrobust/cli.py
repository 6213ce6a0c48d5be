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
from medrobust.cli_data import app as data_app
from medrobust.console import console as _console
from medrobust.console import plain_table as _list
from medrobust.console import say as _say
from medrobust.errors import InputError, MedrobustError, MedrobustWarning

app = typer.Typer(
    help="Adversarial robustness of medical-image models: attack, measure, look.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(data_app, name="data")

ConfigFile = Annotated[Path | None, typer.Argument(help="A run.yaml; `medrobust init` writes one.", show_default=False)]
Data = Annotated[str | None, typer.Option(help="Path of the images, or `embedded`; see `medrobust formats`.")]
DataFormat = Annotated[str | None, typer.Option("--format", help="Format of the data; recognised when left out.")]
Split = Annotated[str | None, typer.Option(help="Part of the data: test, val, train.")]
Resize = Annotated[int | None, typer.Option(help="Side in pixels to bring every image to.")]
MaxPixels = Annotated[int | None, typer.Option(help="Refuse images with more pixels (voxels) than this.")]
Limit = Annotated[int | None, typer.Option(help="At most so many images, spread over the set.")]
Model = Annotated[str | None, typer.Option(help="Where the model is from; see `medrobust models`.")]
Weights = Annotated[Path | None, typer.Option(help="A .safetensors file or a .pt/.pth state dict.")]
Mean = Annotated[
    str | None, typer.Option(help="Per channel, e.g. 0.485,0.456,0.406: the model sees (image - mean)/std.")
]
Std = Annotated[str | None, typer.Option(help="Per channel, as --mean.")]
Norm = Annotated[str | None, typer.Option(help="linf, l2, l1, contrast, bias, deformation or band: what may change.")]
Seed = Annotated[int | None, typer.Option(help="Of all randomness.")]
BatchSize = Annotated[int | None, typer.Option(help="Images attacked together; changes the speed alone.")]
Device = Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")]
SkipBad = Annotated[bool, typer.Option("--skip-bad", help="Leave out images that cannot be read, and list them.")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", help="Any field of a run.yaml, e.g. data.bounds=[-1300,3500]; may be repeated."),
]
Name = Annotated[str | None, typer.Option(help="Of this run in tables and reports.")]


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
    surrogate: Annotated[
        list[str] | None,
        typer.Option(help="Another model, as --model, to make the attacks on as well; may be repeated."),
    ] = None,
    surrogate_weights: Annotated[
        list[Path] | None, typer.Option(help="Its weights; one for each --surrogate, in their order.")
    ] = None,
    attacks: Annotated[str | None, typer.Option(help="Names, comma-separated; see `medrobust attacks`.")] = None,
    eps: Annotated[str | None, typer.Option(help="Budgets, comma-separated: 1/255, 0.01, 10HU, 5%, 2px.")] = None,
    norm: Norm = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the run; must not exist yet.")] = None,
    seed: Seed = None,
    batch_size: BatchSize = None,
    device: Device = None,
    skip_bad: SkipBad = False,
    survive: Annotated[
        bool,
        typer.Option("--survive", help="Measure the attacked images also after rounding, JPEG, smoothing, resampling."),
    ] = False,
    name: Name = None,
) -> None:
    """Attack a model on labelled images and measure what is left: the main job.

    Without arguments it runs on the brain MRI that comes along, training two small models on first use.
    """
    from medrobust.config import read_config
    from medrobust.evaluation import check_output_folder
    from medrobust.jobs import run_config

    run = read_config(config, _overrides(ctx))
    folder = run.out or Path("runs") / f"{run.label}-{datetime.now():%Y%m%d-%H%M%S}"
    check_output_folder(folder)  # before hours of work, not after
    done = run_config(run, progress=sys.stderr.isatty())
    done.save(folder)
    _console().print(done.table())
    _say(f"report: {folder / 'report.html'}")


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
    surrogate: Annotated[
        list[str] | None,
        typer.Option(help="Another model, as --model, to make images on as well; may be repeated."),
    ] = None,
    surrogate_weights: Annotated[
        list[Path] | None, typer.Option(help="Its weights; one for each --surrogate, in their order.")
    ] = None,
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

    run = read_config(config, _overrides(ctx) | {"out": None})
    written = export_config(run, attack_name, out, deidentify=deidentify, progress=sys.stderr.isatty())
    for folder, rows, skipped in written:
        for bad in skipped:
            _say(f"skipped image {bad.index}: {bad.reason}")
        right = [row for row in rows if row["right_before"]]
        fooled = sum(not row["right_after"] for row in right)
        _say(f"{folder}: {len(rows)} images; {fooled} of {len(right)} answered right before are now wrong")


@app.command()
def report(run: Annotated[Path, typer.Argument(help="Folder of a run.", show_default=False)]) -> None:
    """Rebuild a run's report from its records alone."""
    from medrobust.run import REPORT, load_run

    loaded = load_run(run)
    loaded.report(run / REPORT)
    _console().print(loaded.table())
    _say(f"report: {run / REPORT}")


@app.command()
def reproduce(
    out: Annotated[Path, typer.Option(help="Folder of the runs and the table; complete runs in it are used again.")],
    aptos: Annotated[Path | None, typer.Option(help="APTOS 2019: grade diabetic retinopathy (ResNet-50).")] = None,
    covid_ct: Annotated[Path | None, typer.Option(help="COVID-19 CT, 20 cases: segment the lungs (U-Net).")] = None,
    ead: Annotated[Path | None, typer.Option(help="EAD 2019 or 2020: detect artefacts (Faster R-CNN).")] = None,
    small: Annotated[bool, typer.Option("--small", help="The same on the brain MRI that comes along.")] = False,
    survive: Annotated[
        bool, typer.Option("--survive", help="Also after rounding, JPEG, smoothing, resampling, on another model.")
    ] = False,
    weights: Annotated[
        list[str] | None,
        typer.Option(help="grading=FILE, lung=FILE or artefacts=FILE, instead of training; may be repeated."),
    ] = None,
    eps: Annotated[
        str | None, typer.Option(help="Budgets, comma-separated; 2/255,4/255,8/255 (--small: without the middle one).")
    ] = None,
    runs: Annotated[int, typer.Option(help="How many; each trains its own models.")] = 3,
    epochs: Annotated[int, typer.Option(help="Of training.")] = 10,
    size: Annotated[int, typer.Option(help="Side in pixels of all images.")] = 224,
    limit: Annotated[int | None, typer.Option(help="At most so many test images of each set; with --small 24.")] = None,
    batch_size: Annotated[int, typer.Option(help="Images trained on, and attacked, together.")] = 16,
) -> None:
    """Repeat the experiment of SMIA's paper: three tasks, six attacks, and the variance of their effect."""
    from medrobust.reproduce.command import reproduce_command

    outcome = reproduce_command(
        out,
        {"aptos": aptos, "covid_ct": covid_ct, "ead": ead},
        small=small,
        survive=survive,
        weights=weights or [],
        eps=(eps or ("2/255,8/255" if small else "2/255,4/255,8/255")).split(","),
        runs=runs,
        epochs=epochs,
        size=size,
        limit=limit,
        batch_size=batch_size,
        progress=sys.stderr.isatty(),
        say=_say,
    )
    _console().print(outcome)
    _say(f"table: {out / 'summary.md'}, figure: {out / 'figure.png'}")


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


@app.command("attacks")
def list_attacks() -> None:
    """List the attacks, with their options and where they are from."""
    from medrobust.attacks import ATTACKS, option_names

    table = _list("attack", "for", "what it does", "reference", "options")
    for key, entry in ATTACKS.items():
        table.add_row(
            key, ", ".join(entry.tasks) or "all", entry.summary, entry.reference, ", ".join(option_names(key))
        )
    _console().print(table)


@app.command("formats")
def list_formats() -> None:
    """List the data formats that are read."""
    from medrobust.data import FORMATS

    table = _list("format", "what it is")
    for key, entry in FORMATS.items():
        table.add_row(key, entry.description)
    _console().print(table)


@app.command("models")
def list_models() -> None:
    """List where a model can come from."""
    from medrobust.models import MODELS

    table = _list("--model", "what it is")
    for key, description in MODELS.items():
        table.add_row(key, description)
    _console().print(table)


@app.command()
def doctor() -> None:
    """Show versions, device and extras, and check in seconds that attacks do here what they promise."""
    from medrobust.selfcheck import findings

    table, well = _list("", "", ""), True
    for finding in findings():
        table.add_row("ok" if finding.well else "FAILED", finding.name, finding.seen)
        well &= finding.well
    _console().print(table)
    if not well:
        raise typer.Exit(1)


def main() -> None:
    """Entry point: a user's mistake is one line on standard error and exit code 2."""
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    warnings.showwarning = _show_warning
    try:
        app(arguments)
    except SystemExit as ended:
        if ended.code == 130:
            kept = arguments[:2] == ["data", "get"] or arguments[:1] == ["reproduce"]
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


# option → field of the configuration; `evaluate` and `attack` have them in common
FIELDS = {
    "data": "data.path",
    "data_format": "data.format",
    "split": "data.split",
    "resize": "data.resize",
    "limit": "data.limit",
    "max_pixels": "data.max_pixels",
    "model": "model.source",
    "weights": "model.weights",
    "mean": "model.mean",
    "std": "model.std",
    "attacks": "attacks",
    "eps": "threat.eps",
    "norm": "threat.norm",
    "out": "out",
    "seed": "seed",
    "batch_size": "batch_size",
    "device": "device",
    "skip_bad": "skip_bad",
    "survive": "survive",
    "name": "name",
}


def _overrides(ctx: typer.Context) -> dict[str, object]:
    """The options that were given, as fields of the configuration; --set last."""
    from medrobust.config import read_settings

    given = {
        option: value
        for option, value in ctx.params.items()
        if option in FIELDS and value is not None and value is not False
    }
    for option in ("mean", "std"):
        if option in given:
            given[option] = _numbers(f"--{option}", given[option])
    if "eps" in given:
        given["eps"] = [eps.strip() for eps in given["eps"].split(",")]
    fields = {FIELDS[option]: value for option, value in given.items()}
    if ctx.params.get("surrogate") or ctx.params.get("surrogate_weights"):
        fields["surrogates"] = _surrogates(ctx.params.get("surrogate"), ctx.params.get("surrogate_weights"))
    return fields | read_settings(ctx.params.get("settings") or ())


def _surrogates(sources: list[str] | None, weights: list[Path] | None) -> list[dict[str, object]]:
    sources, weights = list(sources or ()), list(weights or ())
    if not weights:
        return [{"source": source} for source in sources]
    if len(sources) != len(weights):
        raise InputError(
            f"{len(weights)} --surrogate-weights for {len(sources)} --surrogate: give one for each, in their order"
        )
    return [{"source": source, "weights": path} for source, path in zip(sources, weights, strict=True)]


def _numbers(option: str, text: str) -> list[float]:
    try:
        return [float(item) for item in text.split(",")]
    except ValueError as error:
        raise InputError(f"{option} {text!r}: expected numbers, comma-separated") from error


if __name__ == "__main__":
    main()
