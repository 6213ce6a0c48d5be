"""Classification: two or more logits, one logit, several labels, or ordered grades."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from medrobust.errors import InputError
from medrobust.harm import checked_costs
from medrobust.tasks.surface import Spacing
from medrobust.tasks.task import IGNORED, Task, check_truth_range


class Classification(Task[Tensor]):
    """One answer per image.

    Args:
        classes: number of classes (of labels, when `multilabel`).
        multilabel: every class is a yes/no label of its own; outputs are `(B, classes)` logits and truth is
            `(B, classes)` of 0/1. An image counts as right when *all* its labels are.
        ordinal: the classes are ordered grades. Outputs are either `(B, classes)` logits, or
            `(B, classes − 1)` cumulative logits of "the grade is above k" (CORAL, arXiv 1901.07884).
        ignore_index: multi-label only: the value of a label that is unknown, e.g. −1.
        costs: what each wrong answer costs a patient, `costs[true class][answer]`, 0 for right ones; for the report,
            and for attacks that look for the costliest answer. Not multi-label.

    Two classes may come as two logits or as one, `(B,)` or `(B, 1)`: the logit of class 1.
    """

    def __init__(
        self,
        classes: int,
        *,
        multilabel: bool = False,
        ordinal: bool = False,
        ignore_index: int | None = None,
        costs: Sequence[Sequence[float]] | None = None,
    ) -> None:
        if multilabel and ordinal:
            raise InputError("a task is multi-label or ordinal, not both")
        if classes < 2 and not multilabel:
            raise InputError(f"classification needs at least 2 classes, got {classes}")
        if classes < 1:
            raise InputError(f"multi-label classification needs at least 1 label, got {classes}")
        if ignore_index is not None and not multilabel:
            raise InputError("ignore_index is for multi-label tasks: leave an image without a label out of the data")
        if costs is not None and multilabel:
            raise InputError("costs are of one answer among classes, not of several labels; leave them out")
        self.classes = classes
        self.costs = None if costs is None else checked_costs(costs, classes)
        self.multilabel = multilabel
        self.ordinal = ordinal
        self.ignore_index = ignore_index
        self.name = "multilabel" if multilabel else "ordinal" if ordinal else "classification"

    def __repr__(self) -> str:
        return f"Classification(classes={self.classes}, multilabel={self.multilabel}, ordinal={self.ordinal})"

    @property
    def can_ignore(self) -> bool:
        """Whether labels may be unknown."""
        return self.ignore_index is not None

    def _binary(self, outputs: Tensor) -> bool:
        """Is every output the logit of a yes/no question?"""
        return self.multilabel or outputs.ndim == 1 or outputs.shape[1] == self.classes - 1

    def log_probs(self, outputs: Tensor) -> Tensor:
        """`(B, K)` for one answer among K; `(B, 2)` for one logit; `(B, 2, n)` for n yes/no questions."""
        if not self._binary(outputs):
            return F.log_softmax(outputs, 1)
        questions = outputs.reshape(len(outputs), -1)
        pairs = torch.stack([F.logsigmoid(-questions), F.logsigmoid(questions)], 1)
        return pairs.squeeze(2) if self._one_logit(outputs) else pairs

    def _one_logit(self, outputs: Tensor) -> bool:
        return not self.multilabel and (outputs.ndim == 1 or outputs.shape[1] == 1)

    def targets(self, outputs: Tensor, truth: Tensor) -> Tensor:
        """`(B,)` class, or `(B, n)` the answer to each yes/no question."""
        if self.multilabel:
            return truth if self.ignore_index is None else truth.masked_fill(truth == self.ignore_index, IGNORED)
        if self._binary(outputs) and not self._one_logit(outputs):
            return (truth[:, None] > torch.arange(self.classes - 1, device=truth.device)).long()
        return truth

    def predict(self, outputs: Tensor) -> Tensor:
        """`(B,)` class, or `(B, classes)` of 0/1 when multi-label."""
        if self.multilabel:
            return (outputs > 0).long()
        if self._binary(outputs):
            return (outputs.reshape(len(outputs), -1) > 0).sum(1)
        return outputs.argmax(1)

    def fooled(self, outputs: Tensor, truth: Tensor) -> Tensor:
        """Is the class wrong, or any known label of a multi-label answer?"""
        wrong = self.predict(outputs) != truth
        if not self.multilabel:
            return wrong
        if self.ignore_index is not None:
            wrong = wrong & (truth != self.ignore_index)
        return wrong.any(1)

    def image_metrics(
        self, outputs: Tensor, truth: Tensor, spacing: Sequence[Spacing] | None = None
    ) -> dict[str, Tensor]:
        """None: what is measured on one image is whether it is right, which the records hold anyway."""
        return {}

    def scores(self, outputs: Tensor) -> Tensor:
        """Class probabilities `(B, classes)`; the probability of each label when multi-label."""
        probs = self.probs(outputs)
        if self.multilabel:
            return probs[:, 1]
        if probs.ndim == 2:
            return probs
        above = F.pad(probs[:, 1], (1, 0), value=1.0)  # P(grade > k − 1)
        # cumulative heads need not be monotone: a negative difference is no probability
        grades = (above - F.pad(above[:, 1:], (0, 1))).clamp_min(0)
        return grades / grades.sum(1, keepdim=True)

    def class_log_probs(self, outputs: Tensor) -> Tensor:
        """Logarithms of the class probabilities `(B, classes)`, of one answer among classes; finite, differentiable."""
        log_probs = self.log_probs(outputs)
        if log_probs.ndim == 2:
            return log_probs.clamp_min(-1e30)
        scores = self.scores(outputs)
        return scores.clamp_min(torch.finfo(scores.dtype).tiny).log()

    def check_outputs(self, outputs: Tensor, truth: Tensor) -> None:
        """Raise `InputError` unless both are shaped as the class docstring says."""
        widths = {self.classes}
        if not self.multilabel and (self.ordinal or self.classes == 2):
            widths.add(self.classes - 1)
        one_dimensional = outputs.ndim == 1 and not self.multilabel and self.classes == 2
        if not one_dimensional and (outputs.ndim != 2 or outputs.shape[1] not in widths):
            wanted = " or ".join(f"(B, {width})" for width in sorted(widths, reverse=True))
            raise InputError(f"{self} needs model outputs {wanted}, got {tuple(outputs.shape)}")
        expected = (len(outputs), self.classes) if self.multilabel else (len(outputs),)
        if tuple(truth.shape) != expected:
            raise InputError(f"{self} needs truth of shape {expected}, got {tuple(truth.shape)}")

    def check_truth(self, truth: Tensor) -> None:
        """Raise `InputError` unless the truth holds class indices (0/1 and `ignore_index`, when multi-label)."""
        check_truth_range(truth, 2 if self.multilabel else self.classes, self.ignore_index)
