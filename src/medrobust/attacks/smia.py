"""Stabilized Medical Image Attack: Qi, Gong, Song, Ma, Zheng, ICLR 2021, arXiv 2103.05232.

The paper's own eps, steps, weights and kernel were not available to the authors of this package: no default here
may be called the paper's.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import cast

from medrobust.attacks.iterative import IterativeAttack
from medrobust.attacks.objectives import OutputObjective, TaskLoss
from medrobust.attacks.stabilized import Smooth, Stabilize, Stabilized, Variant
from medrobust.errors import InputError
from medrobust.tasks import Divergence
from medrobust.transforms import GaussianSmoothing


@dataclass(frozen=True, kw_only=True)
class StabilizedAttack(IterativeAttack):
    """Base of the attacks that can take SMIA's stabilization term beside their own deviation; see `Stabilized`.

    Args:
        a1, a2: weights of the two terms; `a2=0` leaves the deviation alone and computes no second branch.
        kernel_size, sigma: of the Gaussian S, in pixels (voxels).
        smooth, divergence, through_target, stabilize, variant: see `Stabilized`.
    """

    a1: float = 1.0
    a2: float = 0.0
    kernel_size: int = 3
    sigma: float = 1.0
    smooth: Smooth = "input"
    divergence: Divergence = "kl"
    through_target: bool = True
    variant: Variant = "paper"
    stabilize: Stabilize = "always"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.loss, OutputObjective | None):
            raise InputError(
                f"loss: SMIA's term goes around a loss of the outputs, not around {type(self.loss).__name__}"
            )
        self.objective()  # checks the options, and warns: once, here

    def inner(self) -> OutputObjective:
        """The deviation term."""
        return TaskLoss()

    def objective(self) -> Stabilized:
        """J, as configured."""
        return self._objective

    @cached_property
    def _objective(self) -> Stabilized:
        return Stabilized(
            inner=self.inner() if self.loss is None else cast("OutputObjective", self.loss),
            a1=self.a1,
            a2=self.a2,
            smoothing=self.smoothing(),
            smooth=self.smooth,
            divergence=self.divergence,
            through_target=self.through_target,
            variant=self.variant,
            stabilize=self.stabilize,
        )

    def smoothing(self) -> GaussianSmoothing:
        """The Gaussian S."""
        return GaussianSmoothing(self.kernel_size, self.sigma)


@dataclass(frozen=True, kw_only=True)
class SMIA(StabilizedAttack):
    """Ascends J(x') = a1 · L(f(x'), y) − a2 · D( f(x') ; f(S(x')) ) by x' ← Π(x' + step_size · sign ∇J).

    L, the *loss deviation*, is the task's loss against the truth; D, the *loss stabilization*, is how far the
    prediction at x' is from that at the smoothed image S(x'). For every task, norm and number of spatial axes.

    Args:
        a1, a2: weights of the two terms. `a2=0` computes no second branch: it is BIM of the same step, bit for bit.
        kernel_size, sigma: of the Gaussian S, in pixels (voxels).
        smooth, divergence, through_target, stabilize, variant: see `Stabilized`.

    With a constant target (`through_target=False`, or "hard") and two classes the term can only scale the step,
    which a sign step ignores: SMIA is then PGD. With a2 ≥ a1 and such a target the terms cancel, which warns.

    The authors' published script (`variant="released"`) has slips that are not reproduced: it does not project to
    the eps-ball, its clamp has no bound, and its kernel is off-centre and crosses channels. Here the ball and the
    bounds always hold, and the kernel is centred and depthwise.
    """

    a2: float = 1.0
