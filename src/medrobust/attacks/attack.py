"""What an attack is to whoever runs it: gradient-based or not, one attack or several."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor

from medrobust.attacks.loop import AttackResult
from medrobust.threat import Threat
from medrobust.victim import Victim


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
        """See `IterativeAttack.__call__`."""
        ...
