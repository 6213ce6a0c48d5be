"""Architectures from timm, torchvision and segmentation-models-pytorch, always without their weights."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any, cast

from torch import Tensor, nn

from medrobust.errors import InputError, MissingExtraError, unknown
from medrobust.models.requirements import NetworkKind, Requirements


def timm_model(name: str, wanted: Requirements) -> nn.Module:
    """A 2-D classification network of timm, e.g. `resnet18`."""
    import timm

    if not timm.is_model(name):
        raise _unknown_model("timm", name, timm.list_models())
    _check_use(f"timm:{name}", wanted, "classification")
    try:
        model = timm.create_model(name, pretrained=False, in_chans=wanted.channels, num_classes=wanted.outputs)
    except Exception as error:
        raise _cannot_build(f"timm:{name}", wanted, error) from error
    return cast("nn.Module", model)


def torchvision_model(name: str, wanted: Requirements) -> nn.Module:
    """A classification (images or volumes), segmentation or detection network of torchvision, e.g. `r3d_18`.

    A detector is torchvision's own class. It counts its labels from 1, 0 being the background; with another number
    of channels than 3 its normalisation has the mean of the three channels' figures for each.
    """
    kind, spatial_dims = _torchvision_kind(name)
    _check_use(f"torchvision:{name}", wanted, kind, spatial_dims=spatial_dims)
    options: dict[str, Any] = {"num_classes": wanted.outputs + (kind == "detection")}
    if kind != "classification":
        options["weights_backbone"] = None
    if name in {"googlenet", "inception_v3"}:
        # their auxiliary classifiers take part in training only
        options |= {"aux_logits": False, "init_weights": True}
    from torchvision import models

    try:
        model = cast("nn.Module", models.get_model(name, weights=None, **options))
    except Exception as error:
        raise _cannot_build(f"torchvision:{name}", wanted, error) from error
    if wanted.channels != 3:
        _replace_first_convolution(model, wanted.channels)
        if kind == "detection":
            _normalise_channels(model, wanted.channels)
    if kind == "segmentation":
        # a hook and not a wrapper, so that the names in its state dict stay torchvision's own
        model.register_forward_hook(_main_output)
    return model


def _torchvision_kind(name: str) -> tuple[NetworkKind, int]:
    """What the network is for, and the spatial dimensions of its images."""
    from torchvision import models

    kinds: dict[str, tuple[NetworkKind, int]] = {}
    kinds |= dict.fromkeys(models.list_models(module=models), ("classification", 2))
    kinds |= dict.fromkeys(models.list_models(module=models.video), ("classification", 3))
    kinds |= dict.fromkeys(models.list_models(module=models.segmentation), ("segmentation", 2))
    boxes_only = models.list_models(module=models.detection, exclude=["maskrcnn*", "keypointrcnn*"])
    kinds |= dict.fromkeys(boxes_only, ("detection", 2))
    if name not in kinds:
        raise _unknown_model("torchvision", name, kinds)
    return kinds[name]


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
    _check_use(f"smp:{name}", wanted, "segmentation")
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


def _check_use(source: str, wanted: Requirements, kind: NetworkKind, *, spatial_dims: int = 2) -> None:
    if kind != wanted.kind:
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


def _normalise_channels(model: nn.Module, channels: int) -> None:
    transform: Any = model.transform
    for name in ("image_mean", "image_std"):
        values = getattr(transform, name)
        setattr(transform, name, [sum(values) / len(values)] * channels)


def _main_output(_model: nn.Module, _inputs: tuple[Tensor, ...], outputs: dict[str, Tensor]) -> Tensor:
    return outputs["out"]
