"""What an attack is to whoever runs it, and what it may tell of itself before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol, TypeGuard, cast, runtime_checkable

from torch import Tensor

from medrobust.attacks.result import AttackResult
from medrobust.data import Dataset
from medrobust.threat import Threat
from medrobust.victim import Victim

Needs = Literal["gradients", "scores", "decisions"]
"""What an attack must see of a model: gradients, the scores of all answers, or the answer alone."""


class Attack(Protocol):
    """Attacks a batch; stateless between calls, its randomness from seed and ids alone."""

    @property
    def targeted(self) -> bool:
        """Whether `truth` is the answer to reach, not the one to leave."""
        ...

    def describe(self) -> dict[str, object]:
        """Name ("attack") and options, for records and reports."""
        ...

    def __call__(
        self,
        victim: Victim,
        images: Tensor,
        truth: Tensor,
        threat: Threat,
        seed: int = 0,
        ids: Sequence[object] | None = None,
    ) -> AttackResult:
        """See `BatchAttack.__call__`."""
        ...


@runtime_checkable
class Preparable(Attack, Protocol):
    """An attack that must see the whole data set before it attacks a batch of it."""

    def prepared(self, victim: Victim, dataset: Dataset, threat: Threat, seed: int) -> Attack:
        """The attack for the batches of this data set, at this budget; itself where nothing is to be prepared."""
        ...


def needs_of(attack: object) -> Needs:
    """What an attack must see of a model, as it is configured; one that does not say may need gradients."""
    if isinstance(attack, _Seeing):
        return attack.sees()
    return cast("Needs", getattr(attack, "needs", "gradients"))


def to_prepare(attack: object) -> TypeGuard[Preparable]:
    """Whether an attack must be prepared; one that wraps others says by `prepares` whether any of them must."""
    return isinstance(attack, Preparable) and bool(getattr(attack, "prepares", True))


@runtime_checkable
class _Seeing(Protocol):
    """An attack whose options tell what it must see."""

    def sees(self) -> Needs: ...
