"""Architectures from timm, torchvision and segmentation-models-pytorch, always without their weights."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any, cast

from torch import Tensor, nn

from medrobust.errors import InputError, MissingExtraError, unknown
from medrobust.models.requirements import Requirements


def timm_model(name: str, wanted: Requirements) -> nn.Module:
    """A 2-D classification network of timm, e.g. `resnet18`."""
    import timm

    if not timm.is_model(name):
        raise _unknown_model("timm", name, timm.list_models())
    _check_use(f"timm:{name}", wanted, dense=False)
    try:
        model = timm.create_model(name, pretrained=False, in_chans=wanted.channels, num_classes=wanted.outputs)
    except Exception as error:
        raise _cannot_build(f"timm:{name}", wanted, error) from error
    return cast("nn.Module", model)


def torchvision_model(name: str, wanted: Requirements) -> nn.Module:
    """A classification (images or volumes) or segmentation network of torchvision, e.g. `r3d_18`."""
    from torchvision import models

    flat = set(models.list_models(module=models))
    dense = set(models.list_models(module=models.segmentation))
    volume = set(models.list_models(module=models.video))
    if name not in flat | dense | volume:
        raise _unknown_model("torchvision", name, flat | dense | volume)
    _check_use(f"torchvision:{name}", wanted, dense=name in dense, spatial_dims=3 if name in volume else 2)
    options: dict[str, Any] = {}
    if name in dense:
        options["weights_backbone"] = None
    if name in {"googlenet", "inception_v3"}:
        # their auxiliary classifiers take part in training only
        options |= {"aux_logits": False, "init_weights": True}
    try:
        model = cast("nn.Module", models.get_model(name, weights=None, num_classes=wanted.outputs, **options))
    except Exception as error:
        raise _cannot_build(f"torchvision:{name}", wanted, error) from error
    if wanted.channels != 3:
        _replace_first_convolution(model, wanted.channels)
    if name in dense:
        # a hook and not a wrapper, so that the names in its state dict stay torchvision's own
        model.register_forward_hook(_main_output)
    return model


def smp_model(name: str, wanted: Requirements) -> nn.Module:
    """A 2-D segmentation network named architecture-encoder, e.g. `unet-resnet34`."""
    try:
        import segmentation_models_pytorch as smp
    except ImportError as error:
        raise MissingExtraError("segmentation-models-pytorch", "smp") from error

    architecture, dash, encoder = name.lower().partition("-")
    if not dash or not encoder:
        raise InputError(f"smp:{name}: write smp:<architecture>-<encoder>, e.g. smp:unet-resnet34")
    if architecture not in smp.MODEL_ARCHITECTURES_MAPPING:
        raise unknown("smp architecture", architecture, smp.MODEL_ARCHITECTURES_MAPPING)
    encoders = smp.encoders.get_encoder_names()
    # these prefixes stand for the networks of timm, too many to list
    if encoder not in encoders and not encoder.startswith(("tu-", "timm-")):
        raise _unknown_model("smp encoder", encoder, encoders)
    _check_use(f"smp:{name}", wanted, dense=True)
    try:
        model = smp.create_model(
            architecture,
            encoder_name=encoder,
            encoder_weights=None,
            in_channels=wanted.channels,
            classes=wanted.outputs,
        )
    except Exception as error:
        raise _cannot_build(f"smp:{name}", wanted, error) from error
    return cast("nn.Module", model)


def _check_use(source: str, wanted: Requirements, *, dense: bool, spatial_dims: int = 2) -> None:
    if dense != wanted.dense:
        kind = "segmentation" if dense else "classification"
        raise InputError(f"{source} is a {kind} network, the task is {wanted.task}: choose another model")
    if spatial_dims != wanted.spatial_dims:
        raise InputError(
            f"{source} takes {spatial_dims}-D images, the data are {wanted.spatial_dims}-D: choose another model"
        )


def _unknown_model(kind: str, name: str, known: Iterable[str]) -> InputError:
    """As `unknown`, but for a catalogue too long to be printed."""
    names = list(known)
    near = difflib.get_close_matches(name.lower(), names, n=3, cutoff=0.5)
    if near:
        return unknown(f"{kind} model", name, near)
    return InputError(f"unknown {kind} model {name!r}: none of the {len(names)} there are is named like it")


def _cannot_build(source: str, wanted: Requirements, error: Exception) -> InputError:
    reason = (str(error) or type(error).__name__).splitlines()[0]
    return InputError(f"{source} cannot be built for {wanted.channels} channels and {wanted.outputs} outputs: {reason}")


def _replace_first_convolution(model: nn.Module, channels: int) -> None:
    """Put a fresh convolution in place of the first, which takes three channels."""
    for name, layer in model.named_modules():
        if isinstance(layer, nn.Conv2d | nn.Conv3d):
            model.set_submodule(name, _with_channels(layer, channels))
            return


def _with_channels(layer: nn.Conv2d | nn.Conv3d, channels: int) -> nn.Module:
    return type(layer)(
        channels,
        layer.out_channels,
        layer.kernel_size,  # type: ignore[arg-type]
        stride=layer.stride,  # type: ignore[arg-type]
        padding=layer.padding,  # type: ignore[arg-type]
        dilation=layer.dilation,  # type: ignore[arg-type]
        groups=layer.groups,
        bias=layer.bias is not None,
        padding_mode=layer.padding_mode,
    )


def _main_output(_model: nn.Module, _inputs: tuple[Tensor, ...], outputs: dict[str, Tensor]) -> Tensor:
    return outputs["out"]
