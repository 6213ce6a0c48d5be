"""The command `medrobust stability`: the ways of attacks, step by step, and how much what they do varies."""

from __future__ import annotations

import sys
from datetime import datetime
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
    Surrogate,
    SurrogateWeights,
    Weights,
    overrides,
)
from medrobust.console import say


def stability(
    ctx: typer.Context,
    config: ConfigFile = None,
    attacks: Annotated[
        str | None, typer.Option(help="Names, comma-separated, of attacks that take steps; pgd,mi,smia.")
    ] = None,
    eps: Annotated[str | None, typer.Option(help="One budget: 4/255 (unless the data have a unit), 10HU.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="How many random starts of each image.")] = 3,
    images: Annotated[int, typer.Option(min=1, help="At most so many of each data set, spread over it.")] = 16,
    pictures: Annotated[int, typer.Option(min=0, help="Of how many images maps and the loss around are drawn.")] = 2,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder to write; must not exist yet. `stability` in a run's folder is shown there."),
    ] = None,
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
    name: Name = None,
) -> None:
    """Trace attacks step by step from several starts: is SMIA steadier than the others on this model?

    Without arguments it runs on the brain MRI that comes along. Surrogates are further models of the same data. A
    run.yaml's own `out` is the folder of its run: the analysis goes into `stability` in there.
    """
    from medrobust.config import read_config
    from medrobust.evaluation import check_output_folder
    from medrobust.evaluation.stability_files import STABILITY_PAGE
    from medrobust.evaluation.storage import RUN_JSON
    from medrobust.stability_jobs import stability_config

    run = read_config(config, overrides(ctx))
    unnamed = Path("runs") / f"{run.label}-stability-{datetime.now():%Y%m%d-%H%M%S}"
    folder = out or (unnamed if run.out is None else run.out / "stability")
    check_output_folder(folder)  # before minutes of work, not after
    done = stability_config(run, seeds=seeds, images=images, pictures=pictures, progress=sys.stderr.isatty())
    done.save(folder)
    for sentence in done.sentences():
        typer.echo(sentence)
    say(f"report: {folder / STABILITY_PAGE}")
    if (folder.parent / RUN_JSON).is_file() and folder.name == "stability":
        say(f"medrobust report {folder.parent} shows it in the run's report, too")
