"""What a task must tell an attack, in one representation that all tasks share.

A task turns a model's outputs into log-probabilities `(B, K, *positions)`: K alternatives at each position.
A softmax classifier has no positions, a one-logit or multi-label output has K = 2 at each label, a segmenter
has K classes at each pixel. Loss, divergences and the stability analysis are written once, on that.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Generic, Literal, cast, get_args

import torch
from torch import Tensor, nn

from medrobust.errors import InputError
from medrobust.tasks.lesions import Lesion
from medrobust.tasks.outputs import Outputs
from medrobust.tasks.placement import Placement
from medrobust.tasks.surface import Spacing

Divergence = Literal["kl", "ce", "hard", "mse"]
IGNORED = -1


class Task(ABC, Generic[Outputs]):
    """Loss, consistency and success, all per sample: an image's attack must not depend on its neighbours.

    Outputs are what `run` makes of the model's answer: a float tensor `(B, …)`, or a detector's raw outputs. Truth is
    `(B, …)` int64 (float boxes for detection), as `Sample.truth` stacked.
    """

    name: str
    classes: int
    dense = False  # an answer at every pixel
    multilabel = False  # every class is a yes/no label of its own

    def run(self, model: nn.Module, inputs: Tensor) -> Outputs:
        """Call the model on preprocessed images `(B, C, *spatial)`; a mapping or object is opened up."""
        return cast("Outputs", tensor_of(model(inputs)))

    @abstractmethod
    def log_probs(self, outputs: Outputs) -> Tensor:
        """Log-probabilities `(B, K, *positions)` of the K alternatives at every position."""

    @abstractmethod
    def targets(self, outputs: Outputs, truth: Tensor) -> Tensor:
        """The true alternative at every position, int64 `(B, *positions)`; −1 where it is to be ignored."""

    @abstractmethod
    def predict(self, outputs: Outputs) -> Tensor:
        """The model's answer in the form of the truth, int64."""

    @abstractmethod
    def fooled(self, outputs: Outputs, truth: Tensor) -> Tensor:
        """Bool `(B,)`: is the answer wrong? The counterpart of being right before an attack."""

    def worth(self, outputs: Outputs, truth: Tensor) -> Tensor:
        """What is left of the answer, float `(B,)` in [0, 1]: is it right, 1 or 0, where nothing finer is measured."""
        return (~self.fooled(outputs, truth)).double()

    @abstractmethod
    def image_metrics(
        self, outputs: Outputs, truth: Tensor, spacing: Sequence[Spacing] | None = None
    ) -> dict[str, Tensor]:
        """Metrics that exist for one image: name → float `(B,)`, or `(B, n)` for one value a class.

        Args:
            outputs, truth: as for all.
            spacing: millimetres between pixels along each axis, of each image (None where unknown). Without it those
                metrics that need it, which take their time, are left out.
        """

    def lesions(self, outputs: Outputs, truth: Tensor, spacing: Sequence[Spacing]) -> list[list[Lesion]] | None:
        """The lesions of each image, with how much the answer covers; None for a task or model that names none."""
        return None

    @abstractmethod
    def scores(self, outputs: Outputs) -> Tensor | None:
        """Scores to keep in the records for set-level metrics (AUROC), float `(B, n)`; None for dense tasks."""

    @abstractmethod
    def check_outputs(self, outputs: Outputs, truth: Tensor) -> None:
        """Raise `InputError` when outputs and truth have not the shapes of this task. Reads no values."""

    @abstractmethod
    def check_truth(self, truth: Tensor) -> None:
        """Raise `InputError` when the truth has not the dtype or range of this task."""

    def places(self, outputs: Outputs) -> object:
        """Where predictions are to be compared, if that hangs on the image; None where all have the same positions."""
        return None

    def log_probs_at(self, outputs: Outputs, places: object) -> Tensor:
        """`log_probs` at the places of other outputs."""
        return self.log_probs(outputs)

    def record_truth(self, truth: Tensor, spacing: Sequence[Spacing]) -> dict[str, list[object]]:
        """The columns that a record holds of the truth, one entry an image."""
        return {"truth": truth.reshape(len(truth), -1).tolist()}

    def record_answers(self, outputs: Outputs) -> dict[str, list[object]]:
        """The columns that a record holds of the answer (without "_before" or "_after"), one entry an image."""
        scores = self.scores(outputs)
        if scores is None:
            return {}
        answers = self.predict(outputs)
        return {"scores": scores.tolist(), "prediction": answers.reshape(len(answers), -1).tolist()}

    def placed(self, truth: Tensor, placement: Placement, frame: torch.Size) -> Tensor:
        """The truth of images of spatial size `frame` that were made smaller and moved."""
        return truth

    def probs(self, outputs: Outputs) -> Tensor:
        """Probabilities `(B, K, *positions)`."""
        return self.log_probs(outputs).exp()

    def loss(self, outputs: Outputs, truth: Tensor) -> Tensor:
        """Cross-entropy against the truth, `(B,)`: the mean over the positions that are not ignored.

        Raises:
            InputError: outputs and truth have not the shapes of this task.
        """
        self.check_outputs(outputs, truth)
        targets = self.targets(outputs, truth)
        used = targets != IGNORED
        picked = self.log_probs(outputs).gather(1, targets.clamp_min(0).unsqueeze(1)).squeeze(1)
        return position_mean(-picked, used)

    def consistency(
        self,
        outputs: Outputs,
        target_outputs: Outputs,
        divergence: Divergence = "kl",
        used: Tensor | None = None,
    ) -> Tensor:
        """How far the prediction is from a target prediction, `(B,)`, mean over positions.

        With p from `outputs` and q from `target_outputs`: "kl" is KL(q ‖ p), "ce" the cross-entropy of p with
        q as soft label, "hard" the cross-entropy of p with argmax q, "mse" Σ(p − q)². `used` `(B, *positions)`
        leaves positions out where it is False.
        """
        places = self.places(outputs)
        log_p, log_q = self.log_probs_at(outputs, places), self.log_probs_at(target_outputs, places)
        return position_mean(_DIVERGENCES[divergence](log_p, log_q), self.used_by_both(log_p, log_q, used))

    def describe(self) -> dict[str, object]:
        """Name and options, for records and reports."""
        return {"task": self.name, **vars(self)}

    def used_positions(self, outputs: Outputs, truth: Tensor) -> Tensor | None:
        """Bool `(B, *positions)` of what the truth does not tell to ignore, or None when all are used."""
        if not self.can_ignore:
            return None
        return self.targets(outputs, truth) != IGNORED

    def used_by_both(self, log_p: Tensor, log_q: Tensor, used: Tensor | None) -> Tensor | None:
        """Bool `(B, *positions)` of where two predictions `(B, K, *positions)` are compared, or None for all."""
        return used

    @property
    def can_ignore(self) -> bool:
        """Whether a truth of this task may hold ignored positions."""
        return False


