"""The command `medrobust export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medrobust.cli_options import (
    ConfigFile,
    Data,
    DataFormat,
    Limit,
    Mean,
    Model,
    Resize,
    Settings,
    SkipBad,
    Split,
    Std,
    Weights,
    overrides,
)
from medrobust.console import say


def export(
    ctx: typer.Context,
    out: Annotated[Path, typer.Option(help="Folder for the files and the model card; must not exist yet.")],
    config: ConfigFile = None,
    to: Annotated[str, typer.Option(help="onnx, torchscript, torch-export; commas between.")] = "onnx",
    data: Data = None,
    data_format: DataFormat = None,
    split: Split = None,
    resize: Resize = None,
    limit: Limit = None,
    model: Model = None,
    weights: Weights = None,
    mean: Mean = None,
    std: Std = None,
    skip_bad: SkipBad = False,
    settings: Settings = None,
) -> None:
    """Write a model to files for use elsewhere, its normalisation inside, each compared with the model on the data.

    Of a hardened model (--weights hardened/model.safetensors) the model card goes along.
    """
    from medrobust.config import read_config
    from medrobust.evaluation import check_output_folder
    from medrobust.export_jobs import export_model
    from medrobust.hardening_card import CARD

    check_output_folder(out)
    run = read_config(config, {name: value for name, value in overrides(ctx).items() if name != "out"})
    done = export_model(run, out, [name.strip() for name in to.split(",")])
    say(done.summary())
    say(f"model card: {out / CARD}")
