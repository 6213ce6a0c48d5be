"""Attacks that go towards an answer, evaluated like any other: a data set knows the truth and no target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass, replace

import torch
from torch import Tensor

from medrobust.attacks.attack import BatchAttack
from medrobust.attacks.protocols import Attack, Needs, needs_of, to_prepare
from medrobust.attacks.result import AttackResult
from medrobust.attacks.targets import Target
from medrobust.errors import InputError
from medrobust.tasks import Segmentation
from medrobust.threat import Threat
from medrobust.victim import Victim


@dataclass(frozen=True)
class Towards(BatchAttack):
    """An attack towards an answer made of the truth. To whoever runs it, it takes the truth like an untargeted one.

    Its result tells of the wanted mask: `loss` is against it, and `success` whether it is reached; see the target.

    Args:
        attack: has an option `targeted`, which is set.
        target: `EmptyMask`, `ShiftedMask`, `MaskFile` or one of the user's.

    Raises:
        InputError: the attack cannot be targeted, or is one change for a whole data set, which has no target.
    """

    attack: Attack
    target: Target

    def __post_init__(self) -> None:
        if to_prepare(self.attack):
            raise InputError(f"{type(self.attack).__name__} sees the whole data set first, which has no targets")
        if getattr(self.attack, "targeted", False):
            return
        options: list[str] = [option.name for option in fields(self.attack)] if is_dataclass(self.attack) else []
        if "targeted" not in options:
            raise InputError(f"{type(self.attack).__name__} cannot be targeted")
        object.__setattr__(self, "attack", replace(self.attack, targeted=True))  # type: ignore[type-var]

    @property
    def targeted(self) -> bool:
        """False: it is given the truth."""
        return False

    @property
    def needs(self) -> Needs:
        """What the attack needs."""
        return needs_of(self.attack)

    def describe(self) -> dict[str, object]:
        """Those of the attack, with the target; the name tells them apart from the attack on the truth."""
        inner = self.attack.describe()
        return {**inner, "attack": f"{inner.get('attack')} towards a mask", "target": self.target.describe()}

    def attack_batch(
        self, victim: Victim, images: Tensor, truth: Tensor, threat: Threat, seed: int, ids: Sequence[object] | None
    ) -> AttackResult:
        """Make the target, and go there. A region of the threat is that of the truth, not of the target.

        Raises:
            InputError: the task has no masks, the target cannot be made, or the threat moves the truth along.
        """
        task = victim.task
        if not isinstance(task, Segmentation):
            raise InputError(f"a target of masks is for segmentation, got a task of {task.name}")
        if threat.moves_truth:
            raise InputError("a deformation moves the truth along: it cannot be attacked towards a chosen mask")
        task.check_truth(truth)
        threat = threat.for_truth(truth, images, task.classes)
        wanted = self.target.of(task, truth, ids)
        result = self.attack(victim, images, wanted, threat, seed, ids)
        if not len(images):
            return result
        truth, wanted = truth.to(result.outputs.device), wanted.to(result.outputs.device)
        with torch.no_grad():
            reached = self.target.reached(task, result.outputs, truth, wanted)
        return replace(result, success=reached)
