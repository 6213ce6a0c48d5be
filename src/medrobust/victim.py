"""The model under attack, seen in data units."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, get_args

import torch
from torch import Tensor, nn

from medrobust.channel_order import channel_order_told, channels_last_hint
from medrobust.checks import boolean, one_of
from medrobust.compiled import CompiledModel
from medrobust.detectors import DetectorOutputs
from medrobust.errors import InputError
from medrobust.half_precision import HalfPrecision, in_half_precision
from medrobust.model_state import in_use
from medrobust.tasks import Detection, Task, changed, finite_images

HALF = (torch.float16, torch.bfloat16)


class Victim:
    """A model called on images as they are on disk, with its preprocessing inside.

    Budgets are therefore always in data units: eps cannot be applied after a normalisation by mistake. Using a
    victim leaves the model as it was: parameters, their `.grad` and `requires_grad`, buffers, train/eval mode,
    dtype and device; the model runs in eval mode meanwhile.

    Args:
        model: any module from `(B, C, *spatial)` to the task's outputs; a mapping with "out" or "logits" (or an
            object with `.logits`) is understood. For `Detection` a detector, see `medrobust.detectors`.
        task: how to read the outputs.
        bounds: lowest and highest value of an image in data units: (0, 1), or e.g. (-1024, 3071) HU.
        mean, std: per channel (or one for all), in data units; the model sees (image − mean)/std.
        channels_last: run 2-D models in PyTorch's channels_last layout, in which convolutions often take a tenth to a
            third less time. The weights are laid out so for the time of a call, or of `evaluating()`. Not for models
            that reshape their features by `.view`, which raise in that layout.
        compile: run the model as `torch.compile` makes it, at the first call, which takes up to minutes; a model that
            cannot be compiled runs as it is, with a warning. Not for detectors, whose outputs have no fixed shape.
        autocast: run the model's convolutions and products in "bfloat16" or "float16" (not detectors). Outputs, losses
            and gradients are float32, rounded by the half precision on the way.

    Attributes:
        differentiable: whether gradients can be had, see `gives_gradients`.

    Raises:
        InputError: bounds are not finite and ascending, std is not positive, or an option has no such value.
    """

    def __init__(
        self,
        model: nn.Module,
        task: Task,
        bounds: tuple[float, float] = (0.0, 1.0),
        mean: Sequence[float] | float | None = None,
        std: Sequence[float] | float | None = None,
        *,
        channels_last: bool = False,
        compile: bool = False,  # noqa: A002  the word that PyTorch has for it
        autocast: HalfPrecision | None = None,
    ) -> None:
        if not isinstance(model, nn.Module):
            raise InputError(f"model must be a torch.nn.Module, got {type(model).__name__}")
        self.model = model
        self.differentiable = gives_gradients(model)
        self.task = task
        self.bounds = ascending(bounds)
        self.mean, self.std = normalisation(mean, std)
        self.channels_last = channels_last
        boolean("compile", compile)
        if autocast is not None:
            one_of("autocast", autocast, get_args(HalfPrecision))
        if isinstance(task, Detection) and compile:
            raise InputError("a detector cannot be compiled: leave compile out")
        if isinstance(task, Detection) and autocast == "float16":
            raise InputError("a detector runs in autocast='bfloat16', not in float16")
        self.compile = compile
        self.autocast = autocast
        self._compiled: CompiledModel | None = None

    def __call__(self, images: Tensor) -> Any:
        """The model's outputs for images `(B, C, *spatial)` in data units, differentiable in them.

        A tensor `(B, …)`, or `DetectorOutputs` when the task is `Detection`.

        Raises:
            InputError: the model fails on images whose channels seem to be last.
        """
        with self.evaluating():
            return self.forward(images)

    def describe(self) -> dict[str, object]:
        """How the model is called, for records and reports; a model that prepares its images itself tells how.

        Such a model has a method `describe_preprocessing`, whose entries are among these: `transforms.Preprocessed`.
        """
        inside: dict[str, object] = getattr(self.model, "describe_preprocessing", dict)()
        return {
            "bounds": list(self.bounds),
            "mean": None if self.mean is None else self.mean.tolist(),
            "std": None if self.std is None else self.std.tolist(),
            "channels_last": self.channels_last,
            "compile": self.compile,
            "autocast": self.autocast,
            "task_options": self.task.describe(),
            **inside,
        }

    @property
    def device(self) -> torch.device:
        """Where the model's parameters are; "cpu" when it has none."""
        return next((parameter.device for parameter in self.model.parameters()), torch.device("cpu"))

    def forward(self, images: Tensor) -> Any:
        """As a call, inside `evaluating()`, which a loop enters once for all its steps."""
        reference = next(self.model.parameters(), images)
        inputs = self.laid_out(images.to(reference.device))
        if inputs.dtype in HALF:
            inputs = inputs.float()
        if inputs.data_ptr() == images.data_ptr():
            inputs = inputs.clone()  # the model may work in place
        inputs = normalised(inputs, self.mean, self.std)
        if reference.is_floating_point() and not torch.is_autocast_enabled(reference.device.type):
            inputs = inputs.to(reference.dtype)
        outputs = self._run(inputs) if self.autocast is None else in_half_precision(self._run, inputs, self.autocast)

        def given_back(tensor: Tensor) -> Tensor:
            tensor = tensor.to(images.device)
            # log-probabilities and divergences lose too much in half precision
            return tensor.float() if tensor.dtype in HALF else tensor

        return changed(outputs, given_back)

    def _run(self, inputs: Tensor) -> Any:
        with channel_order_told(inputs):
            if not self.compile:
                return self.task.run(self.model, inputs)
            if self._compiled is None or self._compiled.model is not self.model:
                self._compiled = CompiledModel(self.model, self.task.run)
            return self._compiled(inputs)

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Keep the model ready for several calls of `forward`; see `in_use`."""
        with in_use(self.model, self.channels_last):
            yield

    def laid_out(self, images: Tensor) -> Tensor:
        """Images in the layout that the model runs in; the same values."""
        if self.channels_last and images.ndim == 4:
            return images.contiguous(memory_format=torch.channels_last)
        return images

    def check_images(self, images: Tensor) -> None:
        """Raise `InputError` unless images are a finite float `(B, C, *spatial)` within the bounds.

        The message names the range found, with a hint when it looks normalised, like 8-bit values or like HU.
        """
        if not isinstance(images, Tensor) or not images.is_floating_point():
            kind = images.dtype if isinstance(images, Tensor) else type(images).__name__
            raise InputError(f"images must be a float tensor in data units {self.bounds}, got {kind}")
        if images.ndim not in (4, 5):
            shape = tuple(images.shape)
            raise InputError(f"images must be (B, C, H, W) or (B, C, D, H, W), got shape {shape}")
        for name, values in (("mean", self.mean), ("std", self.std)):
            if values is not None:
                _per_channel(values, images, name)
        if images.numel() == 0:
            return
        if not bool(torch.isfinite(images).all()):
            raise InputError("images hold NaN or infinite values")
        least, most = float(images.detach().min()), float(images.detach().max())
        low, high = self.bounds
        slack = 1e-6 * (high - low)
        if least < low - slack or most > high + slack:
            raise InputError(
                f"images range from {least:g} to {most:g}, outside the bounds [{low:g}, {high:g}]"
                f"{_range_hint(least, most, self.bounds)}"
            )


def gives_gradients(model: nn.Module) -> bool:
    """False when a module within the model says that it gives none, by an attribute `differentiable`."""
    return all(getattr(module, "differentiable", True) for module in model.modules())


def ascending(bounds: Sequence[float]) -> tuple[float, float]:
    """The bounds as two floats; raises `InputError` unless they are finite and ascending."""
    low, high = float(bounds[0]), float(bounds[1])
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise InputError(f"bounds must be finite and ascending, got {tuple(bounds)}")
    return low, high


def normalisation(
    mean: Sequence[float] | float | None, std: Sequence[float] | float | None
) -> tuple[Tensor | None, Tensor | None]:
    """Mean and std as float64 `(C,)` or `(1,)`, where given; raises `InputError` unless std is positive."""
    means = None if mean is None else torch.as_tensor(mean, dtype=torch.float64).reshape(-1)
    stds = None if std is None else torch.as_tensor(std, dtype=torch.float64).reshape(-1)
    if stds is not None and not bool((stds > 0).all()):
        raise InputError(f"std must be positive, got {stds.tolist()}")
    return means, stds


def normalised(images: Tensor, mean: Tensor | None, std: Tensor | None) -> Tensor:
    """(image − mean)/std of images `(B, C, *spatial)`; what is None is left out."""
    if mean is not None:
        images = images - _per_channel(mean, images, "mean")
    if std is not None:
        images = images / _per_channel(std, images, "std")
    return images


def check_finite(outputs: Tensor | DetectorOutputs, ids: Sequence[object], kind: str) -> None:
    """Raise `InputError` naming the first image (clean or attacked: `kind`) with a NaN or infinite output."""
    bad = ~finite_images(outputs)
    if bool(bad.any()):
        first = ids[int(bad.nonzero()[0])]
        count = f"{int(bad.sum())} of {len(bad)} in its batch"
        raise InputError(f"the model gives NaN or infinite outputs for the {kind} image {first!r} ({count})")


def _per_channel(values: Tensor, images: Tensor, name: str) -> Tensor:
    if len(values) not in (1, images.shape[1]):
        hint = channels_last_hint(images)
        counts = f"{name} has {len(values)} values, the images have {images.shape[1]} channel(s)"
        raise InputError("; ".join(filter(None, (counts, hint))))
    shape = (1, -1, *[1] * (images.ndim - 2))
    return values.to(device=images.device, dtype=images.dtype).reshape(shape)


def _range_hint(least: float, most: float, bounds: tuple[float, float]) -> str:
    if bounds != (0.0, 1.0):
        return "; set bounds to the lowest and highest value that images may have"
    if least >= -0.5 and 1 < most <= 255:
        return "; this looks like 8-bit values: divide by 255"
    if least <= -500:
        return "; this looks like Hounsfield units: give bounds=(-1024, 3071) or those of the scanner"
    if least >= -10 and most <= 10:
        return "; this looks normalised: pass raw images and give mean and std to the Victim"
    return "; set bounds to the lowest and highest value that images may have"
