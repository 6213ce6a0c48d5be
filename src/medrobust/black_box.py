"""A model of which the answers alone are seen: a function, a session of another runtime, a service far away."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from medrobust.checks import at_least, boolean
from medrobust.errors import InputError
from medrobust.tasks import Detection, Task
from medrobust.victim import Victim, gives_gradients

SLACK = 1e-3  # how far probabilities may be out of [0, 1] by the rounding of whoever computed them


class BlackBox(Victim):
    """A victim that shows its scores and no gradient; attacks that need one say so.

    It keeps the promises of a `Victim`: images in data units, an answer for each image by itself.

    Args:
        predict: from images `(B, C, *spatial)`, float32 in data units, to the task's scores `(B, …)`: a tensor or a
            NumPy array of logits. It is given a tensor on the images' device, see `numpy`. A network, too, may be
            looked at as a black box; a `Predictor` is taken with its own options.
        task: how to read the scores; not detection, whose raw outputs are no scores.
        bounds: lowest and highest value of an image; `predict` is never asked about an image out of them by an attack
            on pixels.
        mean, std: as of a `Victim`, for a function that wants its images normalised.
        probabilities: the scores are probabilities in [0, 1]: over the classes, or of each yes/no answer.
        numpy: give `predict` a NumPy array instead of a tensor.
        batch_size: the most images that `predict` is given at once; None is as many as there are.

    Raises:
        InputError: an argument has no such value; when called, an answer that is not one of scores for the images.
    """

    def __init__(
        self,
        predict: Callable[[Any], Any],
        task: Task,
        bounds: tuple[float, float] = (0.0, 1.0),
        mean: Sequence[float] | float | None = None,
        std: Sequence[float] | float | None = None,
        *,
        probabilities: bool = False,
        numpy: bool = False,
        batch_size: int | None = None,
    ) -> None:
        if isinstance(task, Detection):
            raise InputError("a black box gives scores, a detector is attacked through its raw outputs: give the model")
        boolean("probabilities", probabilities)
        ready = isinstance(predict, nn.Module) and not gives_gradients(predict)
        model = predict if ready else Predictor(predict, numpy=numpy, batch_size=batch_size)
        assert isinstance(model, nn.Module)
        super().__init__(Logits(model, task) if probabilities else model, task, bounds, mean, std)
        self.probabilities = probabilities

    def describe(self) -> dict[str, object]:
        """How the model is called, for records and reports."""
        return {**super().describe(), "black_box": True, "probabilities": self.probabilities}


class Predictor(nn.Module):
    """A function in the place of a network: asked in batches, its answers checked, without a gradient.

    Args:
        predict, numpy, batch_size: as of `BlackBox`.
        name: what errors call the function.
    """

    differentiable = False

    def __init__(
        self,
        predict: Callable[[Any], Any],
        *,
        numpy: bool = False,
        batch_size: int | None = None,
        name: str = "predict",
    ) -> None:
        super().__init__()
        if not callable(predict):
            raise InputError(f"predict must be a function from images to scores, got {type(predict).__name__}")
        boolean("numpy", numpy)
        if batch_size is not None:
            at_least("batch_size", batch_size, 1)
        self.predict, self.numpy, self.batch_size, self.name = predict, numpy, batch_size, name

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Scores `(B, …)` on the images' device, in float32 or float64.

        Raises:
            InputError: the answer is no array of one finite score or more for every image.
        """
        dtype = next((weight.dtype for weight in self.parameters()), torch.float32)
        images = images.detach().to(dtype)
        size = max(1, len(images)) if self.batch_size is None else self.batch_size
        return torch.cat([self._asked(part) for part in torch.split(images, size)])

    def _asked(self, images: Tensor) -> Tensor:
        answer = self.predict(images.cpu().numpy() if self.numpy else images)
        if isinstance(answer, np.ndarray):
            if answer.dtype.kind not in "fiu":
                raise InputError(f"{self.name} gave an array of {answer.dtype}: it must hold numbers")
            answer = torch.from_numpy(np.ascontiguousarray(answer))
        if not isinstance(answer, Tensor):
            raise InputError(f"{self.name} gave a {type(answer).__name__}: it must return a tensor or a NumPy array")
        if answer.ndim == 0 or len(answer) != len(images):
            raise InputError(
                f"{self.name} gave scores of shape {tuple(answer.shape)} for {len(images)} images: one row an image"
            )
        scores = answer.detach().to(images.device, torch.float64 if answer.dtype == torch.float64 else torch.float32)
        if not bool(torch.isfinite(scores).all()):
            raise InputError(f"{self.name} gave NaN or infinite scores")
        return scores


class Logits(nn.Module):
    """The logits of a model that gives probabilities.

    ln p for a distribution over classes, ln p/(1 − p) for yes/no answers. 0 and 1 are taken for the nearest values
    that float32 tells from them, so that logits stay finite.

    Args:
        model: gives probabilities `(B, …)`.
        task: tells which of the two they are.
    """

    def __init__(self, model: nn.Module, task: Task) -> None:
        super().__init__()
        self.model, self.task = model, task

    def forward(self, images: Tensor) -> Tensor:
        """Logits `(B, …)`.

        Raises:
            InputError: the model's answers are not in [0, 1].
        """
        probabilities: Tensor = self.model(images)
        if not probabilities.numel():
            return probabilities
        least, most = probabilities.amin(), probabilities.amax()
        if not bool((least >= -SLACK) & (most <= 1 + SLACK)):
            raise InputError(
                f"probabilities must be in [0, 1], got {float(least):g} to {float(most):g}: of logits, leave out "
                "probabilities=True"
            )
        precision = torch.finfo(torch.float32)
        if self.task.log_probs(probabilities).shape == probabilities.shape:
            return probabilities.clamp_min(precision.tiny).log()
        return probabilities.clamp(precision.tiny, 1 - precision.eps / 2).logit()
