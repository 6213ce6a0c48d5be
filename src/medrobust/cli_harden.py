"""The command `medrobust harden`."""

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
    Mean,
    Model,
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
from medrobust.console import console, say


def harden(
    ctx: typer.Context,
    config: ConfigFile = None,
    method: Annotated[
        str | None,
        typer.Option(
            help="smia-at, pgd-at, trades, mart, fgsm-rs, free, ensemble, smoothing, gaussian, control; or several."
        ),
    ] = None,
    eps: Annotated[str | None, typer.Option(help="What the model is to stand: 2/255, 10HU; or several.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training images; 10.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="The highest; 1e-3.")] = None,
    devices: Annotated[
        int | None, typer.Option(help="GPUs (or processes on the CPU) that share every batch; 1.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder to write; a training that was stopped goes on.")] = None,
    train_split: Annotated[str | None, typer.Option(help="Part of the data to learn from; train.")] = None,
    validation_split: Annotated[
        str | None, typer.Option(help="Part to choose the weights by; a fifth of the training patients if not given.")
    ] = None,
    measure: Annotated[
        bool, typer.Option("--measure/--no-measure", help="Attack the test images before and after, and compare.")
    ] = True,
    data: Data = None,
    data_format: DataFormat = None,
    split: Split = None,
    resize: Resize = None,
    limit: Limit = None,
    model: Model = None,
    weights: Weights = None,
    mean: Mean = None,
    std: Std = None,
    surrogate: Surrogate = None,
    surrogate_weights: SurrogateWeights = None,
    seed: Seed = None,
    batch_size: BatchSize = None,
    device: Device = None,
    skip_bad: SkipBad = False,
    settings: Settings = None,
) -> None:
    """Make a model hold: fine-tune it on attacked images, then measure it before and after on the test images.

    Several methods or budgets (--method control,pgd-at,smia-at) are trained one after the other; a table and a figure
    show what each holds and costs.

    Any other option of the training is a --set, e.g. harden.normalisation=adversarial or harden.options.beta=2. Use
    what comes of it with: medrobust evaluate run.yaml --weights OUT/model.safetensors
    """
    from medrobust.comparing import COMPARE_PAGE
    from medrobust.config import read_config, read_settings
    from medrobust.harden_grid import TRADEOFF, harden_each, measure_each
    from medrobust.harden_jobs import COMPARISON, harden_config, measure_config
    from medrobust.hardening import WEIGHTS
    from medrobust.hardening_card import AFTER, BEFORE, CARD

    own = {"method": method, "eps": eps, "epochs": epochs, "learning_rate": learning_rate}
    own |= {"devices": devices, "split": train_split, "validation_split": validation_split}
    given: dict[str, object] = {f"harden.{name}": value for name, value in own.items() if value is not None}
    told = read_settings(settings or ())
    # --eps is what the model is to stand; what it is measured with may be told by --set threat.eps
    shared = {
        name: value for name, value in overrides(ctx).items() if name not in ("threat.eps", "out") or name in told
    }
    if surrogate or surrogate_weights:  # given here, it is learned from, not measured with
        given["harden.surrogates"] = shared.pop("surrogates")
    run = read_config(config, given | shared)
    folder = out or Path("hardened") / f"{run.label}-{run.harden.label}"
    progress = sys.stderr.isatty()
    if len(run.harden.each()) > 1:
        for place, one in harden_each(run, folder, progress=progress):
            say(f"{place / WEIGHTS}: {'trained already' if one is None else one.summary()}")
        if measure:
            console().print(measure_each(run, folder, progress=progress))
            say(f"figures: {folder / TRADEOFF}; of each model its reports, {COMPARISON}/{COMPARE_PAGE} and {CARD}")
        return
    found = harden_config(run, folder, progress=progress)
    say(f"{folder / WEIGHTS}: {found.summary()}")
    if measure:
        console().print(measure_config(run, folder, progress=progress))
        say(f"reports: {folder / BEFORE / 'report.html'}, {folder / AFTER / 'report.html'}")
        say(f"compared: {folder / COMPARISON / COMPARE_PAGE}; model card: {folder / CARD}")
