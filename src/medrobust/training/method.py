"""What a method of hardening is: the loss of one step."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, ClassVar, cast

from torch import Tensor

from medrobust.attacks import Attack
from medrobust.attacks.describing import described
from medrobust.attacks.positions import Positions
from medrobust.attacks.unjudged import attacked_images, walks
from medrobust.tasks import Task
from medrobust.threat import Threat
from medrobust.training.balance import weights_at
from medrobust.training.trainee import Packed, Trainee
from medrobust.victim import Victim


@dataclass(frozen=True)
class Step:
    """One batch to learn from.

    Attributes:
        trainee: the model in train mode, as the engine wrapped it: what gradients of weights go through.
        raw: the same, unwrapped.
        victim: the same model as attacks see it.
        images: `(B, C, *spatial)` in data units.
        truth: `(B, …)`, see `Task`.
        ids: of the B images.
        threat: what the attacker may change, at this point of the training.
        seed: of what is random in this step.
        weights: of the classes in the loss, `(K,)`; None: all alike. Attacks know nothing of them.
        start: `(B, C, *spatial)`, where attacks start; None: as they say.
    """

    trainee: Callable[[Tensor], Any]
    raw: Trainee
    victim: Victim
    images: Tensor
    truth: Tensor
    ids: Sequence[object]
    threat: Threat
    seed: int
    weights: Tensor | None = None
    start: Tensor | None = None

    @property
    def task(self) -> Task:
        """Of the victim."""
        return self.victim.task

    def clean(self) -> Any:
        """Outputs at the clean images, with gradients of the weights."""
        with self.raw.unnoticed():
            return self.outputs(self.images)

    def outputs(self, images: Tensor) -> Any:
        """Outputs at attacked images, with gradients of the weights."""
        outputs = self.trainee(images)
        return outputs.outputs if isinstance(outputs, Packed) else outputs

    def loss(self, outputs: Any) -> Tensor:
        """The task's loss, the mean over the batch; by the weights of the classes, if they have some."""
        if self.weights is None:
            return self.task.loss(outputs, self.truth).mean()
        positions = Positions.of("a weighted loss", self.task, outputs, self.truth)
        return positions.mean(-self.weighted(positions.true)).mean()

    def weighted(self, values: Tensor) -> Tensor:
        """Values `(B, *positions)` times the weights of the classes there."""
        return values if self.weights is None else values * weights_at(self.weights, self.truth)

    def attacked(self, attack: Attack, victim: Victim | None = None) -> Tensor:
        """The images as an attack on the model (or on another victim) makes them; no gradient goes through them."""
        victim = victim or self.victim
        return attacked_images(
            attack, victim, self.images, self.truth, self.threat, self.seed, self.ids, start=self.start
        )


class Method(ABC):
    """How a model is made to hold. A new one is a dataclass with a `loss`, and a line in the catalogue.

    Attributes:
        tasks: names of the tasks it is for; None: all.
        replays: how often the weights are moved on one batch.
        attacked: whether it learns from attacked images.
        single_step: whether its attack is a single step, which a model can learn to break without holding.
    """

    tasks: ClassVar[tuple[str, ...] | None] = None
    replays: int = 1
    single_step: ClassVar[bool] = False
    attacked: ClassVar[bool] = True

    @property
    def startable(self) -> bool:
        """Whether its attack can be told where to start."""
        return walks(getattr(self, "attack", None))

    def images(self, step: Step) -> Tensor:
        """The attacked images `(B, C, *spatial)` to learn from; the clean ones where none are attacked."""
        return step.images

    @abstractmethod
    def loss(self, step: Step, attacked: Tensor) -> Tensor:
        """What the weights descend, a scalar: the mean over the batch."""

    def again(self, step: Step, attacked: Tensor) -> Tensor:
        """The attacked images for the next replay; `attacked.grad` is that of the loss just descended."""
        return attacked

    def describe(self) -> dict[str, object]:
        """Name and options, for reports."""
        names: list[str] = [one.name for one in fields(cast("Any", self))] if is_dataclass(self) else []
        return {"method": type(self).__name__, **{name: described(getattr(self, name)) for name in names}}
