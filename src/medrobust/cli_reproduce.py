"""The command `medrobust reproduce`: the experiment of SMIA's paper."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from medrobust.console import console, say


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
        say=say,
    )
    console().print(outcome)
    say(f"table: {out / 'summary.md'}, figure: {out / 'figure.png'}")
