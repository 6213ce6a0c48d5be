"""An iterative attack is a set of choices for the one loop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal, get_args

from torch import Tensor

from medrobust.attacks.directions import Direction, steepest
from medrobust.attacks.gradients import GradientPart, Momentum
from medrobust.attacks.inputs import InputPart
from medrobust.attacks.loop import AttackResult, Plan, run_plan
from medrobust.attacks.objectives import Objective, TaskLoss
from medrobust.attacks.sizes import BatchAttack
from medrobust.attacks.smoothing import GaussianSmoothing
from medrobust.checks import at_least, boolean, not_negative, one_of, positive
from medrobust.threat import Threat
from medrobust.victim import Victim

Keep = Literal["last", "best"]


@dataclass(frozen=True, kw_only=True)
class IterativeAttack(BatchAttack):
    """Base of the attacks that climb an objective by steps of constant length.

    Args:
        steps: gradient steps of one restart.
        step_size: in data units; None is 2.5 · eps/steps, or the attack's own rule.
        targeted: `truth` is the answer to reach, not the one to leave.
        random_start: start from a uniform draw in the ball, not from the clean image.
        restarts: independent runs, the worst kept per sample; all but the first start at random.
        keep: the "last" iterate, or per sample the "best" of all (attack goal met first, then the loss).
        momentum: decay of the momentum of normalised gradients; 0 is none.
        trace: record the trajectory, at the cost of at most one forward more a step.

    Raises:
        InputError: an option has no such value.
    """

    steps: int = 10
    step_size: float | None = None
    targeted: bool = False
    random_start: bool = False
    restarts: int = 1
    keep: Keep = "last"
    momentum: float = 0.0
    trace: bool = False

    def __post_init__(self) -> None:
        at_least("steps", self.steps, 1)
        at_least("restarts", self.restarts, 1)
        if self.step_size is not None:
            positive("step_size", self.step_size)
        one_of("keep", self.keep, get_args(Keep))
        not_negative("momentum", self.momentum)
        for name in ("targeted", "random_start", "trace"):
            boolean(name, getattr(self, name))

    def default_step_size(self, eps: float) -> float:
        """The step length for `step_size=None`, in data units."""
        return 2.5 * eps / self.steps

    def objective(self) -> Objective:
        """What is climbed."""
        return TaskLoss()

    def input_part(self) -> InputPart | None:
        """What is done to the images before the model sees them, if anything."""
        return None

    def gradient_parts(self) -> tuple[GradientPart, ...]:
        """What is done to the gradient before a step, in order."""
        return (Momentum(self.momentum),) if self.momentum else ()

    def direction(self) -> Direction:
        """Which way a step goes."""
        return steepest

    def smoothing(self) -> GaussianSmoothing:
        """The smoothing under which a trajectory watches the prediction."""
        return GaussianSmoothing()

    def describe(self) -> dict[str, object]:
        """Name and options, for records and reports."""
        return {"attack": type(self).__name__, **asdict(self)}

    def attack_batch(
        self, victim: Victim, images: Tensor, truth: Tensor, threat: Threat, seed: int, ids: Sequence[object] | None
    ) -> AttackResult:
        """Run the loop, as configured."""
        plan = Plan(
            steps=self.steps,
            step_size=self.default_step_size(threat.budget()) if self.step_size is None else self.step_size,
            objective=self.objective(),
            inputs=self.input_part(),
            gradients=self.gradient_parts(),
            direction=self.direction(),
            targeted=self.targeted,
            random_start=self.random_start,
            restarts=self.restarts,
            keep_best=self.keep == "best",
            watch=self.smoothing() if self.trace else None,
        )
        return run_plan(plan, victim, images, truth, threat, seed, ids)
