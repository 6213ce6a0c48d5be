"""Volumes that are too large for a model in one piece, or a model that knows slices alone.

Both wrappers run the model piece by piece, and forget what a piece's backward pass would need: it is computed again
when its gradient is asked for (`torch.utils.checkpoint`; Chen et al., arXiv 1604.06174). So memory holds the
activations of one window, or of one batch of slices, however large the volume is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from medrobust.checks import at_least, one_of
from medrobust.errors import InputError
from medrobust.model_state import in_use
from medrobust.tasks.task import tensor_of

Blend = Literal["gaussian", "constant"]
AXES = {"axial": 0, "coronal": 1, "sagittal": 2}
"""Names of the axes of a volume (D, H, W) as a DICOM series is stacked."""


class _Piecewise(nn.Module):
    """A model that is run on pieces of its input, each by a checkpoint of its own."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        if not isinstance(model, nn.Module):
            raise InputError(f"model must be a torch.nn.Module, got {type(model).__name__}")
        self.model = model

    def _piece(self, piece: Tensor) -> Tensor:
        """The model's outputs for one piece, which keep no activations."""
        if not torch.is_grad_enabled():
            return tensor_of(self.model(piece))
        frozen = self._is_frozen()

        def run(inputs: Tensor) -> Tensor:
            # its second run may come when the victim's use of the model is over. Inside that use nothing may be
            # waited for: on a GPU the second run is in autograd's thread, and the victim's own waits for it
            if not frozen or self._is_frozen():
                return tensor_of(self.model(inputs))
            with in_use(self, channels_last=False):
                return tensor_of(self.model(inputs))

        outputs = checkpoint(run, piece, use_reentrant=False, preserve_rng_state=False)
        assert isinstance(outputs, Tensor)
        return outputs

    def _is_frozen(self) -> bool:
        learning = any(weight.requires_grad for weight in self.parameters())
        return not learning and not any(module.training for module in self.modules())


class SlidingWindow(_Piecewise):
    """A model run on windows of an image or a volume, whose logits are averaged where windows overlap.

    `(B, C, *spatial)` → `(B, K, *spatial)`, by MONAI's `sliding_window_inference`. An axis shorter than the window is
    extended by its border values for the model, and cut again. Every window is a model call of its own, so that an
    attack's gradient is the sum over the windows in which a pixel is.

    Args:
        model: gives an answer at every pixel.
        size: of the window, along each spatial axis.
        overlap: share of a window that it has in common with the next, in [0, 1).
        mode: weights of a window's logits in the average: highest in its middle ("gaussian"), or all alike
            ("constant").
        batch_size: windows that the model is given at once.

    Raises:
        InputError: an argument has no such value.
    """

    def __init__(
        self,
        model: nn.Module,
        size: Sequence[int],
        overlap: float = 0.25,
        mode: Blend = "gaussian",
        batch_size: int = 1,
    ) -> None:
        super().__init__(model)
        if len(size) not in (2, 3):
            raise InputError(f"a window has 2 or 3 sides, got {list(size)}")
        for side in size:
            at_least("a side of the window", side, 1)
        if isinstance(overlap, bool) or not isinstance(overlap, float | int) or not 0 <= overlap < 1:
            raise InputError(f"overlap must be at least 0 and below 1, got {overlap!r}")
        one_of("mode", mode, get_args(Blend))
        at_least("batch_size", batch_size, 1)
        self.size = tuple(int(side) for side in size)
        self.overlap = float(overlap)
        self.mode = mode
        self.batch_size = int(batch_size)

    def extra_repr(self) -> str:
        """The options."""
        return f"size={self.size}, overlap={self.overlap}, mode={self.mode!r}, batch_size={self.batch_size}"

    def forward(self, images: Tensor) -> Tensor:
        """Logits `(B, K, *spatial)` of images `(B, C, *spatial)`."""
        from monai.inferers.utils import sliding_window_inference  # here: importing it is slow

        if images.ndim != len(self.size) + 2:
            raise InputError(f"a window of {list(self.size)} does not fit images {tuple(images.shape[1:])}")
        outputs = sliding_window_inference(
            images, self.size, self.batch_size, self._window, self.overlap, self.mode, padding_mode="replicate"
        )
        assert isinstance(outputs, Tensor)
        return outputs

    def _window(self, window: Tensor) -> Tensor:
        outputs = self._piece(window)
        if outputs.shape[2:] != window.shape[2:]:
            raise InputError(
                f"the model answers a window {tuple(window.shape[2:])} by {tuple(outputs.shape[1:])}: "
                "it must answer at every pixel"
            )
        # MONAI weighs the logits in place, and they may be what the model's last layer needs for its gradient
        return outputs.clone() if torch.is_grad_enabled() else outputs


class OverSlices(_Piecewise):
    """A model of images run over the slices of a volume: `(B, C, D, H, W)` → `(B, K, D, H, W)`.

    Args:
        model: takes `(N, C, h, w)` and gives an answer at every pixel, `(N, K, h, w)`.
        axis: across which the slices lie: 0, 1 or 2 of (D, H, W), or "axial" (0), "coronal" (1), "sagittal" (2),
            which are its names where volumes are stacked like a DICOM series.
        batch_size: slices that the model is given at once.

    Raises:
        InputError: an argument has no such value.
    """

    def __init__(self, model: nn.Module, axis: int | str = 0, batch_size: int = 8) -> None:
        super().__init__(model)
        place = AXES.get(axis, axis) if isinstance(axis, str) else axis
        if isinstance(place, bool) or place not in (0, 1, 2):
            raise InputError(f"axis must be 0, 1, 2, {', '.join(AXES)}, got {axis!r}")
        at_least("batch_size", batch_size, 1)
        self.axis = int(place)
        self.batch_size = int(batch_size)

    def extra_repr(self) -> str:
        """The options."""
        return f"axis={self.axis}, batch_size={self.batch_size}"

    def forward(self, volumes: Tensor) -> Tensor:
        """Logits `(B, K, D, H, W)` of volumes `(B, C, D, H, W)`."""
        if volumes.ndim != 5:
            raise InputError(f"slices are taken of volumes (B, C, D, H, W), got images {tuple(volumes.shape)}")
        stacked = volumes.movedim(self.axis + 2, 1)  # (B, slices, C, h, w)
        slices = stacked.flatten(0, 1)
        answered = torch.cat([self._piece(some) for some in torch.split(slices, self.batch_size)])
        if answered.ndim != 4 or answered.shape[2:] != slices.shape[2:]:
            raise InputError(
                f"the model answers slices {tuple(slices.shape[1:])} by {tuple(answered.shape[1:])}: it must answer at "
                "every pixel"
            )
        return answered.reshape(*stacked.shape[:2], *answered.shape[1:]).movedim(1, self.axis + 2)
