"""The options that the commands `evaluate` and `attack` have in common, and the configuration they stand for."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medrobust.errors import InputError

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
Surrogate = Annotated[
    list[str] | None, typer.Option(help="Another model, as --model, to attack as well; may be repeated.")
]
SurrogateWeights = Annotated[
    list[Path] | None, typer.Option(help="Its weights; one for each --surrogate, in their order.")
]
Group = Annotated[
    list[str] | None,
    typer.Option(help="Columns to tell figures apart by: sex,age:40,65 (numbers are cut there); may be repeated."),
]
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

# option → field of the configuration
FIELDS = {
    "data": "data.path",
    "data_format": "data.format",
    "split": "data.split",
    "resize": "data.resize",
    "limit": "data.limit",
    "max_pixels": "data.max_pixels",
    "group": "data.groups",
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
    "trust": "trust",
    "expect_accuracy": "expect_accuracy",
    "name": "name",
}


def overrides(ctx: typer.Context) -> dict[str, object]:
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
