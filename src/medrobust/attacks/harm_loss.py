"""The objective that looks for the answer which harms most, not for any wrong one."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from medrobust.attacks.objectives import Iterate, OutputObjective
from medrobust.errors import InputError
from medrobust.harm import Costs, checked_costs
from medrobust.tasks import Classification, Task


@dataclass(frozen=True)
class ExpectedHarm(OutputObjective):
    """The expected cost of the answer, Σ_k C[y, k]·p_k, climbed as its logarithm.

    The expected cost is the risk of Bayesian decision theory (Elkan: The Foundations of Cost-Sensitive Learning, IJCAI
    2001, section 2). Its gradient with respect to the logits, p_j·(C[y, j] − Σ_k C[y, k]·p_k), fades where the model is
    sure of y (C[y, y] is 0); that of its logarithm, p_j·C[y, j] / Σ_k C[y, k]·p_k − p_j, points the same way and does
    not. An image of a class no error about which costs anything stays where it is. `early_stop` leaves an image at its
    first wrong answer, which may not be the costliest.

    Args:
        costs: `costs[true class][answer]`; those of the task (`Classification(costs=…)`, `harm` of a run.yaml) when
            None.

    Raises:
        InputError: they are no such table.
    """

    looks_back = False
    costs: Costs | None = None

    def __post_init__(self) -> None:
        if self.costs is not None:
            object.__setattr__(self, "costs", checked_costs(self.costs, len(self.costs)))

    def deviation(self, task: Task, outputs: Tensor, iterate: Iterate) -> Tensor:
        """The logarithm of the expected cost, `(B,)`.

        Raises:
            InputError: there are no costs, or none for this task; or the attack is targeted.
        """
        if iterate.sign < 0:
            raise InputError("the loss harm looks for the costliest answer, whichever it is: it needs targeted=False")
        task.check_outputs(outputs, iterate.truth)
        task, costs = self._of(task, outputs)
        of_truth = costs[iterate.truth]
        matters = (of_truth > 0).any(1)
        # where nothing costs, one cost of all answers: a logarithm of 0 would make the gradient NaN
        weights = torch.where(matters.unsqueeze(1), of_truth, 1)
        return torch.where(matters, (task.class_log_probs(outputs) + weights.log()).logsumexp(1), 0)

    def left(self, task: Task, outputs: Tensor, iterate: Iterate) -> Tensor | None:
        """Bool `(B,)`: does an error about this image cost anything?"""
        _, costs = self._of(task, outputs)
        return (costs > 0).any(1)[iterate.truth]

    def _of(self, task: Task, outputs: Tensor) -> tuple[Classification, Tensor]:
        """The task, and the costs as a tensor `(classes, classes)`."""
        if not isinstance(task, Classification) or task.multilabel:
            raise InputError(f"the loss harm is for one answer among classes, got {task.name}")
        costs = task.costs if self.costs is None else self.costs
        if costs is None:
            raise InputError("the loss harm needs costs: set harm in the configuration, or Classification(costs=…)")
        if len(costs) != task.classes:
            raise InputError(f"the loss harm has costs of {len(costs)} classes, the task has {task.classes}")
        return task, torch.tensor(costs, dtype=outputs.dtype, device=outputs.device)
