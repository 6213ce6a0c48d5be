"""An iterative attack is a set of choices for the one loop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from torch import Tensor

from medrobust.attacks.attack import SearchAttack
from medrobust.attacks.case import Case, Effort, Found, rows_where
from medrobust.attacks.gradients import GradientPart, Momentum
from medrobust.attacks.inputs import InputPart
from medrobust.attacks.loop import run_plan
from medrobust.attacks.losses_catalogue import make_loss
from medrobust.attacks.objectives import Objective, TaskLoss
from medrobust.attacks.parts import make_estimate, make_gradients, make_inputs, make_step
from medrobust.attacks.per_image import exchanged
from medrobust.attacks.plan import Plan
from medrobust.attacks.protocols import Needs
from medrobust.attacks.sources import Backpropagation, GradientSource
from medrobust.attacks.steps import Length, StepRule, Walk, over_ripples
from medrobust.checks import at_least, boolean, not_negative, one_of, positive
from medrobust.errors import InputError
from medrobust.threat import nested
from medrobust.transforms import GaussianSmoothing

Keep = Literal["last", "best"]


@dataclass(frozen=True, kw_only=True)
class IterativeAttack(SearchAttack):
    """Base of the attacks that climb an objective step by step. Parts of any kind can be put into each of them.

    Args:
        steps: gradient steps of one restart.
        step_size: in the unit of eps; None is 2.5 · eps/steps, or the attack's own rule; in a deformation see
            `over_ripples`.
        targeted: `truth` is the answer to reach, not the one to leave.
        random_start: start from a uniform draw in the ball, not from the clean image.
        restarts: independent runs, the worst kept per sample; all but the first start at random.
        keep: the "last" iterate, or per sample the "best" of all (attack goal met first, then the loss).
        momentum: decay of the momentum of normalised gradients; 0 is none.
        loss: what is climbed instead of the attack's own loss, e.g. `Margin()`.
        inputs: what is done to the images before the model sees them, besides what the attack does itself.
        gradients: what is done to the gradient, before the momentum.
        step: how the gradient becomes a step, instead of the attack's own way, e.g. `Adam()`.
        estimate: where the gradient comes from instead of backpropagation, e.g. `NaturalEvolution()`: then scores are
            all that is seen of the model.
        early_stop: an image that is fooled, also as it would be saved, leaves the batch as it is then. What is left is
            whether, not how far: the loss of such an image is lower than it could be.
        trace: record the trajectory, at the cost of at most one forward more a step; a `GaussianSmoothing` is that
            under which it watches the prediction, instead of the attack's own.

    Wherever a part is wanted, so is what a configuration writes: "margin", {"ti": {"kernel_size": 5}}.

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
    loss: Objective | None = None
    inputs: Sequence[InputPart] = ()
    gradients: Sequence[GradientPart] = ()
    step: StepRule | None = None
    estimate: GradientSource | None = None
    early_stop: bool = False
    trace: bool | GaussianSmoothing = False

    def __post_init__(self) -> None:
        at_least("steps", self.steps, 1)
        at_least("restarts", self.restarts, 1)
        if self.step_size is not None:
            positive("step_size", self.step_size)
        one_of("keep", self.keep, get_args(Keep))
        not_negative("momentum", self.momentum)
        for name in ("targeted", "random_start", "early_stop"):
            boolean(name, getattr(self, name))
        if not isinstance(self.trace, GaussianSmoothing):
            boolean("trace", self.trace)
        made = {
            "loss": None if self.loss is None else make_loss(self.loss),
            "inputs": make_inputs(self.inputs),
            "gradients": make_gradients(self.gradients),
            "step": None if self.step is None else make_step(self.step),
            "estimate": None if self.estimate is None else make_estimate(self.estimate),
        }
        for name, value in made.items():
            object.__setattr__(self, name, value)
        if self.trace and self.early_stop:
            raise InputError("trace records the whole way, which early_stop cuts short: choose one of them")
        self.input_parts()  # these check the options that they are made of
        self.gradient_parts()

    def default_step_size(self, eps: float) -> float:
        """The step length for `step_size=None`, in data units."""
        return 2.5 * eps / self.steps

    def objective(self) -> Objective:
        """What is climbed."""
        return TaskLoss() if self.loss is None else self.loss

    def input_parts(self) -> tuple[InputPart, ...]:
        """What is done to the images before the model sees them, in order."""
        return tuple(self.inputs)

    def gradient_parts(self) -> tuple[GradientPart, ...]:
        """What is done to the gradient before a step, in order."""
        return (*self.gradients, *((Momentum(self.momentum),) if self.momentum else ()))

    def default_step(self) -> StepRule:
        """How a step goes, for `step=None`."""
        return Walk()

    def source(self) -> GradientSource:
        """Where the gradient comes from."""
        return Backpropagation() if self.estimate is None else self.estimate

    def sees(self) -> Needs:
        """The scores where the gradient is estimated from them."""
        return "scores" if self.source().asks else self.needs

    def smoothing(self) -> GaussianSmoothing:
        """The smoothing under which a trajectory watches the prediction, where none is given."""
        return GaussianSmoothing()

    def plan(self, case: Case) -> Plan:
        """The loop's choices for a case."""
        step, length = self._step(case)
        return Plan(
            steps=self.steps,
            step_size=length,
            objective=self.objective(),
            source=self.source(),
            step=step,
            inputs=self.input_parts(),
            gradients=self.gradient_parts(),
            random_start=self.random_start,
            restarts=self.restarts,
            keep_best=self.keep == "best",
            early_stop=self.early_stop,
            watch=self._watch(),
        )

    def _watch(self) -> GaussianSmoothing | None:
        if isinstance(self.trace, GaussianSmoothing):
            return self.trace
        return self.smoothing() if self.trace else None

    def _step(self, case: Case) -> tuple[StepRule, Length]:
        length, period = self._length(case), case.threat.ripple
        if self.step is not None:
            return self.step, length
        step = self.default_step()
        if period is None or not isinstance(step, Walk) or self.steps == 1 or self.step_size is not None:
            return step, length
        return over_ripples(step, length, case, period)

    def _length(self, case: Case) -> Length:
        if self.step_size is not None:
            return self.step_size
        if isinstance(case.threat.eps, Tensor):  # the rule is a share of eps
            return self.default_step_size(1.0) * case.threat.eps.to(case.clean)
        return self.default_step_size(case.threat.eps)

    @property
    def shares_budgets(self) -> bool:
        """What fools within a smaller ball fools within a larger one: with `early_stop` it is not searched again."""
        return self.early_stop

    def search(self, case: Case) -> Found:
        """Run the loop, as configured."""
        return run_plan(self.plan(case), case)

    def search_all(self, cases: Sequence[Case]) -> list[Found]:
        """Run the loop at every budget; with `early_stop` from the smallest on, each time for what still stands."""
        if not self.early_stop or len(cases) == 1 or not nested([case.threat for case in cases]):
            return [self.search(case) for case in cases]
        found: dict[int, Found] = {}
        before: Found | None = None
        for place in sorted(range(len(cases)), key=lambda place: cases[place].threat.budget()):
            before = found[place] = self._on_what_stands(cases[place], before)
        return [found[place] for place in range(len(cases))]

    def _on_what_stands(self, case: Case, before: Found | None) -> Found:
        if before is None:
            return self.search(case)
        standing = rows_where(~before.candidate.success)
        effort = Effort.of(case)
        if not len(standing):
            return Found(before.candidate, effort)
        found = self.search(case.rows(standing))
        effort.add(found.effort, standing)
        return Found(exchanged(before.candidate, found.candidate, standing), effort)