def position_mean(values: Tensor, used: Tensor | None = None) -> Tensor:
    """Mean over positions, `(B, *positions)` → `(B,)`; a sample with no used position gives 0."""
    flat = values.flatten(1) if values.ndim > 1 else values.unsqueeze(1)
    if used is None:
        return flat.mean(1)
    weight = used.reshape(flat.shape).to(flat.dtype)
    # where, not a product: an ignored position may hold an infinite loss
    return torch.where(weight > 0, flat, 0).sum(1) / weight.sum(1).clamp_min(1)


def kl_divergence(log_p: Tensor, log_q: Tensor) -> Tensor:
    """KL(p ‖ q) over dim 1: `(B, K, *positions)` → `(B, *positions)`; 0·log 0 is 0."""
    difference = log_p - log_q
    # −inf − (−inf) is NaN and carries no probability: it counts as 0
    return torch.where(torch.isneginf(log_p), 0, log_p.exp() * difference).sum(1)


def _kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    return kl_divergence(log_q, log_p)


def _soft_cross_entropy(log_p: Tensor, log_q: Tensor) -> Tensor:
    return -(log_q.exp() * log_p).sum(1)


def _hard_cross_entropy(log_p: Tensor, log_q: Tensor) -> Tensor:
    return -log_p.gather(1, log_q.argmax(1, keepdim=True)).squeeze(1)


def _squared_difference(log_p: Tensor, log_q: Tensor) -> Tensor:
    return (log_p.exp() - log_q.exp()).square().sum(1)


_DIVERGENCES = {"kl": _kl, "ce": _soft_cross_entropy, "hard": _hard_cross_entropy, "mse": _squared_difference}
assert set(_DIVERGENCES) == set(get_args(Divergence))


def tensor_of(outputs: object) -> Tensor:
    """The tensor of logits among what a model returned.

    Raises:
        InputError: there is none.
    """
    if isinstance(outputs, Tensor):
        return outputs
    if isinstance(outputs, Mapping):
        for key in ("out", "logits"):
            if isinstance(outputs.get(key), Tensor):
                found: Tensor = outputs[key]
                return found
    logits = getattr(outputs, "logits", None)
    if isinstance(logits, Tensor):
        return logits
    raise InputError(
        f"the model returned a {type(outputs).__name__}, not a tensor; wrap it in a module that returns the logits"
    )


def check_truth_range(truth: Tensor, classes: int, ignore_index: int | None) -> None:
    """Raise `InputError` when a label is neither a class index nor `ignore_index`."""
    if not isinstance(truth, Tensor):
        raise InputError(f"truth must be an integer tensor, got {type(truth).__name__}")
    if truth.is_floating_point() or truth.dtype == torch.bool or truth.is_complex():
        raise InputError(f"truth must hold integers (class indices), got dtype {truth.dtype}")
    inside = (truth >= 0) & (truth < classes)
    if ignore_index is not None:
        inside |= truth == ignore_index
    if not bool(inside.all()):
        bad = int(truth[~inside].flatten()[0])
        raise InputError(f"truth holds label {bad}; with classes={classes} labels run from 0 to {classes - 1}")
