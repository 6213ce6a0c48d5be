"""The commands `medrobust certify` and `medrobust screen`: defences that act when a model is used."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from medrobust.cli_options import (
    BatchSize,
    ConfigFile,
    Data,
    DataFormat,
    Device,
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
    Weights,
    overrides,
)
from medrobust.console import say


def certify(
    ctx: typer.Context,
    config: ConfigFile = None,
    sigma: Annotated[
        str | None, typer.Option(help="Standard deviation of the noise: 0.25 (unless the data have a unit), 20HU.")
    ] = None,
    n: Annotated[int, typer.Option("--n", min=1, help="Noisy copies of an image to prove its answer by.")] = 1000,
    n0: Annotated[int, typer.Option("--n0", min=1, help="Noisy copies to choose the answer by.")] = 100,
    alpha: Annotated[float, typer.Option(help="The most that a certificate's probability to be wrong may be.")] = 0.001,
    tau: Annotated[float, typer.Option(help="Of masks and labels: how likely each certified answer must be.")] = 0.75,
    radii: Annotated[
        str | None, typer.Option(help="L2 radii to tell certified accuracy at, comma-separated; up to 2 sigma.")
    ] = None,
    copies: Annotated[int, typer.Option(min=1, help="Noisy copies seen together; changes the speed alone.")] = 64,
    out: Annotated[Path | None, typer.Option(help="Folder to write; must not exist yet.")] = None,
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
    seed: Seed = None,
    device: Device = None,
    skip_bad: SkipBad = False,
    settings: Settings = None,
    name: Name = None,
) -> None:
    """Prove how far images can change before the answer of the smoothed model does (randomised smoothing).

    The certificate is of the vote of the model over noisy copies of an image, not of the model alone. Train a model
    for it with: medrobust harden run.yaml --method gaussian --set harden.options.sigma=0.25
    """
    from medrobust.config import read_config
    from medrobust.guard_jobs import certify_config

    run = read_config(config, _shared(ctx))
    folder = out or Path("certified") / run.label
    at = [] if radii is None else [radius.strip() for radius in radii.split(",")]
    made = certify_config(
        run,
        sigma,
        folder,
        n0=n0,
        n=n,
        alpha=alpha,
        tau=tau,
        radii=at,
        batch_size=copies,
        progress=sys.stderr.isatty(),
    )
    for place, found in made:
        typer.echo(found.summary())
        say(f"certificates: {place}")


def screen(
    ctx: typer.Context,
    config: ConfigFile = None,
    screens: Annotated[
        str, typer.Option(help="squeezing, learned (trained on SMIA), folders of learned ones; comma-separated.")
    ] = "squeezing",
    attacks: Annotated[str | None, typer.Option(help="Names, comma-separated, of attacks that know no screen.")] = None,
    adaptive: Annotated[
        str | None, typer.Option(help="Names of iterative attacks that are told of the screens; pgd of 40 steps.")
    ] = None,
    eps: Annotated[
        str | None, typer.Option(help="Budgets, comma-separated; 4/255 unless the data have a unit.")
    ] = None,
    false_positives: Annotated[float, typer.Option(help="Share of clean images that may be called attacked.")] = 0.05,
    calibration_split: Annotated[
        str | None,
        typer.Option(help="Part of the data to set thresholds on; half of the attacked patients if not given."),
    ] = None,
    train_split: Annotated[str, typer.Option(help="Part of the data that `learned` learns from.")] = "train",
    out: Annotated[Path | None, typer.Option(help="Folder to write; must not exist yet.")] = None,
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
    norm: Norm = None,
    seed: Seed = None,
    batch_size: BatchSize = None,
    device: Device = None,
    skip_bad: SkipBad = False,
    settings: Settings = None,
    name: Name = None,
) -> None:
    """Measure how well screens tell attacked images from clean ones, also by attacks that know them.

    What attacks show that do not know a screen is worth nothing on its own: look at those that do.
    """
    from medrobust.config import read_config
    from medrobust.guard_jobs import screen_config

    run = read_config(config, _shared(ctx))
    folder = out or Path("screened") / run.label
    found = screen_config(
        run,
        folder,
        screens=[one.strip() for one in screens.split(",")],
        false_positives=false_positives,
        adaptive=[] if adaptive is None else [one.strip() for one in adaptive.split(",")],
        calibration_split=calibration_split,
        train_split=train_split,
        progress=sys.stderr.isatty(),
    )
    typer.echo(found.summary())
    say(f"scores and figures: {folder}")


def _shared(ctx: typer.Context) -> dict[str, object]:
    """The options that are fields of the configuration; `out` is the command's own."""
    return {field: value for field, value in overrides(ctx).items() if field != "out"}
